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

// g behind the block that is next.
var<workgroup> carried: array<f32, UNITS>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let thread = thread_of(group_number(group, groups), local);
    let at = thread.at;
    let blocks = block_count();
    if local.y == 0u {
        carried[local.x] = carry[carry_index(0u, at)];
    }
    for (var i = 0u; i < blocks; i++) {
        let block = block_of(blocks - 1u - i);
        // Stretch 0 is the last one in time. Steps are counted from the block's end.
        let steps = stretch_of(block, local.y);
        // g before step s from g after it: a·(g + d_output).
        var sum = vec2<f32>(1.0, 0.0);
        for (var back = steps.x; back < steps.y; back++) {
            let t = time_of(block, block.steps - 1u - back);
            let a = step_pair(t, at).x;
            sum = vec2<f32>(a * sum.x, a * (sum.y + d_out(t, at)));
        }
        pairs[local.y * UNITS + local.x] = sum;
        workgroupBarrier();
        var g = after_stretches(carried[local.x], local);
        workgroupBarrier();
        for (var back = steps.x; back < steps.y && thread.inside; back++) {
            let t = time_of(block, block.steps - 1u - back);
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
        // The thread that had the block's first step hands g on.
        if steps.x < steps.y && steps.y == block.steps {
            carried[local.x] = g;
        }
        workgroupBarrier();
    }
    if thread.inside && local.y == 0u {
        d_initial[carry_index(0u, at)] = carried[local.x];
    }
}
