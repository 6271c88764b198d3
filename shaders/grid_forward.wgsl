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

// h under each mask, as the step of a row hears it.
fn put_h(tile: u32, at: At, value: f32) {
    let h = select(value, 0.0, has_flag(p.t, at.row, RESET));
    for (var mask = 0u; mask < SOURCES; mask++) {
        var term = h;
#ifdef HAS_hidden_mask
        term *= hidden_mask[(mask * p.batch + at.row) * p.width + at.unit];
#endif
        put_term(mask, tile, term);
    }
}

#ifndef REST
// h that the step before handed over.
#ifdef PAIRED
fn put_handed(row_group: u32, place: Place, word: u32) {
    let h = values_of(word);
    let row = row_group * ROWS + place.row;
    let tile = place.row * WIDTH + place.unit;
    put_h(tile, At(row, place.unit), h.x);
    if place.unit + 1u < p.head {
        put_h(tile + 1u, At(row, place.unit + 1u), h.y);
    }
}
#else
fn put_handed(row_group: u32, place: Place, word: u32) {
    put_h(place.row * WIDTH + place.unit, At(row_group * ROWS + place.row, place.unit), value_of(word));
}
#endif
#endif

// The old h of all units of the workgroup's rows, from before the launch.
fn read_h(group: vec3<u32>, index: u32) {
    for (var i = index; i < ROWS * p.head; i += THREADS) {
        let row = i / p.head;
        let at = At(group.y * ROWS + row, i % p.head);
        if at.row >= p.batch {
            break;
        }
        put_h(row * WIDTH + at.unit, at, states[state_index(0u, p.old_slot, at)]);
    }
}

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
    var kept_states_#{E}: array<f32, STATES>;
    var kept_words_#{E}: array<f32, SAVED>;
#end
#endif
#ifndef REST
#paste shared/sequence_weights
#endif
    // Padding is multiplied with weights of 0.
    for (var i = index; i < TILE; i += THREADS) {
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
            if s == 0u {
                read_h(group, index);
            } else {
                read_handed(group.y, s - 1u, index);
            }
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
