// All backward steps of a cell whose step is one phase, by several workgroups: see step_backward for the
// equations, shared/sequence for the cut, shared/grid for how they wait for one another. What they hand over is the
// gradients of the recurrent products.
#import shared/step
#import shared/states
#import shared/carry
#import shared/activations
#import shared/cell
#import shared/backward
#import shared/backward_terms
#import shared/grid

// The step of the launch with that number.
fn at_step(s: u32) {
    let stride = given.new_slot - given.old_slot;
    p.t = given.t - s * stride;
    p.old_slot = given.old_slot - s * stride;
    p.new_slot = given.new_slot - s * stride;
    p.later = select(p.t + stride, given.later, s == 0u);
}

// The gradients of the recurrent products of the later step, of all units of the workgroup's rows.
fn read_gradients(group: vec3<u32>, index: u32) {
    if p.later == NONE {
        return;
    }
    for (var i = index; i < ROWS * p.head; i += THREADS) {
        let row = i / p.head;
        let at = At(group.y * ROWS + row, i % p.head);
        if at.row >= p.batch {
            break;
        }
        d_tile[row * WIDTH + at.unit] = Sum(#{LEFT_GATES});
    }
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    p = given;
    let share = share_of(index);
    let first = group.y * TILES;
    // Padding is multiplied with weights of 0, and before the last step there is nothing.
    for (var i = index; i < TILE; i += THREADS) {
        d_tile[i] = Sum();
    }
#ifdef REST
    read_progress(first, index);
    for (var s = workgroupUniformLoad(&begin); s < given.count + TAIL; s++) {
        at_step(s);
        storageBarrier();
        workgroupBarrier();
        read_gradients(group, index);
        for (var tile = 0u; tile < TILES; tile++) {
            if workgroupUniformLoad(&made[tile]) > s {
                continue;
            }
            let group = vec3<u32>(tile, group.y, group.z);
            let own = own_of(group, index);
#import shared/read_carry
#import shared/grid_backward_step
#import shared/write_carry
        }
    }
#else
    start_in_time(index);
    let own = own_of(group, index);
#import shared/read_carry
#import shared/sequence_weights
    for (var s = 0u; s < given.count + TAIL; s++) {
        at_step(s);
        wait(first, s, index);
        if workgroupUniformLoad(&is_late) != 0u {
            break;
        }
        read_gradients(group, index);
#import shared/grid_backward_step
        tell(first + group.x, s + 1u, index);
    }
#import shared/write_carry
#endif
}
