// A value that is handed over, as its buffer keeps it: the bits of f32.
fn bits_of(value: f32) -> u32 {
    return bitcast<u32>(value);
}

fn value_of_bits(bits: u32) -> f32 {
    return bitcast<f32>(bits);
}
