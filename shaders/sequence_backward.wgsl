// All backward steps of a cell whose step is one phase, in one launch: see step_backward for the
// equations and shared/sequence for the cut. Two barriers a step: the gate gradients of the later step
// are there, the sums are there. INITIAL: what is left after them is the initial states' gradient.
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
    @builtin(local_invocation_index) index: u32,
) {
    p = given;
    let own = own_of(group, index);
    let share = share_of(index);
    let at = own.at;
    here = at.unit;
#ifdef HAS_d_unit
    here_row = at.row;
#endif
#import shared/sequence_weights
    // Padding is multiplied with weights of 0, and before the last step there is nothing.
    for (var i = index; i < TILE; i += THREADS) {
        d_tile[i] = Sum();
    }
    workgroupBarrier();
#import shared/read_carry
    if own.there && p.later != NONE {
        for (var block = 0u; block < SAVED; block++) {
            held_words[block] = gates[gate_index(p.later, block, at)];
        }
        d_tile[own.tile] = left();
    }
    let stride = p.new_slot - p.old_slot;
    for (var s = 0u; s < given.count + TAIL; s++) {
#import shared/read_step
        workgroupBarrier();
#import shared/sequence_products
        workgroupBarrier();
        if own.there {
#import shared/total_gradient
            if s < given.count {
                settle(at, total);
                d_tile[own.tile] = left();
            } else {
                held_carry[0] = total;
            }
        }
        p.later = p.t;
        p.t -= stride;
        p.old_slot -= stride;
        p.new_slot -= stride;
    }
#import shared/write_carry
}
