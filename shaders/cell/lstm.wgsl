// LSTM with a forget gate (Hochreiter and Schmidhuber 1997; Gers 2000), PyTorch's gate order:
//     i = σ(x_i + r_i)   f = σ(x_f + r_f)   g = tanh(x_g + r_g)   o = σ(x_o + r_o)
//     c' = f⊙c + i⊙g     h' = o⊙tanh(c')
// Saved: i, f, g, o; backward leaves the gradients of their pre-activations in the same places.
const GATES = 4u;
const SAVED = 4u;
const STATES = 2u;

#import shared/cell_out

fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    let i = sigmoid(x[0] + r[0]);
    let f = sigmoid(x[1] + r[1]);
    let g = tanh_stable(x[2] + r[2]);
    let o = sigmoid(x[3] + r[3]);
    let c = f * old[1] + i * g;
    var out: CellOut;
    out.saved = array<f32, SAVED>(i, f, g, o);
    out.states = array<f32, STATES>(o * tanh_stable(c), c);
    return out;
}

//     dc = dc' + dh'⊙o⊙(1 − tanh²c')
//     di = dc⊙g⊙i(1−i)   df = dc⊙c⊙f(1−f)   dg = dc⊙i⊙(1−g²)   do = dh'⊙tanh(c')⊙o(1−o)
//     to c: dc⊙f
fn cell_backward(
    saved: array<f32, SAVED>,
    old: array<f32, STATES>,
    next: array<f32, STATES>,
    d_states: array<f32, STATES>,
) -> CellOut {
    let i = saved[0];
    let f = saved[1];
    let g = saved[2];
    let o = saved[3];
    let tanh_c = tanh_stable(next[1]);
    let dh = d_states[0];
    let dc = d_states[1] + dh * o * (1.0 - tanh_c * tanh_c);
    var out: CellOut;
    out.saved = array<f32, SAVED>(
        dc * g * i * (1.0 - i),
        dc * old[1] * f * (1.0 - f),
        dc * i * (1.0 - g * g),
        dh * tanh_c * o * (1.0 - o),
    );
    out.states = array<f32, STATES>(0.0, dc * f);
    return out;
}

fn recurrent_block(gate: u32) -> u32 {
    return gate;
}
