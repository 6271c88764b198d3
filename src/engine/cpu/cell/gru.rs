//! GRU with the reset after the product, and before it; `shaders/cell/gru.wgsl`,
//! `shaders/cell/gru_reset_before.wgsl`.

use super::{Activations, BackwardRow, ForwardRow, LANES, blocks, blocks_of, load, store};

/// Roles of the activations.
const R: usize = 0;
const Z: usize = 1;
const N: usize = 2;

/// r, z = σ(·); n = tanh(x_n + r⊙r_n); h' = (1−z)⊙n + z⊙h.
#[inline(always)]
pub fn forward(act: impl Activations, row: ForwardRow) {
    let [h_new, ..] = row.new;
    let n = h_new.len();
    let [r, z, xn, rn] = blocks(row.gates, n);
    let [bias_r, bias_z, bias_n] = blocks_of(row.bias, n);
    let h_old = &row.old[0][..n];
    for j in (0..n).step_by(LANES) {
        let (mut rv, mut zv, mut nv, mut rnv) = (load(r, j), load(z, j), load(xn, j), load(rn, j));
        let (br, bz, bn) = (load(bias_r, j), load(bias_z, j), load(bias_n, j));
        let mut h = load(h_old, j);
        for l in 0..LANES {
            rv[l] += br[l];
            zv[l] += bz[l];
            rnv[l] += bn[l];
        }
        act.act::<R>(&mut rv);
        let rest = act.act_and_rest::<Z>(&mut zv);
        for l in 0..LANES {
            nv[l] += rv[l] * rnv[l];
        }
        act.act::<N>(&mut nv);
        for l in 0..LANES {
            h[l] = rest[l] * nv[l] + zv[l] * h[l];
        }
        store(rv, r, j);
        store(zv, z, j);
        store(nv, xn, j);
        store(rnv, rn, j);
        store(h, h_new, j);
    }
}

/// dn = dh'⊙(1−z)⊙n'; dz = dh'⊙(h−n)⊙z'; dr = dn⊙r_n⊙r'; d(r_n) = dn⊙r; to h, past the product:
/// dh'⊙z.
#[inline(always)]
pub fn backward(act: impl Activations, row: BackwardRow) {
    let [dh, ..] = row.carry;
    let n = dh.len();
    let [r, z, xn, rn] = blocks(row.gates, n);
    let h_old = &row.old[0][..n];
    for j in (0..n).step_by(LANES) {
        let (mut rv, mut zv, mut nv, mut rnv) = (load(r, j), load(z, j), load(xn, j), load(rn, j));
        let mut d = load(dh, j);
        let h = load(h_old, j);
        let (slope_r, slope_z, slope_n) =
            (act.slope::<R>(&rv), act.slope::<Z>(&zv), act.slope::<N>(&nv));
        for l in 0..LANES {
            let (a, b, e) = (rv[l], zv[l], nv[l]);
            let dn = d[l] * (1.0 - b) * slope_n[l];
            rv[l] = dn * rnv[l] * slope_r[l];
            zv[l] = d[l] * (h[l] - e) * slope_z[l];
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

/// First phase of reset-before: r = σ(·), a_z, s = r⊙h̃.
#[inline(always)]
pub fn reset_before_forward(act: impl Activations, row: ForwardRow) {
    let h_old = row.old[0];
    let n = h_old.len();
    let [r, z, _, s] = blocks(row.gates, n);
    let [bias_r, bias_z, _] = blocks_of::<3>(row.bias, n);
    for j in (0..n).step_by(LANES) {
        let (mut rv, mut zv) = (load(r, j), load(z, j));
        let (br, bz) = (load(bias_r, j), load(bias_z, j));
        let mut sv = load(h_old, j);
        for l in 0..LANES {
            rv[l] += br[l];
            zv[l] += bz[l];
        }
        act.act::<R>(&mut rv);
        let mask = masked(row.mask, j);
        for l in 0..LANES {
            sv[l] *= mask[l];
            sv[l] *= rv[l];
        }
        store(rv, r, j);
        store(zv, z, j);
        store(sv, s, j);
    }
}

/// The mask of h in n's product, where there is one.
#[inline(always)]
fn masked(mask: &[f32], j: usize) -> [f32; LANES] {
    if mask.is_empty() { [1.0; LANES] } else { load(mask, j) }
}

/// Second phase: z = σ(a_z), n = tanh(x_n + s·U_nᵀ + b′_n), the product added already; h' = (1−z)⊙n + z⊙h.
#[inline(always)]
pub fn gru_candidate_forward(act: impl Activations, row: ForwardRow) {
    let [h_new, ..] = row.new;
    let n = h_new.len();
    let [_, z, xn] = blocks(row.gates, n);
    let [_, _, bias_n] = blocks_of(row.bias, n);
    let h_old = &row.old[0][..n];
    for j in (0..n).step_by(LANES) {
        let (mut zv, mut nv, bn, mut h) =
            (load(z, j), load(xn, j), load(bias_n, j), load(h_old, j));
        for l in 0..LANES {
            nv[l] += bn[l];
        }
        act.act::<N>(&mut nv);
        let rest = act.act_and_rest::<Z>(&mut zv);
        for l in 0..LANES {
            h[l] = rest[l] * nv[l] + zv[l] * h[l];
        }
        store(zv, z, j);
        store(nv, xn, j);
        store(h, h_new, j);
    }
}

/// First phase backward: dn = dh'⊙(1−z)⊙n'; dz = dh'⊙(h−n)⊙z'; to h: dh'⊙z.
#[inline(always)]
pub fn reset_before_backward(act: impl Activations, row: BackwardRow) {
    let [dh, ..] = row.carry;
    let n = dh.len();
    let [_, z, xn] = blocks(row.gates, n);
    let h_old = &row.old[0][..n];
    for j in (0..n).step_by(LANES) {
        let (mut zv, mut nv, mut d, h) = (load(z, j), load(xn, j), load(dh, j), load(h_old, j));
        let (slope_z, slope_n) = (act.slope::<Z>(&zv), act.slope::<N>(&nv));
        for l in 0..LANES {
            let b = zv[l];
            zv[l] = d[l] * (h[l] - nv[l]) * slope_z[l];
            nv[l] = d[l] * (1.0 - b) * slope_n[l];
            d[l] *= b;
        }
        store(zv, z, j);
        store(nv, xn, j);
        store(d, dh, j);
    }
}

/// Second phase backward, from ds = dn·U_n: dr = ds⊙h̃⊙r'; to h: ds⊙r under the mask.
#[inline(always)]
pub fn gru_candidate_backward(
    act: impl Activations,
    gates: &mut [f32],
    h_old: &[f32],
    mask: &[f32],
    ds: &[f32],
    carry: &mut [f32],
) {
    let n = h_old.len();
    let r = &mut gates[..n];
    for j in (0..n).step_by(LANES) {
        let (mut rv, h, d, mut c) = (load(r, j), load(h_old, j), load(ds, j), load(carry, j));
        let slope = act.slope::<R>(&rv);
        let mask = masked(mask, j);
        for l in 0..LANES {
            c[l] += d[l] * rv[l] * mask[l];
            rv[l] = d[l] * (h[l] * mask[l]) * slope[l];
        }
        store(rv, r, j);
        store(c, carry, j);
    }
}
