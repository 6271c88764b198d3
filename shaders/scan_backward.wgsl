// The scan's derivative: the gradient of h goes back as g(t) = d_output(t−1) + a(t)⊙g(t+1), a scan
// as well. gates[t] holds the input products and receives their gradients; carry holds the final
// state's gradient and receives the initial one's.
#import shared/scan

fn d_out(t: u32, at: At) -> f32 {
#ifdef HAS_d_output
    return d_output[p.d_output_offset + (t * p.batch + at.row) * p.hidden + at.unit];
#else
    return 0.0;
#endif
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    // Stretch 0 is the last one in time. Steps are counted from the end.
    let thread = thread_of(group_number(group, groups), local);
    let at = thread.at;
    // g before step s from g after it: a·(g + d_output).
    var sum = vec2<f32>(1.0, 0.0);
    for (var back = thread.first; back < thread.end; back++) {
        let t = time_of(p.time - 1u - back);
        let a = step_pair(t, at).x;
        sum = vec2<f32>(a * sum.x, a * (sum.y + d_out(t, at)));
    }
    pairs[local.y * UNITS + local.x] = sum;
    workgroupBarrier();
    if !thread.inside {
        return;
    }
    var g = after_stretches(carry[carry_index(0u, at)], local);
    // Everyone has read the final gradient before the last stretch writes the initial one.
    let initial = thread.end == p.time && thread.first < thread.end;
    for (var back = thread.first; back < thread.end; back++) {
        let t = time_of(p.time - 1u - back);
        let total = g + d_out(t, at);
        let a = step_pair(t, at).x;
        g = a * total;
        var d = 0.0;
        if has_flag(t, at.row, VALID) {
            d = (1.0 - zone(t, 0u, at)) * total;
        }
        let kept = states[state_index(0u, old_slot(t), at)];
        let old = select(kept, 0.0, has_flag(t, at.row, RESET));
        var slopes = gate_gradients(inputs(t, at), old, d);
        for (var gate = 0u; gate < G_COUNT; gate++) {
            gates[gate_index(t, gate, at)] = select(0.0, slopes[gate], has_flag(t, at.row, VALID));
        }
    }
    if initial {
        d_initial[carry_index(0u, at)] = g;
    }
}
