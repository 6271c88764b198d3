// sums[c] = Σ_r a[r,c]·b[r,c] (or of a alone), 16 columns a workgroup: 16 stretches of the rows, put
// together in their order. ACCUMULATE adds to the destination.
struct Params {
    rows: u32,
    columns: u32,
    a_offset: u32,
    a_stride: u32,
    b_offset: u32,
    b_stride: u32,
    target_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

var<workgroup> parts: array<f32, 256>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let column = group.x * 16u + local.x;
    var sum = 0.0;
    if column < p.columns {
        for (var row = local.y; row < p.rows; row += 16u) {
            var value = a[p.a_offset + row * p.a_stride + column];
#ifdef HAS_b
            value *= b[p.b_offset + row * p.b_stride + column];
#endif
            sum += value;
        }
    }
    parts[local.y * 16u + local.x] = sum;
    workgroupBarrier();
    if local.y > 0u || column >= p.columns {
        return;
    }
    sum = 0.0;
    for (var part = 0u; part < 16u; part++) {
        sum += parts[part * 16u + local.x];
    }
#ifdef ACCUMULATE
    sum += sums[p.target_offset + column];
#endif
    sums[p.target_offset + column] = sum;
}
