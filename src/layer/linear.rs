//! The affine layer.

use super::{Initializer, insert, positive};
use crate::error::{Error, Result};
use crate::kernel::Operand;
use crate::schedule::{Recorder, Var};
use crate::tensor::NamedTensors;

/// y = x·Wᵀ + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The parameters are `{name}.weight` \[O, I\] and `{name}.bias` \[O\].
    pub name: String,
    /// I.
    pub input: usize,
    /// O.
    pub output: usize,
}

impl Linear {
    /// Initial weights as PyTorch's: U(±1/√I), the bias too.
    pub fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        let bound = 1.0 / (self.input as f32).sqrt();
        let weight = generator.uniform(self.output * self.input, bound);
        insert(into, format!("{}.weight", self.name), &[self.output, self.input], weight);
        let bias = generator.uniform(self.output, bound);
        insert(into, format!("{}.bias", self.name), &[self.output], bias);
    }

    /// Records the layer over x \[N, I\]: \[N, O\].
    ///
    /// # Errors
    /// Another width of x, or a size of zero.
    pub fn record(&self, rec: &mut Recorder, x: Var) -> Result<Var> {
        positive("a linear layer's output", self.output)?;
        let (n, i, o) = (x.rows, self.input, self.output);
        if x.columns != i {
            return Err(Error::shape(
                format!("input of '{}'", self.name),
                &[n, i],
                &[n, x.columns],
            ));
        }
        let w = rec.parameter(&format!("{}.weight", self.name), [o, i])?;
        let w = rec.in_precision(w)?;
        let x = rec.in_precision(x)?;
        let b = rec.parameter(&format!("{}.bias", self.name), [1, o])?;
        let y = rec.temporary("linear", [n, o])?;
        let operands = [x.operand(), w.transposed(), y.operand()];
        rec.product([n, o, i], operands, Some(b.view), None, false)?;
        // dW = dyᵀ·x, db = dyᵀ·1, dx = dy·W.
        rec.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            if let (Some((dw, accumulate)), Some((db, _))) =
                (rec.gradient_target(w)?, rec.gradient_target(b)?)
            {
                let operands = [Operand::transposed(dy, o), x.operand(), Operand::new(dw, i)];
                rec.product([o, i, n], operands, None, Some(db), accumulate)?;
            }
            if let Some((dx, accumulate)) = rec.gradient_target(x)? {
                let operands = [Operand::new(dy, o), w.operand(), Operand::new(dx, i)];
                rec.product([n, i, o], operands, None, None, accumulate)?;
            }
            Ok(())
        });
        Ok(y)
    }
}
