// All steps of a cell whose step is one phase, in one launch: see step_forward for the equations and
// shared/sequence for the cut. Two barriers a step: the old h is there, the sums are there.
#import shared/activations
#import shared/step
#import shared/states
#import shared/cell
#import shared/forward

#import shared/forward_terms

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
#import shared/sequence_weights
    // Padding is multiplied with weights of 0.
    for (var i = index; i < SOURCES * MASK; i += THREADS) {
        h_tile[i] = 0.0;
    }
    if own.there {
        for (var state = 0u; state < STATES; state++) {
            held_states[state] = states[state_index(state, p.old_slot, at)];
        }
    }
    let stride = p.new_slot - p.old_slot;
    workgroupBarrier();
    for (var s = 0u; s < given.count; s++) {
        if own.there {
            let h = old_state(0u, at);
            for (var mask = 0u; mask < SOURCES; mask++) {
                var value = h;
#ifdef HAS_hidden_mask
                value *= hidden_mask[(mask * p.batch + at.row) * p.width + at.unit];
#endif
                h_tile[mask * MASK + own.tile] = value;
            }
            // Under way while the products are summed.
            for (var gate = 0u; gate < GATES; gate++) {
                held_words[gate] = gates[gate_index(p.t, gate, at)];
            }
        }
        workgroupBarrier();
#import shared/sequence_products
        workgroupBarrier();
        if own.there {
            settle(at, spread_gates(added(own.row, index % UNITS)));
        }
        p.t += stride;
        p.old_slot += stride;
        p.new_slot += stride;
    }
}
