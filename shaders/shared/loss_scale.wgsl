// The state of dynamic loss scaling; kernel::LossScale has the same order. Zeros are its beginning.
const SCALE_EXPONENT = 0u;   // the scale is 2^(16 + exponent)
const SCALE_STREAK = 1u;     // updates since the scale changed
const SCALE_SKIPPED = 2u;    // steps whose gradients were not finite
const SCALE_CORRECTION_1 = 3u;   // 1 − β₁ⁿ after n updates
const SCALE_CORRECTION_2 = 4u;   // 1 − β₂ⁿ

// 2^n of a whole n within the exponents of normal numbers, exactly.
fn power_of_two(n: i32) -> f32 {
    return bitcast<f32>(u32(127 + n) << 23u);
}

fn scale_exponent() -> i32 {
    return #{FIRST_EXPONENT} + i32(loss_scale[SCALE_EXPONENT]);
}
