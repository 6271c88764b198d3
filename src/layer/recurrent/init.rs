//! Initial weights, as the frameworks make them.

use super::Recurrent;
use crate::error::{Error, Result};
use crate::kernel::CellKind;
use crate::layer::{Initializer, insert};
use crate::tensor::NamedTensors;

/// How a weight matrix \[G·H, K\] starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightInit {
    /// U(±1/√H) (PyTorch).
    Uniform,
    /// U(±√(6/(K + G·H))) (Glorot and Bengio 2010; Keras, over the whole kernel).
    GlorotUniform,
    /// N(0, 1/K), cut at two deviations and scaled to keep the variance (LeCun 1998; Flax).
    LecunNormal,
    /// Orthonormal columns, or rows where there are fewer of these, over all gates together (Saxe
    /// 2014; Keras).
    Orthogonal,
    /// The same for each gate by itself (Flax).
    OrthogonalPerGate,
}

/// Where an LSTM's forget gate starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ForgetBias {
    /// Where the other biases do.
    None,
    /// At a value, in `bias_ih` alone (Jozefowicz 2015).
    Value(f32),
    /// At log U(1, longest − 1), and the input gate at its negative, so that the gates remember over
    /// times of up to `longest` steps (Tallec and Ollivier 2018). A GRU's z has the same.
    Chrono {
        /// The longest dependency in steps, above 2.
        longest: f32,
    },
}

/// How a stack's parameters start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentInit {
    /// weight_ih.
    pub input: WeightInit,
    /// weight_hh.
    pub recurrent: WeightInit,
    /// The biases are U(±1/√H), as PyTorch's; else 0.
    pub uniform_bias: bool,
    /// The forget gate's bias.
    pub forget: ForgetBias,
}

impl RecurrentInit {
    /// U(±1/√H) everywhere.
    pub const PYTORCH: RecurrentInit = RecurrentInit {
        input: WeightInit::Uniform,
        recurrent: WeightInit::Uniform,
        uniform_bias: true,
        forget: ForgetBias::None,
    };
    /// Glorot uniform, orthogonal over the whole recurrent kernel, forget bias 1.
    pub const KERAS: RecurrentInit = RecurrentInit {
        input: WeightInit::GlorotUniform,
        recurrent: WeightInit::Orthogonal,
        uniform_bias: false,
        forget: ForgetBias::Value(1.0),
    };
    /// LeCun normal, orthogonal for each gate, biases 0.
    pub const FLAX: RecurrentInit = RecurrentInit {
        input: WeightInit::LecunNormal,
        recurrent: WeightInit::OrthogonalPerGate,
        uniform_bias: false,
        forget: ForgetBias::None,
    };
}

