// All backward steps of a cell whose step is one phase, in one launch: see step_backward for the
// equations and shared/sequence for the cut. Two barriers a step: the gate gradients of the later step
// are there, the sums are there. INITIAL: what is left after them is the initial states' gradient.
#import shared/step
#import shared/states
#import shared/carry
#import shared/activations
#import shared/cell
#import shared/backward

const PRODUCTS = #{PRODUCTS}u;
#import shared/gates_#{PRODUCTS}
#ifdef HAS_hidden_mask
alias Part = Sum;
#else
alias Part = f32;
#endif
#import shared/sequence

#ifdef INITIAL
const TAIL = 1u;
#else
const TAIL = 0u;
#endif
const TILE = ROWS * WIDTH;
var<workgroup> d_tile: array<Sum, TILE>;        // [row][head, term], the gates side by side

// The weights with which the gate gradients of unit `k` of a head reach a place's unit.
fn weights_of(group: vec3<u32>, place: u32, k: u32) -> Sum {
    var value: Sum;
    if is_unit(group, place) && k < p.head {
        let unit = unit_of(group, place);
        value = weights(unit - unit % p.head + k, unit % p.head);
    }
    return value;
}

// The gradient of the recurrent products of a unit, as the step left it.
fn left() -> Sum {
    return Sum(#{LEFT});
}

fn term_of(at: u32, k: u32) -> Sum {
    return d_tile[at + k];
}

fn part_of(sum: Sum) -> Part {
#ifdef HAS_hidden_mask
    return sum;
#else
    let shares = spread_gates(sum);
    var part = shares[0];
    for (var gate = 1u; gate < PRODUCTS; gate++) {
        part += shares[gate];
    }
    return part;
#endif
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
    if own.there {
        for (var state = 0u; state < STATES; state++) {
            held_carry[state] = carry[carry_index(state, at)];
        }
        if p.later != NONE {
            for (var block = 0u; block < SAVED; block++) {
                held_words[block] = gates[gate_index(p.later, block, at)];
            }
            d_tile[own.tile] = left();
        }
    }
    let stride = p.new_slot - p.old_slot;
    for (var s = 0u; s < given.count + TAIL; s++) {
        if own.there && s < given.count {
            // Under way while the products are summed.
            for (var block = 0u; block < SAVED; block++) {
                held_words[block] = gates[gate_index(p.t, block, at)];
            }
            for (var state = 0u; state < STATES; state++) {
                held_states[state] = states[state_index(state, p.old_slot, at)];
            }
#ifdef HAS_d_output
            held_output = d_output[p.d_output_offset + (p.t * p.batch + at.row) * p.width + at.unit];
#endif
        }
        workgroupBarrier();
#import shared/sequence_products
        workgroupBarrier();
        if own.there {
#ifdef HAS_hidden_mask
            let shares = spread_gates(added(own.row, index % UNITS));
            var product = 0.0;
            for (var gate = 0u; gate < PRODUCTS; gate++) {
                product += masked(gate, at.row, at.unit, shares[gate]);
            }
#else
            let product = added(own.row, index % UNITS);
#endif
            let total = passed(at, product, p.later != NONE);
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
    if own.there {
        for (var state = 0u; state < STATES; state++) {
            carry[carry_index(state, at)] = held_carry[state];
        }
    }
}
