// h' = max(0, a), NaN passed on; dh'/da = [h' > 0].
#import shared/rnn

fn activation(a: f32) -> f32 {
    return select(a, 0.0, a <= 0.0);
}

fn activation_slope(h: f32) -> f32 {
    return select(0.0, 1.0, h > 0.0);
}
