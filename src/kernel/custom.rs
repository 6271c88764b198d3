//! A cell of the caller's own.

use super::places;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// One unit's step forward: (x \[G\], r \[G\], old \[S\]) → saved \[K\], new \[S\].
pub type ForwardTwin = dyn Fn(&[f32], &[f32], &[f32], &mut [f32], &mut [f32]) + Send + Sync;
/// One unit's step backward: (saved \[K\], old \[S\], d_new \[S\]) → d_saved \[K\], d_old \[S\].
pub type BackwardTwin = dyn Fn(&[f32], &[f32], &[f32], &mut [f32], &mut [f32]) + Send + Sync;
/// The same step in float64, for the oracle: (x, r, old) → new.
pub type Reference = dyn Fn(&[f64], &[f64], &[f64], &mut [f64]) + Send + Sync;

/// A cell written by the caller: a function of one hidden unit, twice, and once more for the
/// oracle. It goes through the same sequence machinery as the built-in ones, with every option of
/// the machinery (masks, resets, zoneout, heads, recurrent dropout, layer norm of the products,
/// convolutions), and through the conformance suite ([`recurrent_reports`](crate::conformance::recurrent_reports)).
///
/// For each unit, x \[G\] is the input product with its bias, r \[G\] the recurrent product with
/// its bias, old \[S\] the unit's states, h first. `saved` \[K\], K ≥ G, is what backward needs;
/// backward puts in its first G places the gradients of x, **which are those of r as well**: a cell must read the two
/// as x + r alone. (One that doesn't, as GRU's candidate tanh(x + ρ⊙r), computes forward and has wrong gradients, which
/// [`check_gradients`](crate::train::check_gradients) and the conformance suite tell.)
///
/// The WGSL defines two functions over the constants `GATES`, `SAVED`, `STATES` and
/// `struct CellOut { saved: array<f32, SAVED>, states: array<f32, STATES> }`:
/// ```wgsl
/// fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut
/// fn cell_backward(saved: array<f32, SAVED>, old: array<f32, STATES>,
///                  d_new: array<f32, STATES>) -> CellOut
/// ```
/// A variable of the text that is indexed must have another name than a buffer of the steps'
/// kernels (`w`, `b`, `gates`, `states`, `carry`, `flags` and the like). In what backward returns,
/// `saved` holds the gradients of x and `states` what reaches the old states other than through r.
/// `sigmoid` and `tanh_stable` are there to be used. A variable needs an initial value (`var out = CellOut();`), as some
/// browsers keep what one without has from step to step.
#[derive(Clone)]
pub struct CustomCell {
    /// The name in reports, and of the pipelines.
    pub name: String,
    /// G.
    pub gates: usize,
    /// K, at least G.
    pub saved: usize,
    /// S, at least 1.
    pub states: usize,
    /// The two WGSL functions.
    pub wgsl: String,
    /// The CPU's `cell_forward`.
    pub forward: Arc<ForwardTwin>,
    /// The CPU's `cell_backward`.
    pub backward: Arc<BackwardTwin>,
    /// The oracle's equation.
    pub reference: Arc<Reference>,
}

impl CustomCell {
    /// The most saved words of a unit; of gates, and of states, there can be 4.
    pub const MOST: usize = 8;
    /// What a shader's define of the text is called.
    pub(super) const TEXT: &'static str = "CELL_TEXT";

    /// Whether the numbers are in range, and the shader's text is there.
    ///
    /// # Errors
    /// The number that is not.
    pub fn check(&self) -> Result<()> {
        let most = Self::MOST;
        let fail = |what: String| Err(Error::invalid(format!("cell {}: {what}", self.name)));
        if !(1..=4).contains(&self.gates) {
            return fail(format!("{} gates; there can be 1 to 4", self.gates));
        }
        if !(self.gates..=most).contains(&self.saved) {
            return fail(format!(
                "{} saved words; there can be {} to {most}",
                self.saved, self.gates
            ));
        }
        if !(1..=4).contains(&self.states) {
            return fail(format!("{} states; there can be 1 to 4", self.states));
        }
        for function in ["fn cell_forward", "fn cell_backward"] {
            if !self.wgsl.contains(function) {
                return fail(format!("its WGSL has no '{function}'"));
            }
        }
        match super::step::BUFFERS.iter().find(|name| places::next(&self.wgsl, name).is_some()) {
            Some(name) => fail(format!("'{name}[' in its text is the name of a buffer")),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CustomCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomCell({}, G{} K{} S{})", self.name, self.gates, self.saved, self.states)
    }
}

impl PartialEq for CustomCell {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.wgsl == other.wgsl
    }
}
