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
#import shared/sequence

#ifdef INITIAL
const TAIL = 1u;
#else
const TAIL = 0u;
#endif
const TILE = ROWS * WIDTH;
var<workgroup> d_tile: array<Sum, TILE>;        // [row][head, term], the gates side by side

// The weights of the terms that the gate gradients of unit `k` of the head give to `unit`.
fn weights_of(place: Place, k: u32) -> Sum {
    var value: Sum;
    if place.is_unit && k < p.head {
        let column = place.unit % p.head;
        value = weights(place.unit - column + k, column);
    }
    return value;
}

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
    let place = place_of(group, index);
    let unit = place.unit;
    let row = place.row;
    let at = At(row, unit);
    let owns = place.owns;
    here = unit;
#ifdef HAS_d_unit
    here_row = row;
#endif
    let first_k = place.slice * PLACES;
    let from_k = place.terms + first_k;
#for Q in #{QUADS}
#for I in 0 1 2 3
    let w_#{Q}_#{I} = weights_of(place, first_k + #{Q}u * 4u + #{I}u);
#end
#end
    // Padding is multiplied with weights of 0, and before the last step there is nothing.
    for (var i = index; i < TILE; i += THREADS) {
        d_tile[i] = Sum();
    }
    workgroupBarrier();
    if owns {
        for (var state = 0u; state < STATES; state++) {
            held_carry[state] = carry[carry_index(state, at)];
        }
        if p.later != NONE {
            for (var block = 0u; block < SAVED; block++) {
                held_words[block] = gates[gate_index(p.later, block, at)];
            }
            d_tile[place.own] = left();
        }
    }
    let stride = p.new_slot - p.old_slot;
    for (var s = 0u; s < given.count + TAIL; s++) {
        if owns && s < given.count {
            // Under way while the products are summed.
            for (var block = 0u; block < SAVED; block++) {
                held_words[block] = gates[gate_index(p.t, block, at)];
            }
            for (var state = 0u; state < STATES; state++) {
                held_states[state] = states[state_index(state, p.old_slot, at)];
            }
#ifdef HAS_d_output
            held_output = d_output[p.d_output_offset + (p.t * p.batch + row) * p.width + unit];
#endif
        }
        workgroupBarrier();
#for R in #{ROWS}
        var sum_#{R}: Sum;
#end
#for Q in #{QUADS}
#for R in #{ROWS}
#for I in 0 1 2 3
        sum_#{R} += d_tile[#{R}u * WIDTH + from_k + #{Q}u * 4u + #{I}u] * w_#{Q}_#{I};
#end
#end
#end
        for (var k = PINNED; k < PLACES; k++) {
            let w = weights_of(place, first_k + k);
#for R in #{ROWS}
            sum_#{R} += d_tile[#{R}u * WIDTH + from_k + k] * w;
#end
        }
#for R in #{ROWS}
        parts[(#{R}u * SLICES + place.slice) * UNITS + index % UNITS] = sum_#{R};
#end
        workgroupBarrier();
        if owns {
            let shares = spread_gates(added(place.slice, index % UNITS));
            var product = 0.0;
            for (var gate = 0u; gate < PRODUCTS; gate++) {
                product += masked(gate, row, unit, shares[gate]);
            }
            let total = passed(at, product, p.later != NONE);
            if s < given.count {
                settle(at, total);
                d_tile[place.own] = left();
            } else {
                held_carry[0] = total;
            }
        }
        p.later = p.t;
        p.t -= stride;
        p.old_slot -= stride;
        p.new_slot -= stride;
    }
    if owns {
        for (var state = 0u; state < STATES; state++) {
            carry[carry_index(state, at)] = held_carry[state];
        }
    }
}
