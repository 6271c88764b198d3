// sLSTM (Beck 2024), gate order i, f, z, o, states h, c, n, m. With a = x + r and l = log σ(a_f) + m,
// or −∞ where the state is empty (n = 0):
//     m' = max(l, a_i)   i = e^(a_i − m')   f = e^(l − m')
//     c' = f⊙c + i⊙tanh(a_z)   n' = f⊙n + i   h' = σ(a_o)⊙c'/n'
// Saved: a_i, a_f, z = tanh(a_z), o = σ(a_o); backward leaves the gradients of the a.

struct Stabilised {
    input: f32,
    forget: f32,
    m: f32,
    keeps: bool,    // m' = l
}

fn stabilise(a_i: f32, a_f: f32, old: array<f32, STATES>) -> Stabilised {
    if old[2] == 0.0 {
        return Stabilised(1.0, 0.0, a_i, false);
    }
    let l = log_sigmoid(a_f) + old[3];
    let m = max(l, a_i);
    return Stabilised(exp(a_i - m), exp(l - m), m, l >= a_i);
}

#ifndef BACKWARD
fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    var out = CellOut();
    let s = stabilise(x[0] + r[0], x[1] + r[1], old);
    let z = tanh_stable(x[2] + r[2]);
    let o = sigmoid(x[3] + r[3]);
    let c = s.forget * old[1] + s.input * z;
    let n = s.forget * old[2] + s.input;
    out.saved = array<f32, SAVED>(x[0] + r[0], x[1] + r[1], z, o);
    out.states = array<f32, STATES>(o * (c / n), c, n, s.m);
    return out;
}
#else
//     do = dh⊙c'/n'   dc = dc' + dh⊙o/n'   dn = dn' − dh⊙o⊙c'/n'²
//     di = dc⊙z + dn   df = dc⊙c + dn⊙n   dz = dc⊙i
//     dl = df⊙f, da_i = di⊙i, and what is left of dm' goes to the larger of l and a_i
//     da_f = dl⊙σ(−a_f), to m: dl
fn cell_backward(
    saved: array<f32, SAVED>,
    old: array<f32, STATES>,
    d_new: array<f32, STATES>,
) -> CellOut {
    let s = stabilise(saved[0], saved[1], old);
    let z = saved[2];
    let o = saved[3];
    let c = s.forget * old[1] + s.input * z;
    let n = s.forget * old[2] + s.input;
    let ratio = c / n;
    let dc = d_new[1] + d_new[0] * o / n;
    let dn = d_new[2] - d_new[0] * o * ratio / n;
    var da_i = (dc * z + dn) * s.input;
    var dl = (dc * old[1] + dn * old[2]) * s.forget;
    let dm = d_new[3] - da_i - dl;
    if s.keeps {
        dl += dm;
    } else {
        da_i += dm;
    }
    var out = CellOut();
    out.saved = array<f32, SAVED>(
        da_i,
        dl * sigmoid(-saved[1]),
        dc * s.input * (1.0 - z * z),
        d_new[0] * ratio * o * (1.0 - o),
    );
    // An empty state's m is nowhere in the equations.
    let d_m = select(dl, 0.0, old[2] == 0.0);
    out.states = array<f32, STATES>(0.0, dc * s.forget, dn * s.forget, d_m);
    return out;
}
#endif
