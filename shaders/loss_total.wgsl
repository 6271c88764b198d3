// total = factor·Σ_n w(n) over the terms that take part: the flag is set, the target is not the ignored one.
// w is 1, or the weight of the target's class.
#import shared/tree

struct Params {
    count: u32,
    run: u32,
    flags_offset: u32,
    targets_offset: u32,
    ignored: u32,
    classes: u32,
    weights_offset: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

fn weight(n: u32) -> f32 {
    var takes_part = true;
#ifdef HAS_flags
    takes_part = (flags[p.flags_offset + n / p.run] & 1u) != 0u;
#endif
    var value = 1.0;
#ifdef HAS_targets
    let label = targets[p.targets_offset + n];
#ifdef IGNORING
    takes_part = takes_part && label != p.ignored;
#endif
#ifdef WEIGHTED
    value = class_weights[p.weights_offset + min(label, p.classes - 1u)];
#endif
#endif
    return select(0.0, value, takes_part);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sum = 0.0;
    for (var n = index; n < p.count; n += 256u) {
        sum += weight(n);
    }
    sum = tree_sum(index, sum);
    if index == 0u {
        total[0u] = p.factor * sum;
    }
}
