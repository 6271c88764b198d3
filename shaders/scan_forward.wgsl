// A cell without a recurrent product over all steps: h(t+1) = a(t)⊙h(t) + c(t), a parallel scan
// over time (Blelloch 1990).
#import shared/scan

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let thread = thread_of(group_number(group, groups), local);
    let at = thread.at;
    let blocks = block_count();
    for (var i = 0u; i < blocks; i++) {
        let block = block_of(i);
        let steps = stretch_of(block, local.y);
        var sum = vec2<f32>(1.0, 0.0);
        for (var s = steps.x; s < steps.y; s++) {
            let pair = step_pair(time_of(block, s), at);
            sum = vec2<f32>(pair.x * sum.x, pair.x * sum.y + pair.y);
        }
        pairs[local.y * UNITS + local.x] = sum;
        workgroupBarrier();
        // The last thread of the block before has written this one.
        storageBarrier();
        let start = states[state_index(0u, old_slot(time_of(block, 0u)), at)];
        var h = after_stretches(start, local);
        for (var s = steps.x; s < steps.y && thread.inside; s++) {
            let t = time_of(block, s);
            let pair = step_pair(t, at);
            h = pair.x * h + pair.y;
            states[state_index(0u, new_slot(t), at)] = h;
        }
        storageBarrier();
        workgroupBarrier();
    }
}
