//! What a layer of a model is.

use super::{Flow, Form};
use crate::error::{Error, Result};
use crate::layer::{
    Direction, Embedding, InitialState, Initializer, Linear, Merge, Recurrent, RecurrentInit,
};
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;

/// A layer of a model. Implement it for a layer of your own: record launches on the [`Recorder`], and, with
/// [`Recorder::on_backward`], how the gradient of what comes out becomes one of what came in.
///
/// ```
/// use recurra::layer::Initializer;
/// use recurra::model::{Flow, Layer, Sequential};
/// use recurra::{Linear, NamedTensors, Recorder, Result};
///
/// /// x + tanh(W·x + b), from layers that know their gradients.
/// struct Residual(Linear);
///
/// impl Layer for Residual {
///     fn name(&self) -> &str {
///         &self.0.name
///     }
///     fn describe(&self) -> String {
///         format!("residual {}", self.0.input)
///     }
///     fn parameters(&self) -> Vec<(String, Vec<usize>)> {
///         Layer::parameters(&self.0)
///     }
///     fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
///         self.0.init(generator, into);
///     }
///     fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
///         let x = flow.rows()?;
///         let f = self.0.record(rec, x)?;
///         let y = rec.temporary("residual", [x.rows, x.columns])?;
///         rec.copy(x, y)?;
///         rec.add(f.view, y.view)?;
///         rec.on_backward(move |rec| {
///             let Some(dy) = rec.gradient(y) else { return Ok(()) };
///             for part in [x, f] {
///                 if let Some((d, accumulate)) = rec.gradient_target(part)? {
///                     if !accumulate {
///                         rec.fill(d, 0.0)?;
///                     }
///                     rec.add(dy, d)?;
///                 }
///             }
///             Ok(())
///         });
///         flow.with(y)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let layer = Residual(Linear { activation: Some(recurra::kernel::Activation::Tanh), ..Linear::new("own", 8, 8) });
/// let model = Sequential::values(2).lstm(8).layer(layer).last_step().linear(1).build()?;
/// assert_eq!(model.parameter_shapes()["own.weight"], [8, 8]);
/// # Ok(())
/// # }
/// ```
pub trait Layer: Send + Sync {
    /// What errors and the summary call it; names of parameters begin with it.
    fn name(&self) -> &str;

    /// Its kind and sizes in a few words, as in `linear 64 → 3`. A saved model says so of itself, and is loaded
    /// only where the same is said.
    fn describe(&self) -> String;

    /// The shapes of its parameters, by their names.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        Vec::new()
    }

    /// Whether its own options make sense, before its parameters are listed or anything is recorded.
    ///
    /// # Errors
    /// The option that does not.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Initial values of all its parameters.
    fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        let _ = (generator, into);
    }

    /// Records the layer.
    ///
    /// # Errors
    /// What comes in has another width or form than it needs.
    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow>;

    /// Its recurrent layers, for the [`Microscope`](crate::train::Microscope).
    fn recurrent(&self) -> Vec<&Recurrent> {
        Vec::new()
    }
}

/// Values of the ids.
impl Layer for Embedding {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        format!("embedding {} → {}", self.vocabulary, self.width)
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        vec![(self.weight_name(), vec![self.vocabulary, self.width])]
    }

    fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        Embedding::init(self, generator, into);
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let y = Embedding::record(self, rec, flow.ids()?)?;
        flow.with(y)
    }
}

/// The same at every step, or once a sequence.
impl Layer for Linear {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let activation = self.activation.map_or(String::new(), |a| format!(", {a:?}"));
        let shared = self.shared.as_ref().map_or(String::new(), |name| format!(", by '{name}'"));
        format!("linear {} → {}{activation}{shared}", self.input, self.output)
    }

    /// Shared weights are their owner's.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let weight = (self.weight_name(), vec![self.output, self.input]);
        let bias = (format!("{}.bias", self.name), vec![self.output]);
        if self.shared.is_some() { vec![bias] } else { vec![weight, bias] }
    }

    fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        let owned = self.shared.as_ref().and_then(|name| into.get(name).cloned());
        Linear::init(self, generator, into);
        // A table that is read by an embedding too keeps its own start.
        if let (Some(name), Some(tensor)) = (&self.shared, owned) {
            into.insert(name.clone(), tensor);
        }
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let y = Linear::record(self, rec, flow.rows()?)?;
        flow.with(y)
    }
}

