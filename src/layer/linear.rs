//! The affine layer.

use super::{Initializer, insert, positive};
use crate::error::{Error, Result};
use crate::kernel::{Activation, Matmul, Operand, Slope};
use crate::schedule::{Recorder, Var};
use crate::tensor::NamedTensors;

/// y = f(x·Wᵀ + b).
#[derive(Clone, Debug)]
pub struct Linear {
    /// The parameters are `{name}.weight` \[O, I\] and `{name}.bias` \[O\].
    pub name: String,
    /// I.
    pub input: usize,
    /// O.
    pub output: usize,
    /// f, computed with the product; none: y is the product.
    pub activation: Option<Activation>,
    /// Another layer's parameter \[O, I\] in place of `{name}.weight`: tied weights.
    pub shared: Option<String>,
}

impl Linear {
    /// Without an activation.
    pub fn new(name: impl Into<String>, input: usize, output: usize) -> Self {
        Linear { name: name.into(), input, output, activation: None, shared: None }
    }

    /// The name of the weights.
    pub fn weight_name(&self) -> String {
        self.shared.clone().unwrap_or_else(|| format!("{}.weight", self.name))
    }

    /// Initial weights as PyTorch's: U(±1/√I), the bias too. Shared weights start so as well, whatever their
    /// owner gave them before.
    pub fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        // A layer without inputs is refused when it is recorded; an infinite bias would only hide that.
        let bound = 1.0 / (self.input.max(1) as f32).sqrt();
        let weight = generator.uniform(self.output * self.input, bound);
        insert(into, self.weight_name(), &[self.output, self.input], weight);
        let bias = generator.uniform(self.output, bound);
        insert(into, format!("{}.bias", self.name), &[self.output], bias);
    }

    /// Records the layer over x \[N, I\]: \[N, O\].
    ///
    /// # Errors
    /// Another width of x, a size of zero, or an activation's parameter out of its range.
    pub fn record(&self, rec: &mut Recorder, x: Var) -> Result<Var> {
        positive("a linear layer's input", self.input)?;
        positive("a linear layer's output", self.output)?;
        let (n, i, o) = (x.rows, self.input, self.output);
        if x.columns != i {
            return Err(Error::shape(
                format!("input of '{}'", self.name),
                &[n, i],
                &[n, x.columns],
            ));
        }
        let w = rec.parameter(&self.weight_name(), [o, i])?;
        let w = rec.in_precision(w)?;
        let x = rec.in_precision(x)?;
        let b = rec.parameter(&format!("{}.bias", self.name), [1, o])?;
        let y = rec.temporary("linear", [n, o])?;
        let operands = [x.operand(), w.transposed(), y.operand()];
        let activation = self.activation;
        if let Some(activation) = activation {
            activation.check()?;
        }
        let [a, w_t, c] = operands;
        let op = Matmul::new([n, o, i], a, w_t, c).with_bias(b.view).with_activation(activation);
        rec.launch(op, &[a.view, w_t.view, c.view, b.view])?;
        // dy becomes the gradient of x·Wᵀ + b; dW = dyᵀ·x, db = dyᵀ·1, dx = dy·W.
        rec.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            if let Some(activation) = activation {
                rec.launch(Slope::new(activation, y.view, dy), &[y.view, dy])?;
            }
            if let Some([(dw, accumulate), db]) = rec.gradient_targets([w, b])? {
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
