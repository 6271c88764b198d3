//! The cells' equations over one batch row: the twins of `shaders/cell/*.wgsl`, with the same
//! functions in the same order.
//!
//! Forward, `gates` \[K·H\] holds x + r for the gates whose input and recurrent product are only
//! ever added (the product accumulated in place); GRU's n keeps r_n apart in its fourth block.

mod activation;
mod custom;
mod gru;
mod lstm;
mod rnn;
mod slstm;

pub use activation::{Activations, Chosen, Standard, activate, multiply_slopes};
pub use gru::{gru_candidate_backward, gru_candidate_forward};
pub use lstm::{output, output_backward};

use super::math::{Fused, Plain};
use crate::kernel::{Cell, CellKind};
use pulp::{Arch, Simd, WithSimd};

/// The most states of a cell.
pub const STATES: usize = 4;

/// One row's slices of a forward step. `old` and `new` hold h and the other states; those that the
/// cell does not have are empty.
pub struct ForwardRow<'a> {
    pub gates: &'a mut [f32],
    pub bias: &'a [f32],
    pub old: [&'a [f32]; STATES],
    pub new: [&'a mut [f32]; STATES],
    /// The parameters by unit \[E·H\].
    pub unit: &'a [f32],
    /// A custom cell's recurrent product \[G·H\], apart from x.
    pub r: &'a [f32],
    /// Reset-before GRU: the mask of h in n's product; empty where there is none.
    pub mask: &'a [f32],
}

/// One row's slices of a backward step. `carry` holds the gradients of the candidates, and receives
/// what reaches the old states past the product.
pub struct BackwardRow<'a> {
    pub gates: &'a mut [f32],
    pub old: [&'a [f32]; STATES],
    pub carry: [&'a mut [f32]; STATES],
    /// The parameters by unit \[E·H\].
    pub unit: &'a [f32],
    /// What this row gave to them so far.
    pub d_unit: &'a mut [f32],
    /// Layer norm: the gradients of o's pre-activation and of c through the norm, instead of those
    /// that follow from `carry[0]`.
    pub normed: Option<[&'a [f32]; 2]>,
}

/// One cell's equations over a row, as a function of its own for the instruction set and its
/// arithmetic: inside of a larger one the compiler runs out of patience and leaves lanes apart.
macro_rules! on {
    ($arch:ident, $cell:ident, $row:ident: $kind:ident $(, $arithmetic:ident)? => $call:expr) => {{
        struct Work<'a>(&'a Cell, $kind<'a>);
        impl WithSimd for Work<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Work($cell, $row) = self;
                let _ = $cell;
                // Instruction sets with vectors on these have multiply-adds.
                let fuses = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
                if S::F32_LANES > 1 && fuses {
                    $(type $arithmetic = Fused;)?
                    $call
                } else {
                    $(type $arithmetic = Plain;)?
                    $call
                }
            }
        }
        $arch.dispatch(Work($cell, $row))
    }};
}

/// Candidates of the new states, and the words kept for backward. With layer norm, an LSTM's h is
/// left to [`output`].
#[inline(always)]
pub fn cell_forward(arch: Arch, cell: &Cell, row: ForwardRow) {
    let plain = cell.activations.is_none() && cell.clip.is_none();
    match cell.kind {
        CellKind::RnnTanh if plain => {
            on!(arch, cell, row: ForwardRow, A =>
                rnn::forward(activation::Tanh::<A>::default(), row))
        }
        CellKind::RnnRelu if plain => {
            on!(arch, cell, row: ForwardRow, A =>
                rnn::forward(activation::Relu::<A>::default(), row))
        }
        CellKind::RnnTanh | CellKind::RnnRelu => {
            on!(arch, cell, row: ForwardRow => rnn::forward(Chosen::new(cell), row))
        }
        CellKind::Lstm if lstm::is_plain(cell) => {
            on!(arch, cell, row: ForwardRow, A =>
                lstm::forward(Standard::<A>::default(), lstm::Options::NONE, row))
        }
        CellKind::Lstm => {
            on!(arch, cell, row: ForwardRow =>
                lstm::forward(Chosen::new(cell), lstm::Options::new(cell), row))
        }
        CellKind::Gru if plain => {
            on!(arch, cell, row: ForwardRow, A => gru::forward(Standard::<A>::default(), row))
        }
        CellKind::Gru => {
            on!(arch, cell, row: ForwardRow => gru::forward(Chosen::new(cell), row))
        }
        CellKind::GruResetBefore => {
            on!(arch, cell, row: ForwardRow => gru::reset_before_forward(Chosen::new(cell), row))
        }
        CellKind::Slstm => on!(arch, cell, row: ForwardRow, A => slstm::forward::<A>(row)),
        CellKind::Custom => custom::forward(cell, row),
        // These are scans.
        CellKind::MinGru | CellKind::MinLstm => {}
    }
}

#[inline(always)]
pub fn cell_backward(arch: Arch, cell: &Cell, row: BackwardRow) {
    let plain = cell.activations.is_none() && cell.clip.is_none();
    match cell.kind {
        CellKind::RnnTanh if plain => {
            on!(arch, cell, row: BackwardRow, A =>
                rnn::backward(activation::Tanh::<A>::default(), row))
        }
        CellKind::RnnRelu if plain => {
            on!(arch, cell, row: BackwardRow, A =>
                rnn::backward(activation::Relu::<A>::default(), row))
        }
        CellKind::RnnTanh | CellKind::RnnRelu => {
            on!(arch, cell, row: BackwardRow => rnn::backward(Chosen::new(cell), row))
        }
        CellKind::Lstm if lstm::is_plain(cell) => {
            on!(arch, cell, row: BackwardRow, A =>
                lstm::backward(Standard::<A>::default(), lstm::Options::NONE, row))
        }
        CellKind::Lstm => {
            on!(arch, cell, row: BackwardRow =>
                lstm::backward(Chosen::new(cell), lstm::Options::new(cell), row))
        }
        CellKind::Gru if plain => {
            on!(arch, cell, row: BackwardRow, A => gru::backward(Standard::<A>::default(), row))
        }
        CellKind::Gru => {
            on!(arch, cell, row: BackwardRow => gru::backward(Chosen::new(cell), row))
        }
        CellKind::GruResetBefore => {
            on!(arch, cell, row: BackwardRow => gru::reset_before_backward(Chosen::new(cell), row))
        }
        CellKind::Slstm => on!(arch, cell, row: BackwardRow, A => slstm::backward::<A>(row)),
        CellKind::Custom => custom::backward(cell, row),
        CellKind::MinGru | CellKind::MinLstm => {}
    }
}

/// Units that a loop takes at once: loaded into local arrays, put through the equations, stored. The
/// compiler sees that local arrays do not overlap, and uses its widest instructions.
pub const LANES: usize = 16;
pub type Lanes = [f32; LANES];

/// `LANES` values from `at` on; past the end zeros.
#[inline(always)]
pub fn load(from: &[f32], at: usize) -> Lanes {
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
pub fn store(lanes: Lanes, to: &mut [f32], at: usize) {
    match to.get_mut(at..at + LANES) {
        Some(whole) => whole.copy_from_slice(&lanes),
        None => {
            for (value, lane) in to[at..].iter_mut().zip(&lanes) {
                *value = *lane;
            }
        }
    }
}

/// Adds the lanes to what is there.
#[inline(always)]
pub fn add(lanes: Lanes, to: &mut [f32], at: usize) {
    let mut sum = load(to, at);
    for l in 0..LANES {
        sum[l] += lanes[l];
    }
    store(sum, to, at);
}

/// A row's first N blocks of `n` words each.
#[inline(always)]
pub fn blocks<const N: usize>(mut words: &mut [f32], n: usize) -> [&mut [f32]; N] {
    std::array::from_fn(|_| {
        let (block, rest) = std::mem::take(&mut words).split_at_mut(n);
        words = rest;
        block
    })
}

/// The same for reading.
#[inline(always)]
pub fn blocks_of<const N: usize>(words: &[f32], n: usize) -> [&[f32]; N] {
    std::array::from_fn(|i| &words[i * n..(i + 1) * n])
}
