//! Where gradients lie, and who adds to them.

use super::recorder::{Recorder, Var};
use crate::error::{Error, Result};
use crate::kernel::{Combine, LossScale, Rows, View};
use crate::tensor::Precision;

impl Recorder {
    /// The gradient recorded so far for `var`, if any launch gave it one.
    pub fn gradient(&self, var: Var) -> Option<View> {
        self.gradients.get(&self.original(var).key()).copied()
    }

    /// What a copy for products is a copy of.
    pub(super) fn original(&self, var: Var) -> Var {
        self.originals.get(&var.key()).copied().unwrap_or(var)
    }

    /// Where to write a gradient of `var`, and whether to add to what is there. `None` where `var`
    /// needs none.
    ///
    /// # Errors
    /// A size beyond 32 bits.
    pub fn gradient_target(&mut self, var: Var) -> Result<Option<(View, bool)>> {
        let var = self.original(var);
        if !var.needs_gradient {
            return Ok(None);
        }
        if let Some(&view) = self.gradients.get(&var.key()) {
            return Ok(Some((view, true)));
        }
        let what = format!("d.{}", self.recording.get(var.view.buffer).name);
        let dtype = self.dtype(var.view);
        let view = self.temporary_of(&what, [var.rows, var.columns], dtype)?.view;
        self.gradients.insert(var.key(), view);
        Ok(Some((view, false)))
    }

    /// Where to write the gradients of two matrices that one product gives: none where neither needs one, and
    /// room that nothing reads for one that needs none where the other does.
    ///
    /// # Errors
    /// A size beyond 32 bits.
    pub(crate) fn gradient_targets(&mut self, pair: [Var; 2]) -> Result<Option<[(View, bool); 2]>> {
        let (a, b) = (self.gradient_target(pair[0])?, self.gradient_target(pair[1])?);
        Ok(match (a, b) {
            (None, None) => None,
            (a, b) => Some([
                a.map_or_else(|| self.unread_target(pair[0]), Ok)?,
                b.map_or_else(|| self.unread_target(pair[1]), Ok)?,
            ]),
        })
    }

    fn unread_target(&mut self, var: Var) -> Result<(View, bool)> {
        let var = self.original(var);
        if let Some(&view) = self.unread.get(&var.key()) {
            return Ok((view, true));
        }
        let view = self.temporary_of("unread", [var.rows, var.columns], self.dtype(var.view))?.view;
        self.unread.insert(var.key(), view);
        Ok((view, false))
    }

    /// Adds a matrix to the gradient of `var`: how a host seeds backward. With 16-bit activations it is
    /// multiplied with the loss scale, as the gradients of losses are.
    ///
    /// # Errors
    /// Unequal sizes.
    pub fn seed_gradient(&mut self, var: Var, seed: Var) -> Result<()> {
        let scale = self.loss_scale()?;
        self.contribute(var, seed, scale)
    }

    /// Adds a matrix that is a gradient already to that of `var`.
    pub(crate) fn add_gradient(&mut self, var: Var, gradient: Var) -> Result<()> {
        self.contribute(var, gradient, None)
    }

    fn contribute(&mut self, var: Var, from: Var, scale: Option<View>) -> Result<()> {
        if var.view.len != from.view.len {
            return Err(Error::shape("gradient", &[var.view.len], &[from.view.len]));
        }
        let Some((target, accumulate)) = self.gradient_target(var)? else { return Ok(()) };
        let n = from.view.len;
        let op = Combine::copy([1, n], Rows::new(from.view, n), Rows::new(target, n));
        let op = Combine { scaled: scale.is_some(), ..op.accumulating(accumulate) };
        let views: Vec<View> = [from.view, target].into_iter().chain(scale).collect();
        self.launch(op, &views)
    }

    /// The state of dynamic loss scaling ([`LossScale`]): all gradients are times its scale, so that small
    /// ones are not lost in 16 bits. None where activations are f32.
    ///
    /// # Errors
    /// Its name is taken.
    pub fn loss_scale(&mut self) -> Result<Option<View>> {
        if self.precision == Precision::F32 {
            return Ok(None);
        }
        if let Some(view) = self.loss_scale {
            return Ok(Some(view));
        }
        let view = self.state(LossScale::NAME, [1, LossScale::WORDS])?.view;
        self.loss_scale = Some(view);
        Ok(Some(view))
    }
}
