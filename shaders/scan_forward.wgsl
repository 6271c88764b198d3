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
    var sum = vec2<f32>(1.0, 0.0);
    for (var s = thread.first; s < thread.end; s++) {
        let pair = step_pair(time_of(s), at);
        sum = vec2<f32>(pair.x * sum.x, pair.x * sum.y + pair.y);
    }
    pairs[local.y * UNITS + local.x] = sum;
    workgroupBarrier();
    if !thread.inside {
        return;
    }
    var h = after_stretches(states[state_index(0u, old_slot(time_of(0u)), at)], local);
    for (var s = thread.first; s < thread.end; s++) {
        let t = time_of(s);
        let pair = step_pair(t, at);
        h = pair.x * h + pair.y;
        states[state_index(0u, new_slot(t), at)] = h;
    }
}
