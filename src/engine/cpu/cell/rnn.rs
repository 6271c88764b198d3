//! The vanilla cell; `shaders/cell/rnn.wgsl`.

use super::{Activations, BackwardRow, ForwardRow, LANES, load, store};

/// h' = f(x + r).
#[inline(always)]
pub fn forward(act: impl Activations, row: ForwardRow) {
    let [h_new, ..] = row.new;
    let n = h_new.len();
    let (a, bias) = (&mut row.gates[..n], &row.bias[..n]);
    for j in (0..n).step_by(LANES) {
        let (mut h, b) = (load(a, j), load(bias, j));
        for l in 0..LANES {
            h[l] += b[l];
        }
        act.act::<0>(&mut h);
        store(h, a, j);
        store(h, h_new, j);
    }
}

/// da = dh'·f'(a).
#[inline(always)]
pub fn backward(act: impl Activations, row: BackwardRow) {
    let [dh, ..] = row.carry;
    let n = dh.len();
    let a = &mut row.gates[..n];
    for j in (0..n).step_by(LANES) {
        let slope = act.slope::<0>(&load(a, j));
        let mut d = load(dh, j);
        for l in 0..LANES {
            d[l] *= slope[l];
        }
        store(d, a, j);
        store([0.0; LANES], dh, j);
    }
}
