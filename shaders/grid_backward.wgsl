// All backward steps of a cell whose step is one phase, by several workgroups: see step_backward for the
// equations, shared/sequence for the cut, shared/grid for how they wait for one another. What they hand over is the
// gradients of the recurrent products.
#ifdef MATRICES
enable wgpu_cooperative_matrix;
#endif
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

#ifndef REST
// What was handed over from a place on, into the tile. Several reads are under way at once; what is no unit, or no row,
// was handed over by none and is 0.
#ifdef MATRICES
fn read_handed(begin_at: u32, index: u32) {
    for (var first = index; first < TILE; first += 8u * THREADS) {
#for N in 0 1 2 3 4 5 6 7
        let d_#{N} = handed(begin_at + min(first + #{N}u * THREADS, TILE - 1u));
#end
#for N in 0 1 2 3 4 5 6 7
        if first + #{N}u * THREADS < TILE {
            d_tile[first + #{N}u * THREADS] = f16(d_#{N});
        }
#end
    }
}
#else
fn handed_gates(at: u32) -> Sum {
    return Sum(#{HANDED_GATES});
}

fn read_handed(begin_at: u32, index: u32) {
    for (var first = index; first < TILE; first += 2u * THREADS) {
        let d_0 = handed_gates(begin_at + first);
        let d_1 = handed_gates(begin_at + min(first + THREADS, TILE - 1u));
        d_tile[first] = d_0;
        if first + THREADS < TILE {
            d_tile[first + THREADS] = d_1;
        }
    }
}
#endif
#endif

#ifdef BY_GATE
// The gradient of the recurrent product of gate `gate` of the later step, in the saved block `block`, of all units of the
// workgroup's rows: one gate after another takes the tile.
fn read_gate(group: vec3<u32>, index: u32, s: u32, gate: u32, block: u32) {
    if p.later == NONE {
        return;
    }
#ifndef REST
    if s > 0u {
        read_handed(handed_from(group.y, s - 1u) + gate * MASK, index);
        return;
    }
#endif
    for (var i = index; i < ROWS * p.head; i += THREADS) {
        let row = i / p.head;
        let at = At(group.y * ROWS + row, i % p.head);
        if at.row >= p.batch {
            break;
        }
        d_tile[row * WIDTH + at.unit] = f16(gates[gate_index(p.later, block, at)]);
    }
}
#else
// The gradients of the recurrent products of the later step, of all units of the workgroup's rows.
fn read_gradients(group: vec3<u32>, index: u32, s: u32) {
    if p.later == NONE {
        return;
    }
#ifndef REST
    if s > 0u {
        read_handed(handed_from(group.y, s - 1u), index);
        return;
    }
#endif
    for (var i = index; i < ROWS * p.head; i += THREADS) {
        let row = i / p.head;
        let at = At(group.y * ROWS + row, i % p.head);
        if at.row >= p.batch {
            break;
        }
        put_terms(row * WIDTH + at.unit, Sum(#{LEFT_GATES}));
    }
}
#endif

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
#ifdef MATRICES
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#endif
    @builtin(local_invocation_index) index: u32,
) {
    p = given;
#paste shared/sequence_share
#ifdef SEVERAL
#for E in #{EACH}
    var kept_states_#{E}: array<f32, STATES>;
    var kept_words_#{E}: array<f32, SAVED>;
    var kept_carry_#{E}: array<f32, STATES>;
    var kept_output_#{E}: f32;
#end
#endif
#ifndef REST
#paste shared/sequence_weights
#endif
    // Padding is multiplied with weights of 0, and before the last step there is nothing.
    for (var i = index; i < TILE; i += THREADS) {
        d_tile[i] = TERM_0;
    }
#ifdef REST
    let first = group.y * TILES;
    read_progress(first, index);
    for (var s = workgroupUniformLoad(&begin); s < given.count + TAIL; s++) {
        at_step(s);
        storageBarrier();
        workgroupBarrier();
#ifndef BY_GATE
        read_gradients(group, index, s);
#endif
        for (var tile = 0u; tile < TILES; tile++) {
            if workgroupUniformLoad(&made[tile]) > s {
                continue;
            }
            let group = vec3<u32>(tile, group.y, group.z);
#paste shared/grid_carry
#paste shared/grid_backward_step
#paste shared/grid_leave
        }
    }
#else
    start_in_time(index);
#ifndef TAKES_TURNS
#paste shared/grid_carry
#endif
    for (var s = 0u; s < given.count + TAIL; s++) {
        at_step(s);
        var left = false;
        for (var turn = 0u; turn < TURNS; turn++) {
            let group = vec3<u32>(group.x, group.y * TURNS + turn, group.z);
            if group.y * ROWS >= given.batch {
                break;
            }
            let first = group.y * TILES;
            wait(first, s, index);
            if workgroupUniformLoad(&is_late) != 0u {
                left = true;
                break;
            }
#ifndef BY_GATE
            read_gradients(group, index, s);
#endif
#ifdef TAKES_TURNS
#paste shared/grid_carry
#endif
            let to = handed_from(group.y, s);
#paste shared/grid_backward_step
#ifdef TAKES_TURNS
#paste shared/grid_leave
#endif
            tell(first + group.x, s + 1u, index);
        }
        if left {
            break;
        }
    }
#ifndef TAKES_TURNS
#paste shared/grid_leave
#endif
#endif
}
