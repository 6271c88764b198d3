// What a time step's backward kernels share: the weights, and what becomes of the gradient of h.
const MASKS = #{MASKS}u;

#import shared/recurrent_block

#ifdef HAS_w
fn weight_index(gate: u32, k: u32, column: u32) -> u32 {
    return p.w_offset + (gate * p.hidden + k) * p.depth + column;
}

fn weight(gate: u32, k: u32, column: u32) -> f32 {
    return w[weight_index(gate, k, column)];
}
#endif

// What the mask of the recurrent dropout makes of dh, where all gates share one: applied once, behind the sum, so
// that no compiler has a factor to take out.
fn all_masked(row: u32, unit: u32, value: f32) -> f32 {
#ifdef HAS_hidden_mask
#ifndef PHASE_CANDIDATE
    if MASKS == 1u {
        return value * hidden_mask[row * p.width + unit];
    }
#endif
#endif
    return value;
}

// What gate `gate`'s own mask makes of its share of dh.
fn masked(gate: u32, row: u32, unit: u32, value: f32) -> f32 {
#ifdef HAS_hidden_mask
#ifndef PHASE_CANDIDATE
    if MASKS > 1u {
        return value * hidden_mask[(gate * p.batch + row) * p.width + unit];
    }
#endif
#endif
    return value;
}

#ifdef COMPLETE_DH
// The gradient of h behind the step but for that of the output; `heard`: `product` is of a step that
// came after. What reached the old state through the product of a step that was reset is not its own.
fn passed(at: At, product: f32, heard: bool) -> f32 {
    var sum = product;
    if heard {
        sum = select(sum, 0.0, has_flag(p.later, at.row, RESET));
    }
    return sum + carry_of(0u, at);
}

fn output_gradient(at: At) -> f32 {
#ifdef HAS_d_output
#ifdef SEQUENCE
    return held_output;
#else
    return d_output[p.d_output_offset + (p.t * p.batch + at.row) * p.width + at.unit];
#endif
#else
    return 0.0;
#endif
}
#endif

#ifdef PHASE_CELL
fn settle(at: At, total: f32) {
    let d = split(0u, at, total + output_gradient(at));
    if has_flag(p.t, at.row, VALID) {
        backward_cell(at, d);
    } else {
        drop_cell(at, d);
    }
}
#endif
