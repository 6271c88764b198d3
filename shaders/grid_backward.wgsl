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

// Units whose terms share an element of the tile.
#ifdef MATRICES
const UNITS_AT_ONCE = 2u;
#else
const UNITS_AT_ONCE = 1u;
#endif

#ifndef REST
// Gradients of the recurrent products that the later step handed over.
#ifdef PAIRED
const PUTS_ALL = ALL_IN_TILE;
#else
const PUTS_ALL = false;
#endif
#ifdef BY_GATE
fn put_handed(row_group: u32, place: Place, word: u32) {
    d_tile[place.row * (WIDTH / 2u) + place.word] = vec2<f16>(values_of(word));
}
#else
fn put_handed(
    row_group: u32,
    place: Place,
#for G in #{READ_GATES}
    word_#{G}: u32,
#end
) {
#ifdef PAIRED
#for G in #{READ_GATES}
    d_tile[#{G}u * (MASK / 2u) + place.row * (WIDTH / 2u) + place.word] = vec2<f16>(values_of(word_#{G}));
#end
#else
    put_terms(place.row * WIDTH + place.unit, Sum(#{HANDED_GATES}));
#endif
}
#endif
#endif

#ifdef REST
#ifdef BY_GATE
// The gradient of the recurrent product of a gate of the later step, in the saved block `block`, of all units of the
// workgroup's rows: one gate after another takes the tile.
fn read_gate(group: vec3<u32>, index: u32, block: u32) {
    if p.later == NONE {
        return;
    }
    let places = (p.head + 1u) / 2u;
    for (var i = index; i < ROWS * places; i += THREADS) {
        let row = i / places;
        let at = At(group.y * ROWS + row, i % places * 2u);
        if at.row >= p.batch {
            break;
        }
        let from_at = gate_index(p.later, block, at);
        let last = at.unit + 1u == p.head;
        let next = select(gates[from_at + u32(!last)], 0.0, last);
        d_tile[(row * WIDTH + at.unit) / 2u] = vec2<f16>(vec2<f32>(gates[from_at], next));
    }
}
#else
// The gradients of the recurrent products of the later step, of all units of the workgroup's rows.
fn read_gradients(group: vec3<u32>, index: u32) {
    if p.later == NONE {
        return;
    }
    let places = (p.head + UNITS_AT_ONCE - 1u) / UNITS_AT_ONCE;
    for (var i = index; i < ROWS * places; i += THREADS) {
        let row = i / places;
        let at = At(group.y * ROWS + row, i % places * UNITS_AT_ONCE);
        if at.row >= p.batch {
            break;
        }
        let left = Sum(#{LEFT_GATES});
#ifdef MATRICES
        var next = Sum();
        if at.unit + 1u < p.head {
            let at = At(at.row, at.unit + 1u);
            next = Sum(#{LEFT_GATES});
        }
        put_terms(row * WIDTH + at.unit, left, next);
#else
        put_terms(row * WIDTH + at.unit, left);
#endif
    }
}
#endif
#endif

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
#ifdef MATRICES
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#else
    @builtin(local_invocation_index) index: u32,
#endif
) {
#ifdef MATRICES
    // Neighbours in a subgroup are neighbours.
    let index = subgroup * LANES + lane;
#endif
    p = given;
#paste shared/sequence_share
#ifdef SEVERAL
#for E in #{EACH}
    var kept_states_#{E} = array<f32, STATES>();
    var kept_words_#{E} = array<f32, SAVED>();
    var kept_carry_#{E} = array<f32, STATES>();
    var kept_output_#{E} = f32();
#end
#endif
#ifndef REST
#paste shared/sequence_weights
#endif
    // Padding is multiplied with weights of 0, and before the last step there is nothing.
    for (var i = index; i < TILE / UNITS_AT_ONCE; i += THREADS) {
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
        read_gradients(group, index);
#endif
        for (var tile = 0u; tile < TILES; tile++) {
            if workgroupUniformLoad(&made[tile]) > s {
                continue;
            }
            let group = vec3<u32>(tile, group.y, group.z);
#paste shared/grid_carry
#paste shared/grid_backward_own
#ifdef BY_GATE
#paste shared/gate_products
#else
            workgroupBarrier();
#paste shared/sequence_products
#endif
            workgroupBarrier();
#paste shared/grid_backward_step
#paste shared/grid_leave
        }
    }
#else
    start_in_time(index);
    at_step(0u);
    for (var turn = 0u; turn < TURNS; turn++) {
        let group = vec3<u32>(group.x, group.y * TURNS + turn, group.z);
#for E in #{EACH}
        {
            let own = own_of(group, index + #{E}u * THREADS);
#for G in #{LEFT_GATES_LIST}
            {
                var left = 0.0;
                if own.there && p.later != NONE {
                    left = gates[gate_index(p.later, #{LEFT_BLOCK_#{G}}u, own.at)];
                }
                hand_over(group.y, 0u, #{G}u, own, left);
            }
#end
        }
#end
    }
    var left_at = given.count + TAIL;
    var left_turn = 0u;
#ifndef TAKES_TURNS
#paste shared/grid_carry
#endif
    for (var s = 0u; s < left_at; s++) {
        at_step(s);
        for (var turn = 0u; turn < TURNS; turn++) {
            let group = vec3<u32>(group.x, group.y * TURNS + turn, group.z);
            if group.y * ROWS >= given.batch {
                break;
            }
#ifdef TAKES_TURNS
#paste shared/grid_carry
#endif
#paste shared/grid_backward_own
#ifdef BY_GATE
#paste shared/gate_products
#else
            read_handed(group.y, s, index);
#endif
            if s % FENCE == 0u {
                storageBarrier();
            }
            if workgroupUniformLoad(&late) != 0u {
                left_at = s;
                left_turn = turn;
                break;
            }
#ifndef BY_GATE
#paste shared/sequence_products
            workgroupBarrier();
#endif
#paste shared/grid_backward_step
#ifdef TAKES_TURNS
#paste shared/grid_leave
#endif
        }
    }
    tell(group, left_at, left_turn, index);
#ifndef TAKES_TURNS
#paste shared/grid_leave
#endif
#endif
}
