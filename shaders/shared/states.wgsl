// The states as a step sees them. Reading: a reset leaves 0. Writing, forward only: zoneout between
// the old state and the candidate.
fn old_state(state: u32, at: At) -> f32 {
#ifdef SEQUENCE
    let value = held_states[state];
#else
    let value = states[state_index(state, p.old_slot, at)];
#endif
    return select(value, 0.0, has_flag(p.t, at.row, RESET));
}

#ifndef READS_STATES
fn set_state(state: u32, at: At, candidate: f32) {
    var value = candidate;
#ifdef ZONEOUT
    let z = zone(p.t, state, at);
    value = z * old_state(state, at) + (1.0 - z) * candidate;
#endif
    put_state(state, at, value);
}

// A row that is not valid keeps its state.
fn keep_state(state: u32, at: At) {
    put_state(state, at, old_state(state, at));
}

fn put_state(state: u32, at: At, value: f32) {
    states[state_index(state, p.new_slot, at)] = value;
#ifdef SEQUENCE
    held_states[state] = stored_state(value);
#endif
}
#endif
