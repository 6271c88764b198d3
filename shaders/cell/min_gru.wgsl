// minGRU (Feng 2024), gate order z, n: z = σ(x_z), h' = (1−z)⊙h + z⊙n. Nothing of it hears h, so
// that time is a scan of h' = a⊙h + c with a = 1−z, c = z⊙n.
fn coefficients(x: array<f32, G_COUNT>) -> vec2<f32> {
    let z = sigmoid(x[0]);
    return vec2<f32>(sigmoid(-x[0]), z * x[1]);
}

// dz = dh'⊙(n−h)   dn = dh'⊙z
fn gate_gradients(x: array<f32, G_COUNT>, old: f32, d: f32) -> array<f32, G_COUNT> {
    let z = sigmoid(x[0]);
    return array<f32, G_COUNT>(d * (x[1] - old) * z * sigmoid(-x[0]), d * z);
}
