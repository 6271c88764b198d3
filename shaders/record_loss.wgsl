// ring[(step − 1) mod R] = scale·Σ_n losses[first + n]; HAS_total: divided by the total, or 0 where that is 0.
// ACCUMULATE adds to what the entry holds.
#import shared/control
#import shared/tree

struct Params {
    count: u32,
    ring: u32,
    scale: f32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sum = 0.0;
    for (var n = index; n < p.count; n += 256u) {
        sum += losses[p.first + n];
    }
    sum = tree_sum(index, sum);
    if index == 0u {
#ifdef HAS_total
        let count = total[0u];
        sum = select(0.0, sum / count, count > 0.0);
#endif
        let slot = (max(control[CONTROL_STEP], 1u) - 1u) % p.ring;
        var value = sum * p.scale;
#ifdef ACCUMULATE
        value += ring[slot];
#endif
        ring[slot] = value;
    }
}
