//! The cells' equations over one batch row: the twins of `shaders/cell/*.wgsl`, with the same
//! functions in the same order.
//!
//! Forward, `gates` \[K·H\] holds x + r for the gates whose input and recurrent product are only
//! ever added (the product accumulated in place); GRU's n keeps r_n apart in its fourth block.

use super::math::{sigmoid, tanh};
use crate::kernel::CellKind;

/// One row's slices of a forward step. `old` and `new` hold h and c; c is empty where the cell has
/// none.
pub struct ForwardRow<'a> {
    pub gates: &'a mut [f32],
    pub bias: &'a [f32],
    pub old: [&'a [f32]; 2],
    pub new: [&'a mut [f32]; 2],
}

/// One row's slices of a backward step. `carry[0]` holds dh complete but for `d_output`.
pub struct BackwardRow<'a> {
    pub gates: &'a mut [f32],
    pub old: [&'a [f32]; 2],
    pub new: [&'a [f32]; 2],
    pub carry: [&'a mut [f32]; 2],
    pub d_output: Option<&'a [f32]>,
}

#[inline(always)]
pub fn cell_forward(cell: CellKind, row: ForwardRow) {
    match cell {
        CellKind::RnnTanh => rnn_forward(row, tanh),
        CellKind::RnnRelu => rnn_forward(row, |a| if a <= 0.0 { 0.0 } else { a }),
        CellKind::Lstm => lstm_forward(row),
        CellKind::Gru => gru_forward(row),
    }
}

#[inline(always)]
pub fn cell_backward(cell: CellKind, row: BackwardRow) {
    let BackwardRow { gates, old, new, carry: [dh, dc], d_output } = row;
    if let Some(d_output) = d_output {
        for (dh, d) in dh.iter_mut().zip(d_output) {
            *dh += d;
        }
    }
    match cell {
        CellKind::RnnTanh => rnn_backward(gates, new[0], dh, |h| 1.0 - h * h),
        CellKind::RnnRelu => rnn_backward(gates, new[0], dh, |h| if h > 0.0 { 1.0 } else { 0.0 }),
        CellKind::Lstm => lstm_backward(gates, old[1], new[1], dh, dc),
        CellKind::Gru => gru_backward(gates, old[0], dh),
    }
}

/// Units that a loop takes at once: loaded into local arrays, put through the equations, stored. The
/// compiler sees that local arrays do not overlap, and uses its widest instructions.
const LANES: usize = 16;
type Lanes = [f32; LANES];

/// `LANES` values from `at` on; past the end zeros.
#[inline(always)]
fn load(from: &[f32], at: usize) -> Lanes {
    match from.get(at..at + LANES) {
        Some(whole) => {
            let mut lanes = [0.0; LANES];
            lanes.copy_from_slice(whole);
            lanes
        }
        None => {
            let mut lanes = [0.0; LANES];
            for (lane, value) in lanes.iter_mut().zip(&from[at..]) {
                *lane = *value;
            }
            lanes
        }
    }
}

/// Stores as many of the lanes as there is room for from `at` on.
#[inline(always)]
fn store(lanes: Lanes, to: &mut [f32], at: usize) {
    match to.get_mut(at..at + LANES) {
        Some(whole) => whole.copy_from_slice(&lanes),
        None => {
            for (value, lane) in to[at..].iter_mut().zip(&lanes) {
                *value = *lane;
            }
        }
    }
}

/// h' = activation(x + r).
#[inline(always)]
fn rnn_forward(row: ForwardRow, activation: impl Fn(f32) -> f32) {
    let [h_new, _] = row.new;
    let n = h_new.len();
    let (a, bias) = (&row.gates[..n], &row.bias[..n]);
    for j in 0..n {
        h_new[j] = activation(a[j] + bias[j]);
    }
}

/// da = dh'·activation'(a), from h' itself.
#[inline(always)]
fn rnn_backward(gates: &mut [f32], h_new: &[f32], dh: &mut [f32], slope: impl Fn(f32) -> f32) {
    let n = dh.len();
    let (gates, h_new) = (&mut gates[..n], &h_new[..n]);
    for j in 0..n {
        gates[j] = dh[j] * slope(h_new[j]);
        dh[j] = 0.0;
    }
}

/// A row's K blocks of H words.
#[inline(always)]
fn four_blocks(gates: &mut [f32], n: usize) -> [&mut [f32]; 4] {
    let (a, rest) = gates.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (c, rest) = rest.split_at_mut(n);
    [a, b, c, &mut rest[..n]]
}

/// i, f, o = σ(·), g = tanh(·); c' = f⊙c + i⊙g; h' = o⊙tanh(c').
#[inline(always)]
fn lstm_forward(row: ForwardRow) {
    let [h_new, c_new] = row.new;
    let n = h_new.len();
    let [i, f, g, o] = four_blocks(row.gates, n);
    let (bias_i, rest) = row.bias.split_at(n);
    let (bias_f, rest) = rest.split_at(n);
    let (bias_g, rest) = rest.split_at(n);
    let bias_o = &rest[..n];
    let (c_old, c_new) = (&row.old[1][..n], &mut c_new[..n]);
    for j in (0..n).step_by(LANES) {
        let (mut iv, mut fv, mut gv, mut ov) = (load(i, j), load(f, j), load(g, j), load(o, j));
        let (bi, bf, bg, bo) = (load(bias_i, j), load(bias_f, j), load(bias_g, j), load(bias_o, j));
        let mut c = load(c_old, j);
        let mut h = [0.0; LANES];
        for l in 0..LANES {
            iv[l] = sigmoid(iv[l] + bi[l]);
            fv[l] = sigmoid(fv[l] + bf[l]);
            gv[l] = tanh(gv[l] + bg[l]);
            ov[l] = sigmoid(ov[l] + bo[l]);
            c[l] = fv[l] * c[l] + iv[l] * gv[l];
            h[l] = ov[l] * tanh(c[l]);
        }
        store(iv, i, j);
        store(fv, f, j);
        store(gv, g, j);
        store(ov, o, j);
        store(c, c_new, j);
        store(h, h_new, j);
    }
}

/// dc = dc' + dh'⊙o⊙(1 − tanh²c'); di = dc⊙g⊙i(1−i); df = dc⊙c⊙f(1−f); dg = dc⊙i⊙(1−g²);
/// do = dh'⊙tanh(c')⊙o(1−o); to c: dc⊙f.
#[inline(always)]
fn lstm_backward(gates: &mut [f32], c_old: &[f32], c_new: &[f32], dh: &mut [f32], dc: &mut [f32]) {
    let n = dh.len();
    let [i, f, g, o] = four_blocks(gates, n);
    let (c_old, c_new, dc) = (&c_old[..n], &c_new[..n], &mut dc[..n]);
    for j in (0..n).step_by(LANES) {
        let (mut iv, mut fv, mut gv, mut ov) = (load(i, j), load(f, j), load(g, j), load(o, j));
        let (co, cn, d) = (load(c_old, j), load(c_new, j), load(dh, j));
        let mut dcv = load(dc, j);
        for l in 0..LANES {
            let (a, b, e, q) = (iv[l], fv[l], gv[l], ov[l]);
            let tanh_c = tanh(cn[l]);
            let x = dcv[l] + d[l] * q * (1.0 - tanh_c * tanh_c);
            iv[l] = x * e * a * (1.0 - a);
            fv[l] = x * co[l] * b * (1.0 - b);
            gv[l] = x * a * (1.0 - e * e);
            ov[l] = d[l] * tanh_c * q * (1.0 - q);
            dcv[l] = x * b;
        }
        store(iv, i, j);
        store(fv, f, j);
        store(gv, g, j);
        store(ov, o, j);
        store(dcv, dc, j);
        store([0.0; LANES], dh, j);
    }
}

/// r, z = σ(·); n = tanh(x_n + r⊙r_n); h' = (1−z)⊙n + z⊙h.
#[inline(always)]
fn gru_forward(row: ForwardRow) {
    let [h_new, _] = row.new;
    let n = h_new.len();
    let [r, z, xn, rn] = four_blocks(row.gates, n);
    let (bias_r, rest) = row.bias.split_at(n);
    let (bias_z, rest) = rest.split_at(n);
    let bias_n = &rest[..n];
    let h_old = &row.old[0][..n];
    for j in (0..n).step_by(LANES) {
        let (mut rv, mut zv, mut nv, mut rnv) = (load(r, j), load(z, j), load(xn, j), load(rn, j));
        let (br, bz, bn) = (load(bias_r, j), load(bias_z, j), load(bias_n, j));
        let mut h = load(h_old, j);
        for l in 0..LANES {
            rv[l] = sigmoid(rv[l] + br[l]);
            zv[l] = sigmoid(zv[l] + bz[l]);
            rnv[l] += bn[l];
            nv[l] = tanh(nv[l] + rv[l] * rnv[l]);
            h[l] = (1.0 - zv[l]) * nv[l] + zv[l] * h[l];
        }
        store(rv, r, j);
        store(zv, z, j);
        store(nv, xn, j);
        store(rnv, rn, j);
        store(h, h_new, j);
    }
}

/// dn = dh'⊙(1−z)⊙(1−n²); dz = dh'⊙(h−n)⊙z(1−z); dr = dn⊙r_n⊙r(1−r); d(r_n) = dn⊙r;
/// to h, past the product: dh'⊙z.
#[inline(always)]
fn gru_backward(gates: &mut [f32], h_old: &[f32], dh: &mut [f32]) {
    let n = dh.len();
    let [r, z, xn, rn] = four_blocks(gates, n);
    let h_old = &h_old[..n];
    for j in (0..n).step_by(LANES) {
        let (mut rv, mut zv, mut nv, mut rnv) = (load(r, j), load(z, j), load(xn, j), load(rn, j));
        let mut d = load(dh, j);
        let h = load(h_old, j);
        for l in 0..LANES {
            let (a, b, e) = (rv[l], zv[l], nv[l]);
            let dn = d[l] * (1.0 - b) * (1.0 - e * e);
            rv[l] = dn * rnv[l] * a * (1.0 - a);
            zv[l] = d[l] * (h[l] - e) * b * (1.0 - b);
            nv[l] = dn;
            rnv[l] = dn * a;
            d[l] *= b;
        }
        store(rv, r, j);
        store(zv, z, j);
        store(nv, xn, j);
        store(rnv, rn, j);
        store(d, dh, j);
    }
}
