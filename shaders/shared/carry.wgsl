// States' gradients. `carry` holds what reaches a state from later steps past the product. Mask and
// zoneout split the whole of a new state's gradient between its candidate and the old state.
struct Split {
    candidate: f32,
    old: f32,
}

fn split(state: u32, at: At, total: f32) -> Split {
    if !has_flag(p.t, at.row, VALID) {
        return Split(0.0, total);
    }
    let z = zone(p.t, state, at);
    return Split((1.0 - z) * total, z * total);
}

fn carry_of(state: u32, at: At) -> f32 {
#ifdef SEQUENCE
    return held_carry[state];
#else
    return carry[carry_index(state, at)];
#endif
}

// The old state's gradient; a reset lets nothing through.
fn set_carry(state: u32, at: At, value: f32) {
    let passed = select(value, 0.0, has_flag(p.t, at.row, RESET));
#ifdef SEQUENCE
    held_carry[state] = passed;
#else
    carry[carry_index(state, at)] = passed;
#endif
}
