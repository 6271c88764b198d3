// h' = tanh(a); dh'/da = 1 − h'².
#import shared/rnn

fn activation(a: f32) -> f32 {
    return tanh_stable(a);
}

fn activation_slope(h: f32) -> f32 {
    return 1.0 - h * h;
}
