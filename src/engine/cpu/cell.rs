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
    for j in 0..n {
        let iv = sigmoid(i[j] + bias_i[j]);
        let fv = sigmoid(f[j] + bias_f[j]);
        let gv = tanh(g[j] + bias_g[j]);
        let ov = sigmoid(o[j] + bias_o[j]);
        let c = fv * c_old[j] + iv * gv;
        (i[j], f[j], g[j], o[j]) = (iv, fv, gv, ov);
        c_new[j] = c;
        h_new[j] = ov * tanh(c);
    }
}

/// dc = dc' + dh'⊙o⊙(1 − tanh²c'); di = dc⊙g⊙i(1−i); df = dc⊙c⊙f(1−f); dg = dc⊙i⊙(1−g²);
/// do = dh'⊙tanh(c')⊙o(1−o); to c: dc⊙f.
#[inline(always)]
fn lstm_backward(gates: &mut [f32], c_old: &[f32], c_new: &[f32], dh: &mut [f32], dc: &mut [f32]) {
    let n = dh.len();
    let [i, f, g, o] = four_blocks(gates, n);
    let (c_old, c_new, dc) = (&c_old[..n], &c_new[..n], &mut dc[..n]);
    for j in 0..n {
        let (iv, fv, gv, ov) = (i[j], f[j], g[j], o[j]);
        let tanh_c = tanh(c_new[j]);
        let dcv = dc[j] + dh[j] * ov * (1.0 - tanh_c * tanh_c);
        i[j] = dcv * gv * iv * (1.0 - iv);
        f[j] = dcv * c_old[j] * fv * (1.0 - fv);
        g[j] = dcv * iv * (1.0 - gv * gv);
        o[j] = dh[j] * tanh_c * ov * (1.0 - ov);
        dc[j] = dcv * fv;
        dh[j] = 0.0;
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
    for j in 0..n {
        let rv = sigmoid(r[j] + bias_r[j]);
        let zv = sigmoid(z[j] + bias_z[j]);
        let rnv = rn[j] + bias_n[j];
        let nv = tanh(xn[j] + rv * rnv);
        (r[j], z[j], xn[j], rn[j]) = (rv, zv, nv, rnv);
        h_new[j] = (1.0 - zv) * nv + zv * h_old[j];
    }
}

/// dn = dh'⊙(1−z)⊙(1−n²); dz = dh'⊙(h−n)⊙z(1−z); dr = dn⊙r_n⊙r(1−r); d(r_n) = dn⊙r;
/// to h, past the product: dh'⊙z.
#[inline(always)]
fn gru_backward(gates: &mut [f32], h_old: &[f32], dh: &mut [f32]) {
    let n = dh.len();
    let [r, z, xn, rn] = four_blocks(gates, n);
    let h_old = &h_old[..n];
    for j in 0..n {
        let (rv, zv, nv) = (r[j], z[j], xn[j]);
        let dn = dh[j] * (1.0 - zv) * (1.0 - nv * nv);
        r[j] = dn * rn[j] * rv * (1.0 - rv);
        z[j] = dh[j] * (h_old[j] - nv) * zv * (1.0 - zv);
        xn[j] = dn;
        rn[j] = dn * rv;
        dh[j] *= zv;
    }
}
