// flags[t,b]: bit 0 where the row takes part in step t (t < its length, and its mask isn't 0), bit 1
// where its states are reset before the step.
#import shared/group_number

struct Params {
    time: u32,
    batch: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = group_number(group, groups) * 256u + index;
    if i >= p.time * p.batch {
        return;
    }
    var valid = true;
#ifdef HAS_lengths
    valid = i / p.batch < lengths[i % p.batch];
#endif
#ifdef HAS_mask
    valid = valid && mask[i] != 0.0;
#endif
    var value = select(0u, 1u, valid);
#ifdef HAS_resets
    value |= select(0u, 2u, resets[i] != 0.0);
#endif
    flags[i] = value;
}
