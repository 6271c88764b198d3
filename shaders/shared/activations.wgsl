// Activations that neither overflow nor lose small values, and that pass NaN on.

// σ(x) = 1 / (1 + e^−x), with the exponential of −|x| only.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

// tanh(x): an odd polynomial under 0.625 (S. Moshier, Cephes, tanhf), beyond it
// 1 − 2 / (e^2|x| + 1). Past 10 the result is 1 in f32; the bound keeps e^2|x| finite.
fn tanh_stable(x: f32) -> f32 {
    let a = abs(x);
    let z = x * x;
    var p = -5.70498872745e-3;
    p = p * z + 2.06390887954e-2;
    p = p * z - 5.37397155531e-2;
    p = p * z + 1.33314422036e-1;
    p = p * z - 3.33332819422e-1;
    let small = p * z * x + x;
    let bounded = select(a, 10.0, a > 10.0);
    let large = 1.0 - 2.0 / (exp(2.0 * bounded) + 1.0);
    return select(select(large, -large, x < 0.0), small, a < 0.625);
}
