// norm = √Σ partials; clip = [min(1, max_norm / (norm + 1e-6)), norm].
#import shared/tree

struct Params {
    count: u32,
    max_norm: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
    var sum = 0.0;
    for (var i = index; i < p.count; i += 256u) {
        sum += partials[i];
    }
    sum = tree_sum(index, sum);
    if index == 0u {
        let norm = sqrt(sum);
        let factor = p.max_norm / (norm + 1e-6);
        // Written so that a NaN norm gives a NaN factor.
        clip[0] = select(factor, 1.0, factor > 1.0);
        clip[1] = norm;
    }
}
