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
// h that the step before handed over, of all units of the workgroup's rows. Several reads are under way at once. What
// is no unit, or no row, was handed over by none and is 0.
fn read_handed(group: vec3<u32>, index: u32, s: u32) {
    let begin_at = handed_from(group.y, s - 1u);
    for (var first = index; first < HANDED; first += 8u * THREADS) {
#for N in 0 1 2 3 4 5 6 7
        let h_#{N} = handed(begin_at + min(first + #{N}u * THREADS, HANDED - 1u));
#end
#for N in 0 1 2 3 4 5 6 7
        {
            let tile = first + #{N}u * THREADS;
            let at = At(group.y * ROWS + tile / WIDTH, tile % WIDTH);
            if tile < HANDED && at.row < p.batch && at.unit < p.head {
                put_h(tile, at, h_#{N});
            }
        }
#end
    }
}
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
#endif
    @builtin(local_invocation_index) index: u32,
) {
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
#paste shared/grid_forward_step
        }
    }
#else
    start_in_time(index);
    for (var s = 0u; s < given.count; s++) {
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
            if s == 0u {
                read_h(group, index);
            } else {
                read_handed(group, index, s);
            }
            let to = handed_from(group.y, s);
#paste shared/grid_forward_step
            tell(first + group.x, s + 1u, index);
        }
        if left {
            break;
        }
    }
#endif
}
