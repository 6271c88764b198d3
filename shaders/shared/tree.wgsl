// Sum and maximum over LANES neighbouring threads of a workgroup of 256, or over all of them, always in
// the same order.
#ifdef LANES
const LANES = #{LANES}u;
#else
const LANES = 256u;
#endif
var<workgroup> tree: array<f32, 256>;

fn tree_sum(index: u32, value: f32) -> f32 {
    tree[index] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if index % LANES < half {
            tree[index] += tree[index + half];
        }
        workgroupBarrier();
    }
    let total = tree[index - index % LANES];
    workgroupBarrier();
    return total;
}

fn tree_max(index: u32, value: f32) -> f32 {
    tree[index] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if index % LANES < half {
            tree[index] = max(tree[index], tree[index + half]);
        }
        workgroupBarrier();
    }
    let most = tree[index - index % LANES];
    workgroupBarrier();
    return most;
}
