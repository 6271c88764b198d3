// Sum and maximum over the 256 threads of a workgroup, always in the same order.
var<workgroup> tree: array<f32, 256>;

fn tree_sum(index: u32, value: f32) -> f32 {
    tree[index] = value;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if index < half {
            tree[index] += tree[index + half];
        }
        workgroupBarrier();
    }
    let total = tree[0];
    workgroupBarrier();
    return total;
}

fn tree_max(index: u32, value: f32) -> f32 {
    tree[index] = value;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if index < half {
            tree[index] = max(tree[index], tree[index + half]);
        }
        workgroupBarrier();
    }
    let most = tree[0];
    workgroupBarrier();
    return most;
}
