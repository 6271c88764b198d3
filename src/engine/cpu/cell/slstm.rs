//! sLSTM with its stabilised exponential gates; `shaders/cell/slstm.wgsl`.

use super::super::math::{Arithmetic, exp, log_sigmoid, sigmoid, tanh};
use super::{BackwardRow, ForwardRow, LANES, Lanes, blocks, blocks_of, load, store};

/// i, f, m', and 1 where m' = l.
#[inline(always)]
fn stabilise<A: Arithmetic>(a_i: &Lanes, a_f: &Lanes, n_old: &Lanes, m_old: &Lanes) -> [Lanes; 4] {
    let mut out = [[0.0; LANES]; 4];
    for l in 0..LANES {
        let kept = log_sigmoid(a_f[l]) + m_old[l];
        let empty = n_old[l] == 0.0;
        let keeps = !empty && kept >= a_i[l];
        let m = if keeps { kept } else { a_i[l] };
        out[0][l] = if keeps { exp::<A>(a_i[l] - m) } else { 1.0 };
        out[1][l] = if empty {
            0.0
        } else if keeps {
            1.0
        } else {
            exp::<A>(kept - m)
        };
        out[2][l] = m;
        out[3][l] = if keeps { 1.0 } else { 0.0 };
    }
    out
}

/// c' = f⊙c + i⊙z; n' = f⊙n + i; h' = o⊙c'/n'.
#[inline(always)]
pub fn forward<A: Arithmetic>(row: ForwardRow) {
    let [h_new, c_new, n_new, m_new] = row.new;
    let n = h_new.len();
    let [gi, gf, gz, go] = blocks(row.gates, n);
    let [bi, bf, bz, bo] = blocks_of(row.bias, n);
    let [_, c_old, n_old, m_old] = row.old;
    for j in (0..n).step_by(LANES) {
        let (mut ai, mut af, mut z, mut o) = (load(gi, j), load(gf, j), load(gz, j), load(go, j));
        let (b0, b1, b2, b3) = (load(bi, j), load(bf, j), load(bz, j), load(bo, j));
        for l in 0..LANES {
            ai[l] += b0[l];
            af[l] += b1[l];
            z[l] = tanh::<A>(z[l] + b2[l]);
            o[l] = sigmoid::<A>(o[l] + b3[l]);
        }
        let (mut c, mut norm) = (load(c_old, j), load(n_old, j));
        let [i, f, m, _] = stabilise::<A>(&ai, &af, &norm, &load(m_old, j));
        let mut h = [0.0; LANES];
        for l in 0..LANES {
            c[l] = f[l] * c[l] + i[l] * z[l];
            norm[l] = f[l] * norm[l] + i[l];
            h[l] = o[l] * (c[l] / norm[l]);
        }
        store(ai, gi, j);
        store(af, gf, j);
        store(z, gz, j);
        store(o, go, j);
        store(h, h_new, j);
        store(c, c_new, j);
        store(norm, n_new, j);
        store(m, m_new, j);
    }
}

/// The equations of the shader, line by line.
#[inline(always)]
pub fn backward<A: Arithmetic>(row: BackwardRow) {
    let [dh, dc, dn, dm] = row.carry;
    let n = dh.len();
    let [gi, gf, gz, go] = blocks(row.gates, n);
    let [_, c_old, n_old, m_old] = row.old;
    for j in (0..n).step_by(LANES) {
        let (mut ai, mut af, mut z, mut o) = (load(gi, j), load(gf, j), load(gz, j), load(go, j));
        let (c0, n0) = (load(c_old, j), load(n_old, j));
        let [i, f, _, keeps] = stabilise::<A>(&ai, &af, &n0, &load(m_old, j));
        let (dhv, mut dcv, mut dnv, mut dmv) = (load(dh, j), load(dc, j), load(dn, j), load(dm, j));
        for l in 0..LANES {
            let c = f[l] * c0[l] + i[l] * z[l];
            let norm = f[l] * n0[l] + i[l];
            let ratio = c / norm;
            let dc = dcv[l] + dhv[l] * o[l] / norm;
            let dn = dnv[l] - dhv[l] * o[l] * ratio / norm;
            let mut da_i = (dc * z[l] + dn) * i[l];
            let mut dl = (dc * c0[l] + dn * n0[l]) * f[l];
            let d = dmv[l] - da_i - dl;
            if keeps[l] == 1.0 {
                dl += d;
            } else {
                da_i += d;
            }
            ai[l] = da_i;
            af[l] = dl * sigmoid::<A>(-af[l]);
            z[l] = dc * i[l] * (1.0 - z[l] * z[l]);
            o[l] = dhv[l] * ratio * o[l] * (1.0 - o[l]);
            dcv[l] = dc * f[l];
            dnv[l] = dn * f[l];
            dmv[l] = if n0[l] == 0.0 { 0.0 } else { dl };
        }
        store(ai, gi, j);
        store(af, gf, j);
        store(z, gz, j);
        store(o, go, j);
        store([0.0; LANES], dh, j);
        store(dcv, dc, j);
        store(dnv, dn, j);
        store(dmv, dm, j);
    }
}
