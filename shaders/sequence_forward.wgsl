// All steps of a cell whose step is one phase, in one launch: see step_forward for the equations and
// shared/sequence for the cut. Two barriers a step: the old h is there, the sums are there.
#import shared/activations
#import shared/step
#import shared/states
#import shared/cell
#import shared/forward

const MASK = ROWS * WIDTH;
var<workgroup> h_tile: array<f32, SOURCES * MASK>;      // [mask][row][head, term]

fn tile_term(at: u32, i: u32) -> f32 {
    return h_tile[at + i];
}
#import shared/gates_#{PRODUCTS}
#import shared/sequence

// The weights of term `k` of the unit's head, none beyond its terms.
fn weights_of(place: Place, k: u32) -> Sum {
    var value: Sum;
    if place.is_unit && k < p.head {
        value = weights(place.unit, k);
    }
    return value;
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
    let first_k = place.slice * PLACES;
    let from_k = place.terms + first_k;
#for Q in #{QUADS}
#for I in 0 1 2 3
    let w_#{Q}_#{I} = weights_of(place, first_k + #{Q}u * 4u + #{I}u);
#end
#end
    // Padding is multiplied with weights of 0.
    for (var i = index; i < SOURCES * MASK; i += THREADS) {
        h_tile[i] = 0.0;
    }
    if owns {
        for (var state = 0u; state < STATES; state++) {
            held_states[state] = states[state_index(state, p.old_slot, at)];
        }
    }
    let stride = p.new_slot - p.old_slot;
    workgroupBarrier();
    for (var s = 0u; s < given.count; s++) {
        if owns {
            let h = old_state(0u, at);
            for (var mask = 0u; mask < SOURCES; mask++) {
                var value = h;
#ifdef HAS_hidden_mask
                value *= hidden_mask[(mask * p.batch + row) * p.width + unit];
#endif
                h_tile[mask * MASK + place.own] = value;
            }
            // Under way while the products are summed.
            for (var gate = 0u; gate < GATES; gate++) {
                held_words[gate] = gates[gate_index(p.t, gate, at)];
            }
        }
        workgroupBarrier();
#for R in #{ROWS}
        var sum_#{R}: Sum;
#end
#for Q in #{QUADS}
#for R in #{ROWS}
#for I in 0 1 2 3
#ifdef PER_GATE
        sum_#{R} += tile_sources(#{R}u * WIDTH + from_k + #{Q}u * 4u, #{I}u) * w_#{Q}_#{I};
#else
        sum_#{R} += h_tile[#{R}u * WIDTH + from_k + #{Q}u * 4u + #{I}u] * w_#{Q}_#{I};
#endif
#end
#end
#end
        for (var k = PINNED; k < PLACES; k++) {
            let w = weights_of(place, first_k + k);
#for R in #{ROWS}
#ifdef PER_GATE
            sum_#{R} += tile_sources(#{R}u * WIDTH + from_k, k) * w;
#else
            sum_#{R} += h_tile[#{R}u * WIDTH + from_k + k] * w;
#endif
#end
        }
#for R in #{ROWS}
        parts[(#{R}u * SLICES + place.slice) * UNITS + index % UNITS] = sum_#{R};
#end
        workgroupBarrier();
        if owns {
            settle(at, spread_gates(added(place.slice, index % UNITS)));
        }
        p.t += stride;
        p.old_slot += stride;
        p.new_slot += stride;
    }
}
