// minLSTM (Feng 2024), gate order f, i, n: h' = (f⊙h + i⊙n)/(f + i) with f = σ(x_f), i = σ(x_i).
// The share of h is f/(f + i) = σ(log f − log i), which needs no division by a small sum. A scan of
// h' = a⊙h + c, as minGRU.
fn coefficients(x: array<f32, G_COUNT>) -> vec2<f32> {
    let d = log_sigmoid(x[0]) - log_sigmoid(x[1]);
    return vec2<f32>(sigmoid(d), sigmoid(-d) * x[2]);
}

// With a the share of h: da = dh'⊙(h−n), to x_f: da⊙a(1−a)⊙σ(−x_f), to x_i the same with −σ(−x_i).
fn gate_gradients(x: array<f32, G_COUNT>, old: f32, d: f32) -> array<f32, G_COUNT> {
    let share = log_sigmoid(x[0]) - log_sigmoid(x[1]);
    let a = sigmoid(share);
    let rest = sigmoid(-share);
    let da = d * (old - x[2]) * a * rest;
    return array<f32, G_COUNT>(da * sigmoid(-x[0]), -da * sigmoid(-x[1]), d * rest);
}
