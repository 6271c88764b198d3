// A cell without a recurrent product over all steps: h(t+1) = a(t)⊙h(t) + c(t), a parallel scan
// over time (Blelloch 1990).
#import shared/scan

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
    for (var i = 0u; i < blocks; i++) {
        let block = block_of(i);
        let length = (block.steps + STRETCHES - 1u) / STRETCHES;
        let first = min(local.y * length, block.steps);
        let end = min(first + length, block.steps);
        var sum = vec2<f32>(1.0, 0.0);
        for (var s = first; s < end; s++) {
            let pair = step_pair(time_of(block, s), at);
            sum = vec2<f32>(pair.x * sum.x, pair.x * sum.y + pair.y);
        }
        pairs[local.y * UNITS + local.x] = sum;
        workgroupBarrier();
        // The last thread of the block before has written this one.
        storageBarrier();
        var h = states[state_index(0u, old_slot(time_of(block, 0u)), at)];
        for (var stretch = 0u; stretch < local.y; stretch++) {
            let pair = pairs[stretch * UNITS + local.x];
            h = pair.x * h + pair.y;
        }
        for (var s = first; s < end && inside; s++) {
            let t = time_of(block, s);
            let pair = step_pair(t, at);
            h = pair.x * h + pair.y;
            states[state_index(0u, new_slot(t), at)] = h;
        }
        storageBarrier();
        workgroupBarrier();
    }
}
