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

// log σ(x) = min(x, 0) − log(1 + e^−|x|).
fn log_sigmoid(x: f32) -> f32 {
    return select(x, 0.0, x >= 0.0) - log_one_plus(exp(-abs(x)));
}

// log(1 + x) for x in [0, 1], without losing a small x.
fn log_one_plus(x: f32) -> f32 {
    // log(1 + x) = 2·artanh(s) with s = x/(2 + x) ≤ 1/3, an odd series.
    let s = x / (2.0 + x);
    let z = s * s;
    var p = 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    return 2.0 * s * (p * z + 1.0);
}

// e^x − 1 for x ≤ 0, without losing a small x: a Taylor series near 0.
fn exp_minus_one(x: f32) -> f32 {
    let near = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x / 720.0)))));
    return select(exp(x) - 1.0, near, abs(x) < 0.2);
}

// ONNX's activation functions. The slope is a function of the value y.

// max(0, a), NaN passed on.
fn act_relu(a: f32, alpha: f32, beta: f32) -> f32 {
    return select(a, 0.0, a <= 0.0);
}

fn slope_relu(y: f32, alpha: f32, beta: f32) -> f32 {
    return select(0.0, 1.0, y > 0.0);
}

// tanh a; the slope is 1 − y².
fn act_tanh(a: f32, alpha: f32, beta: f32) -> f32 {
    return tanh_stable(a);
}

fn slope_tanh(y: f32, alpha: f32, beta: f32) -> f32 {
    return 1.0 - y * y;
}

// σ(a); the slope is y(1 − y).
fn act_sigmoid(a: f32, alpha: f32, beta: f32) -> f32 {
    return sigmoid(a);
}

fn slope_sigmoid(y: f32, alpha: f32, beta: f32) -> f32 {
    return y * (1.0 - y);
}

// αa + β.
fn act_affine(a: f32, alpha: f32, beta: f32) -> f32 {
    return alpha * a + beta;
}

fn slope_affine(y: f32, alpha: f32, beta: f32) -> f32 {
    return alpha;
}

// a, or αa under 0; α ≥ 0, so that y tells the side.
fn act_leaky_relu(a: f32, alpha: f32, beta: f32) -> f32 {
    return select(a, alpha * a, a < 0.0);
}

fn slope_leaky_relu(y: f32, alpha: f32, beta: f32) -> f32 {
    return select(1.0, alpha, y < 0.0 || (y == 0.0 && alpha == 0.0));
}

// a beyond α, else 0.
fn act_thresholded_relu(a: f32, alpha: f32, beta: f32) -> f32 {
    return select(0.0, a, a > alpha);
}

fn slope_thresholded_relu(y: f32, alpha: f32, beta: f32) -> f32 {
    return select(0.0, 1.0, y != 0.0);
}

// α·tanh(βa); the slope is αβ − β/α·y².
fn act_scaled_tanh(a: f32, alpha: f32, beta: f32) -> f32 {
    return alpha * tanh_stable(beta * a);
}

fn slope_scaled_tanh(y: f32, alpha: f32, beta: f32) -> f32 {
    return alpha * beta - beta / alpha * y * y;
}

// max(0, min(1, αa + β)).
fn act_hard_sigmoid(a: f32, alpha: f32, beta: f32) -> f32 {
    return max(0.0, min(1.0, alpha * a + beta));
}

fn slope_hard_sigmoid(y: f32, alpha: f32, beta: f32) -> f32 {
    return select(0.0, alpha, y > 0.0 && y < 1.0);
}

// a, or α(e^a − 1) under 0; α ≥ 0, so that y tells the side.
fn act_elu(a: f32, alpha: f32, beta: f32) -> f32 {
    return select(a, alpha * exp_minus_one(min(a, 0.0)), a < 0.0);
}

fn slope_elu(y: f32, alpha: f32, beta: f32) -> f32 {
    return select(1.0, y + alpha, y < 0.0 || (y == 0.0 && alpha == 0.0));
}

// a / (1 + |a|); the slope is (1 − |y|)².
fn act_softsign(a: f32, alpha: f32, beta: f32) -> f32 {
    return a / (1.0 + abs(a));
}

fn slope_softsign(y: f32, alpha: f32, beta: f32) -> f32 {
    return (1.0 - abs(y)) * (1.0 - abs(y));
}

// log(1 + e^a); the slope is σ(a) = 1 − e^−y.
fn act_softplus(a: f32, alpha: f32, beta: f32) -> f32 {
    return max(a, 0.0) + log_one_plus(exp(-abs(a)));
}

fn slope_softplus(y: f32, alpha: f32, beta: f32) -> f32 {
    return -exp_minus_one(-y);
}

// a.
fn act_identity(a: f32, alpha: f32, beta: f32) -> f32 {
    return a;
}

fn slope_identity(y: f32, alpha: f32, beta: f32) -> f32 {
    return 1.0;
}
