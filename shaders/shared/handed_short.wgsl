// A value that is handed over, as its buffer keeps it: the bits of f16. (Those of an f32 that was rounded to f16 are not the
// same: a driver may leave such a rounding out, and has to round what goes to memory.)
fn bits_of(value: f32) -> u32 {
    return pack2x16float(vec2<f32>(value, 0.0));
}

fn value_of_bits(bits: u32) -> f32 {
    return unpack2x16float(bits).x;
}
