// All backward steps of a cell whose step is one phase, in one launch: see step_backward for the
// equations and shared/sequence for the cut. Two barriers a step: the gate gradients of the later step
// are there, the sums are there. INITIAL: what is left after them is the initial states' gradient.
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

// The gradient of the recurrent products of a unit, as the step left it.
fn left() -> Sum {
    return Sum(#{LEFT});
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
#for E in #{EACH}
    let own_#{E} = own_of(group, index + #{E}u * THREADS);
#ifdef SEVERAL
    var kept_states_#{E} = array<f32, STATES>();
    var kept_words_#{E} = array<f32, SAVED>();
    var kept_carry_#{E} = array<f32, STATES>();
    var kept_output_#{E} = f32();
#endif
#end
#paste shared/sequence_weights
    // Padding is multiplied with weights of 0, and before the last step there is nothing.
    for (var i = index; i < TILE; i += THREADS) {
        d_tile[i] = TERM_0;
    }
    workgroupBarrier();
#for E in #{EACH}
    {
        let own = own_#{E};
#paste shared/read_carry
        if own.there && p.later != NONE {
            for (var block = 0u; block < SAVED; block++) {
                held_words[block] = gates[gate_index(p.later, block, own.at)];
            }
            put_terms(own.tile, left());
        }
#ifdef SEVERAL
        kept_carry_#{E} = held_carry;
#endif
    }
#end
    let stride = p.new_slot - p.old_slot;
    for (var s = 0u; s < given.count + TAIL; s++) {
#for E in #{EACH}
        {
            let own = own_#{E};
            let at = own.at;
#paste shared/read_step
#paste shared/keep_step
        }
#end
        workgroupBarrier();
#paste shared/sequence_products
        workgroupBarrier();
#for E in #{EACH}
        if own_#{E}.there {
            let own = own_#{E};
            let at = own.at;
            here = at.unit;
#ifdef HAS_d_unit
            here_row = at.row;
#endif
#paste shared/kept_step
#paste shared/total_gradient
            if s < given.count {
                settle(at, total);
                put_terms(own.tile, left());
            } else {
                held_carry[0] = total;
            }
#ifdef SEVERAL
            kept_carry_#{E} = held_carry;
#endif
        }
#end
        p.later = p.t;
        p.t -= stride;
        p.old_slot -= stride;
        p.new_slot -= stride;
    }
#for E in #{EACH}
    {
        let own = own_#{E};
#ifdef SEVERAL
        held_carry = kept_carry_#{E};
#endif
#paste shared/write_carry
    }
#end
}
