// What a thread of a sequence kernel keeps of its unit from step to step, each value as its buffer would
// give it back.
var<private> held_states: array<f32, STATES>;
var<private> held_words: array<f32, SAVED>;
#ifdef BACKWARD
var<private> held_carry: array<f32, STATES>;
var<private> held_output: f32;
#endif

fn stored_state(value: f32) -> f32 {
#ifdef SHORT_STATES
    return f32(f16(value));
#else
    return value;
#endif
}

fn stored_word(value: f32) -> f32 {
#ifdef SHORT_GATES
    return f32(f16(value));
#else
    return value;
#endif
}
