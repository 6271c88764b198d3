// All steps of a cell whose step is one phase, in one launch: see step_forward for the equations and
// shared/sequence for the cut. Two barriers a step: the old h is there, the sums are there.
#ifdef MATRICES
enable wgpu_cooperative_matrix;
#endif
#import shared/activations
#import shared/step
#import shared/states
#import shared/cell
#import shared/forward

#import shared/forward_terms

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
#for E in #{EACH}
    let own_#{E} = own_of(group, index + #{E}u * THREADS);
#ifdef SEVERAL
    var kept_states_#{E} = array<f32, STATES>();
    var kept_words_#{E} = array<f32, SAVED>();
    var kept_flags_#{E} = VALID;
#endif
    // What the step behind the one at hand reads, under way a whole step before.
    var ahead_#{E} = array<f32, SAVED>();
    var flags_ahead_#{E} = VALID;
#end
#paste shared/sequence_weights
    // Padding is multiplied with weights of 0.
    for (var i = index; i < TILE; i += THREADS) {
        h_tile[i] = TERM_0;
    }
#for E in #{EACH}
    if own_#{E}.there {
        for (var state = 0u; state < STATES; state++) {
            held_states[state] = states[state_index(state, p.old_slot, own_#{E}.at)];
        }
        for (var gate = 0u; gate < GATES; gate++) {
            ahead_#{E}[gate] = gates[gate_index(p.t, gate, own_#{E}.at)];
        }
        flags_ahead_#{E} = flags_of(p.t, own_#{E}.at.row);
#ifdef SEVERAL
        kept_states_#{E} = held_states;
#endif
    }
#end
    let stride = p.new_slot - p.old_slot;
    workgroupBarrier();
    for (var s = 0u; s < given.count; s++) {
#for E in #{EACH}
        if own_#{E}.there {
            let own = own_#{E};
            let at = own.at;
            held_flags = flags_ahead_#{E};
#ifdef SEVERAL
            held_states = kept_states_#{E};
            kept_words_#{E} = ahead_#{E};
            kept_flags_#{E} = held_flags;
#else
            held_words = ahead_#{E};
#endif
            let h = old_state(0u, at);
            for (var mask = 0u; mask < SOURCES; mask++) {
                var value = h;
#ifdef HAS_hidden_mask
                value *= hidden_mask[(mask * p.batch + at.row) * p.width + at.unit];
#endif
                put_term(mask, own.tile, value);
            }
            if s + 1u < given.count {
                for (var gate = 0u; gate < GATES; gate++) {
                    ahead_#{E}[gate] = gates[gate_index(p.t + stride, gate, at)];
                }
                flags_ahead_#{E} = flags_of(p.t + stride, at.row);
            }
        }
#end
        workgroupBarrier();
#paste shared/sequence_products
        workgroupBarrier();
#for E in #{EACH}
        if own_#{E}.there {
            let own = own_#{E};
            here = own.at.unit;
#ifdef SEVERAL
            held_states = kept_states_#{E};
            held_words = kept_words_#{E};
            held_flags = kept_flags_#{E};
#endif
            settle(own.at, spread_gates(added(own.row, own.place)));
#ifdef SEVERAL
            kept_states_#{E} = held_states;
#endif
        }
#end
        p.t += stride;
        p.old_slot += stride;
        p.new_slot += stride;
    }
}
