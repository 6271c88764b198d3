// All steps of a cell whose step is one phase, by several workgroups: see step_forward for the equations,
// shared/sequence for the cut, shared/grid for how they wait for one another.
#ifdef MATRICES
enable wgpu_cooperative_matrix;
#endif
#import shared/activations
#import shared/step
#import shared/states
#import shared/cell
#import shared/forward
#import shared/forward_terms
#import shared/grid

// The step of the launch with that number.
fn at_step(s: u32) {
    let stride = given.new_slot - given.old_slot;
    p.t = given.t + s * stride;
    p.old_slot = given.old_slot + s * stride;
    p.new_slot = given.new_slot + s * stride;
}

// h under each mask, as the step of a row hears it; for matrices of a unit and the next.
#ifdef MATRICES
alias Heard = vec2<f32>;
const HEARD = 2u;
#else
alias Heard = f32;
const HEARD = 1u;
#endif
fn put_h(tile: u32, at: At, value: Heard) {
    let h = select(value, Heard(), has_flag(p.t, at.row, RESET));
    for (var mask = 0u; mask < SOURCES; mask++) {
        var term = h;
#ifdef HAS_hidden_mask
        let from_at = (mask * p.batch + at.row) * p.width + at.unit;
#ifdef MATRICES
        term *= vec2<f32>(hidden_mask[from_at], hidden_mask[next_of(from_at, at)]);
#else
        term *= hidden_mask[from_at];
#endif
#endif
        put_term(mask, tile, term);
    }
}
#ifdef MATRICES

// The place behind that of a unit, where there is one.
fn next_of(place: u32, at: At) -> u32 {
    return place + u32(at.unit + 1u < p.head);
}
#endif

#ifndef REST
// h that the step before handed over.
#ifdef PAIRED
#ifdef HEARD_AS_HANDED
const PUTS_ALL = ALL_IN_TILE;

fn put_handed(row_group: u32, place: Place, word: u32) {
    h_tile[place.row * (WIDTH / 2u) + place.word] = vec2<f16>(values_of(word));
}
#else
const PUTS_ALL = false;

fn put_handed(row_group: u32, place: Place, word: u32) {
    let at = At(row_group * ROWS + place.row, place.unit);
    put_h(place.row * WIDTH + place.unit, at, values_of(word));
}
#endif
#else
const PUTS_ALL = false;

fn put_handed(row_group: u32, place: Place, word: u32) {
    put_h(place.row * WIDTH + place.unit, At(row_group * ROWS + place.row, place.unit), value_of(word));
}
#endif
#endif

#ifdef REST
// The old h of all units of the rows.
fn read_h(group: vec3<u32>, index: u32) {
    let places = (p.head + HEARD - 1u) / HEARD;
    for (var i = index; i < ROWS * places; i += THREADS) {
        let row = i / places;
        let at = At(group.y * ROWS + row, i % places * HEARD);
        if at.row >= p.batch {
            break;
        }
        let from_at = state_index(0u, p.old_slot, at);
#ifdef MATRICES
        let next_at = next_of(from_at, at);
        let h = vec2<f32>(states[from_at], select(0.0, states[next_at], next_at > from_at));
#else
        let h = states[from_at];
#endif
        put_h(row * WIDTH + at.unit, at, h);
    }
}

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
#end
#endif
#ifndef REST
#paste shared/sequence_weights
#endif
    // Padding is multiplied with weights of 0.
    for (var i = index; i < TILE / HEARD; i += THREADS) {
        h_tile[i] = TERM_0;
    }
#ifdef REST
    let first = group.y * TILES;
    read_progress(first, index);
    for (var s = workgroupUniformLoad(&begin); s < given.count; s++) {
        at_step(s);
        storageBarrier();
        workgroupBarrier();
        read_h(group, index);
        for (var tile = 0u; tile < TILES; tile++) {
            if workgroupUniformLoad(&made[tile]) > s {
                continue;
            }
            let group = vec3<u32>(tile, group.y, group.z);
#paste shared/grid_forward_own
            workgroupBarrier();
#paste shared/grid_forward_step
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
            var h = 0.0;
            if own.there {
                h = states[state_index(0u, p.old_slot, own.at)];
            }
            hand_over(group.y, 0u, 0u, own, h);
        }
#end
    }
    var left_at = given.count;
    var left_turn = 0u;
    for (var s = 0u; s < left_at; s++) {
        at_step(s);
        for (var turn = 0u; turn < TURNS; turn++) {
            let group = vec3<u32>(group.x, group.y * TURNS + turn, group.z);
            if group.y * ROWS >= given.batch {
                break;
            }
#paste shared/grid_forward_own
            read_handed(group.y, s, index);
            if s % FENCE == 0u {
                storageBarrier();
            }
            if workgroupUniformLoad(&late) != 0u {
                left_at = s;
                left_turn = turn;
                break;
            }
#paste shared/grid_forward_step
        }
    }
    tell(group, left_at, left_turn, index);
#endif
}