impl Recurrent {
    /// Initial weights as PyTorch's: U(±1/√H), the biases too. Gains of norms start at 1, learned initial states at 0
    /// (an sLSTM's n at 1). Of a stack that [`Recurrent::check`] refuses it makes nothing.
    pub fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        // A stack that is refused here is refused again, in words, where it is recorded.
        let _ = self.init_with(RecurrentInit::PYTORCH, generator, into);
    }

    /// Initial weights of another kind.
    ///
    /// # Errors
    /// What [`Recurrent::check`] refuses; a forget bias for a cell without such a gate, or of a length that is not
    /// above 2.
    pub fn init_with(
        &self,
        init: RecurrentInit,
        generator: &mut Initializer,
        into: &mut NamedTensors,
    ) -> Result<()> {
        self.check()?;
        self.check_forget(init.forget)?;
        let bound = 1.0 / (self.hidden as f32).sqrt();
        for parameter in self.all_parameters() {
            let own = parameter.name.strip_prefix(&self.name).unwrap_or_default();
            let n: usize = parameter.shape.iter().product();
            let mut values = match own.trim_start_matches('.') {
                name if name.starts_with("norm_cell_bias") => vec![0.0; n],
                name if name.starts_with("initial") => self.initial(),
                name if name.starts_with("norm_") || name.starts_with("batch_norm_") => {
                    vec![1.0; n]
                }
                name if name.starts_with("bias_") && !init.uniform_bias => vec![0.0; n],
                name if name.starts_with("weight_ih") => {
                    self.weight(init.input, generator, &parameter.shape, bound)
                }
                name if name.starts_with("weight_hh") => {
                    self.weight(init.recurrent, generator, &parameter.shape, bound)
                }
                _ => generator.uniform(n, bound),
            };
            if own.starts_with(".bias_ih") {
                self.set_forget(init.forget, generator, &mut values);
            }
            insert(into, parameter.name, &parameter.shape, values);
        }
        Ok(())
    }

    /// Learned initial states as they start: zeros. An sLSTM whose n is 0 is empty: it forgets its c and m whatever they
    /// are, so that they would have no gradient ever. With n = 1 and c = m = 0 it has a past of zeros that weighs as
    /// much as one step with an input gate of e^0.
    fn initial(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.cell.state_words(self.hidden)];
        if self.cell.kind == CellKind::Slstm {
            // h, c, n, m.
            values[2 * self.hidden..3 * self.hidden].fill(1.0);
        }
        values
    }

    fn check_forget(&self, forget: ForgetBias) -> Result<()> {
        let name = self.cell.name();
        let lstm = matches!(self.cell.kind, CellKind::Lstm | CellKind::Slstm) && !self.cell.coupled;
        match forget {
            ForgetBias::Value(_) if !lstm && self.cell.kind == CellKind::Lstm => {
                Err(Error::invalid(format!("cell {name} with coupled gates has no forget gate")))
            }
            ForgetBias::Chrono { longest } if longest.is_nan() || longest <= 2.0 => Err(
                Error::invalid(format!("chrono: the longest time must be above 2, not {longest}")),
            ),
            ForgetBias::Chrono { .. }
                if !lstm && !matches!(self.cell.kind, CellKind::Gru | CellKind::GruResetBefore) =>
            {
                Err(Error::invalid(format!("cell {name} has no gates for a chrono start")))
            }
            _ => Ok(()),
        }
    }

    /// A value is for LSTMs; other cells keep their biases, as Keras' do.
    fn set_forget(&self, forget: ForgetBias, generator: &mut Initializer, bias: &mut [f32]) {
        let h = self.hidden;
        let lstm = matches!(self.cell.kind, CellKind::Lstm | CellKind::Slstm);
        match forget {
            ForgetBias::Value(value) if lstm => bias[h..2 * h].fill(value),
            ForgetBias::Chrono { longest } => {
                for j in 0..h {
                    let u = generator.uniform(1, 0.5)[0] + 0.5;
                    let time = (1.0 + u * (longest - 2.0)).ln();
                    bias[h + j] = time;
                    if lstm {
                        bias[j] = -time;
                    }
                }
            }
            _ => {}
        }
    }

    fn weight(
        &self,
        init: WeightInit,
        generator: &mut Initializer,
        shape: &[usize],
        bound: f32,
    ) -> Vec<f32> {
        let (rows, columns) = (shape[0], shape[1]);
        match init {
            WeightInit::Uniform => generator.uniform(rows * columns, bound),
            WeightInit::GlorotUniform => {
                generator.uniform(rows * columns, (6.0 / (rows + columns) as f32).sqrt())
            }
            WeightInit::LecunNormal => {
                // The deviation of a unit normal that is cut at 2.
                const CUT: f32 = 0.879_625_7;
                let deviation = (1.0 / columns as f32).sqrt() / CUT;
                (0..rows * columns).map(|_| generator.cut_normal() * deviation).collect()
            }
            WeightInit::Orthogonal => generator.orthogonal(rows, columns),
            WeightInit::OrthogonalPerGate => {
                let gates = self.cell.gates();
                (0..gates).flat_map(|_| generator.orthogonal(rows / gates, columns)).collect()
            }
        }
    }
}
