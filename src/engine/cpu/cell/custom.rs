//! The caller's own cell, a unit at a time.
#![allow(clippy::needless_range_loop, reason = "blocks lie side by side in several slices")]

use super::{BackwardRow, ForwardRow, STATES};
use crate::kernel::{Cell, CustomCell};

const MOST_WORDS: usize = CustomCell::MOST;

/// The caller's `forward` for each unit.
pub fn forward(cell: &Cell, row: ForwardRow) {
    let Some(custom) = &cell.custom else { return };
    let (g, k, s) = (custom.gates, custom.saved, custom.states);
    let n = row.new[0].len();
    let new = row.new;
    for j in 0..n {
        let (mut x, mut r, mut old) = ([0.0; MOST_WORDS], [0.0; MOST_WORDS], [0.0; STATES]);
        for gate in 0..g {
            x[gate] = row.gates[gate * n + j];
            r[gate] = row.r[gate * n + j] + row.bias[gate * n + j];
        }
        for state in 0..s {
            old[state] = row.old[state][j];
        }
        let (mut saved, mut states) = ([0.0; MOST_WORDS], [0.0; STATES]);
        (custom.forward)(&x[..g], &r[..g], &old[..s], &mut saved[..k], &mut states[..s]);
        for block in 0..k {
            row.gates[block * n + j] = saved[block];
        }
        for state in 0..s {
            new[state][j] = states[state];
        }
    }
}

/// The caller's `backward` for each unit.
pub fn backward(cell: &Cell, row: BackwardRow) {
    let Some(custom) = &cell.custom else { return };
    let (k, s) = (custom.saved, custom.states);
    let carry = row.carry;
    let n = carry[0].len();
    for j in 0..n {
        let (mut saved, mut old, mut d_new) = ([0.0; MOST_WORDS], [0.0; STATES], [0.0; STATES]);
        for block in 0..k {
            saved[block] = row.gates[block * n + j];
        }
        for state in 0..s {
            old[state] = row.old[state][j];
            d_new[state] = carry[state][j];
        }
        let (mut d_saved, mut d_old) = ([0.0; MOST_WORDS], [0.0; STATES]);
        (custom.backward)(&saved[..k], &old[..s], &d_new[..s], &mut d_saved[..k], &mut d_old[..s]);
        for block in 0..k {
            row.gates[block * n + j] = d_saved[block];
        }
        for state in 0..s {
            carry[state][j] = d_old[state];
        }
    }
}
