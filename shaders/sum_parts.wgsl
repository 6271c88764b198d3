// sums[i] = Σ_j parts[j][i], part by part in order, the last first where descending: what a product that
// is cut along its terms leaves. ACCUMULATE starts with what the destination holds.
#import shared/group_number

struct Params {
    len: u32,
    parts: u32,
    target_offset: u32,
    descending: u32,
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
    if i >= p.len {
        return;
    }
    var sum = 0.0;
#ifdef ACCUMULATE
    sum = sums[p.target_offset + i];
#endif
    for (var j = 0u; j < p.parts; j++) {
        sum += parts[select(j, p.parts - 1u - j, p.descending == 1u) * p.len + i];
    }
    sums[p.target_offset + i] = sum;
}