/// The outputs at all steps, from zeros, with PyTorch's initial weights.
impl Layer for Recurrent {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let layers = if self.layers > 1 { format!("{} x ", self.layers) } else { String::new() };
        let both = match self.direction.count() {
            1 if self.direction.is_reverse(0) => ", in reverse",
            1 => "",
            _ => ", both ways",
        };
        let width = self.output_width();
        let options = options_in_words(self);
        format!("{layers}{} {} → {width}{both}{options}", self.cell.name(), self.input)
    }

    fn check(&self) -> Result<()> {
        // What gets no values says so where it is recorded.
        Recurrent::check(&Recurrent { input: self.input.max(1), ..self.clone() })
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.all_parameters().into_iter().map(|p| (p.name, p.shape)).collect()
    }

    fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        Recurrent::init(self, generator, into);
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        if self.convolution.is_some() {
            return Err(Error::invalid("a model knows no places for a convolution"));
        }
        if self.batch_norm.is_some() {
            return Err(Error::invalid(
                "a model doesn't keep the running averages of a batch norm",
            ));
        }
        let x = flow.steps()?;
        let h = Recurrent::record(self, rec, x, flow.sequence(), &InitialState::Zero)?;
        flow.with(h.output).map(|flow| flow.behind(self.direction))
    }

    fn recurrent(&self) -> Vec<&Recurrent> {
        vec![self]
    }
}

/// The options that are not neutral and that inference hears: with others the same weights make something else.
fn options_in_words(stack: &Recurrent) -> String {
    let cell = &stack.cell;
    let merge = match stack.direction {
        Direction::Both(merge) if merge != Merge::Concat => format!("{merge:?}"),
        _ => String::new(),
    };
    let number = |name: &str, value: Option<f32>| value.map(|x| format!("{name} {x}"));
    let flag = |name: &str, is: bool| is.then(|| name.to_string());
    let activations = cell.activations.as_ref();
    let words = [
        (!merge.is_empty()).then(|| merge.to_lowercase()),
        flag("residual", stack.residual),
        flag("skip", stack.skip),
        flag("learned initial states", stack.learned_initial),
        (stack.heads > 1).then(|| format!("{} heads", stack.heads)),
        (stack.zoneout != [0.0; 2]).then(|| format!("zoneout {:?}", stack.zoneout)),
        flag("peepholes", cell.peepholes),
        flag("coupled", cell.coupled),
        number("clip", cell.clip),
        number("cell clip", cell.cell_clip),
        number("layer norm", cell.layer_norm),
        cell.projection.map(|width| format!("projection {width}")),
        activations.map(|of| {
            of.iter().map(|a| format!("{a:?}").to_lowercase()).collect::<Vec<_>>().join("+")
        }),
    ];
    words.into_iter().flatten().map(|word| format!(", {word}")).collect()
}

/// Recurrent layers with another start than PyTorch's.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The layers.
    pub recurrent: Recurrent,
    /// How their weights start.
    pub init: RecurrentInit,
}

impl Layer for Stack {
    fn name(&self) -> &str {
        &self.recurrent.name
    }

    fn describe(&self) -> String {
        self.recurrent.describe()
    }

    fn check(&self) -> Result<()> {
        Layer::check(&self.recurrent)
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        Layer::parameters(&self.recurrent)
    }

    fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        // Refused in `record`, if at all.
        let _ = self.recurrent.init_with(self.init, generator, into);
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let tiny = Recurrent {
            input: 1,
            hidden: self.recurrent.heads,
            layers: 1,
            ..self.recurrent.clone()
        };
        tiny.init_with(self.init, &mut Initializer::new(0), &mut NamedTensors::new())?;
        Layer::record(&self.recurrent, rec, flow)
    }

    fn recurrent(&self) -> Vec<&Recurrent> {
        vec![&self.recurrent]
    }
}

/// Each element is 0 with a probability in training, the others grow by as much (Srivastava 2014); in use nothing
/// changes.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The probability, in \[0, 1).
    pub rate: f32,
}

impl Layer for Dropout {
    fn name(&self) -> &str {
        "dropout"
    }

    /// Without the rate: it changes nothing of a trained model.
    fn describe(&self) -> String {
        "dropout".to_string()
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let y = rec.dropout(flow.rows()?, self.rate)?;
        flow.with(y)
    }
}

/// As a summary has it.
pub(super) fn form(form: Form, width: usize) -> String {
    match form {
        Form::Steps => format!("T x {width}"),
        Form::Rows => width.to_string(),
    }
}
