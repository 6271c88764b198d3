// minLSTM (Feng 2024), gate order f, i, n: h' = (f⊙h + i⊙n)/(f + i) with f = σ(x_f), i = σ(x_i).
// A scan of h' = a⊙h + c, as minGRU, with a = f/(f + i), c = i/(f + i)⊙n.

// f/(f + i) and i/(f + i), from the ratio of the smaller to the larger:
// σ(x) = e^min(x,0) / (1 + e^−|x|).
fn shares(x_f: f32, x_i: f32) -> vec2<f32> {
    let ratio = (1.0 + exp(-abs(x_f))) / (1.0 + exp(-abs(x_i)));
    let e = select(0.0, x_i, x_i < 0.0) - select(0.0, x_f, x_f < 0.0);
    let q = exp(-abs(e)) * select(ratio, 1.0 / ratio, e > 0.0);
    let both = vec2<f32>(1.0, q) / (1.0 + q);
    return select(both, both.yx, e > 0.0);
}

fn coefficients(x: array<f32, G_COUNT>) -> vec2<f32> {
    let both = shares(x[0], x[1]);
    return vec2<f32>(both.x, both.y * x[2]);
}

// With a the share of h: da = dh'⊙(h−n), to x_f: da⊙a(1−a)⊙σ(−x_f), to x_i the same with −σ(−x_i).
fn gate_gradients(x: array<f32, G_COUNT>, old: f32, d: f32) -> array<f32, G_COUNT> {
    let both = shares(x[0], x[1]);
    let da = d * (old - x[2]) * both.x * both.y;
    return array<f32, G_COUNT>(da * sigmoid(-x[0]), -da * sigmoid(-x[1]), d * both.y);
}
