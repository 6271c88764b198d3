// Sums over the rows, 16 columns a workgroup, 16 stretches of rows put together in their order.
var<workgroup> parts: array<f32, 256>;

fn column_total(local: vec3<u32>, value: f32) -> f32 {
    workgroupBarrier();
    parts[local.y * 16u + local.x] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var part = 0u; part < 16u; part++) {
        sum += parts[part * 16u + local.x];
    }
    return sum;
}

fn is_valid(row: u32) -> bool {
#ifdef HAS_flags
    return (flags[row / p.places] & 1u) != 0u;
#else
    return true;
#endif
}
