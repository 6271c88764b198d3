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
    let tiles = (p.hidden + UNITS - 1u) / UNITS;
    let number = group_number(group, groups);
    let row = min(number / tiles, p.batch - 1u);
    let unit = min((number % tiles) * UNITS + local.x, p.hidden - 1u);
    let inside = number / tiles < p.batch && (number % tiles) * UNITS + local.x < p.hidden;
    let at = At(row, unit);
    let blocks = (p.time + BLOCK - 1u) / BLOCK;
    if local.y == 0u {
        carried[local.x] = carry[carry_index(0u, at)];
    }
    for (var i = 0u; i < blocks; i++) {
        let block = block_of(blocks - 1u - i);
        let length = (block.steps + STRETCHES - 1u) / STRETCHES;
        // Stretch 0 is the last one in time. Steps are counted from the block's end.
        let first = min(local.y * length, block.steps);
        let end = min(first + length, block.steps);
        // g before step s from g after it: a·(g + d_output).
        var sum = vec2<f32>(1.0, 0.0);
        for (var back = first; back < end; back++) {
            let t = time_of(block, block.steps - 1u - back);
            let a = step_pair(t, at).x;
            sum = vec2<f32>(a * sum.x, a * (sum.y + d_out(t, at)));
        }
        pairs[local.y * UNITS + local.x] = sum;
        workgroupBarrier();
        var g = carried[local.x];
        for (var stretch = 0u; stretch < local.y; stretch++) {
            let pair = pairs[stretch * UNITS + local.x];
            g = pair.x * g + pair.y;
        }
        workgroupBarrier();
        for (var back = first; back < end && inside; back++) {
            let t = time_of(block, block.steps - 1u - back);
            let total = g + d_out(t, at);
            let a = step_pair(t, at).x;
            g = a * total;
            var d = 0.0;
            if has_flag(t, row, VALID) {
                d = (1.0 - zone(t, 0u, at)) * total;
            }
            let kept = states[state_index(0u, old_slot(t), at)];
            let old = select(kept, 0.0, has_flag(t, row, RESET));
            var slopes = gate_gradients(inputs(t, at), old, d);
            for (var gate = 0u; gate < G_COUNT; gate++) {
                gates[gate_index(t, gate, at)] = select(0.0, slopes[gate], has_flag(t, row, VALID));
            }
        }
        // The thread that had the block's first step hands g on.
        if first < end && end == block.steps {
            carried[local.x] = g;
        }
        workgroupBarrier();
    }
    if inside && local.y == 0u {
        d_initial[carry_index(0u, at)] = carried[local.x];
    }
}
