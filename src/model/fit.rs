//! A model with the samples it is trained on.

use super::samples::Content;
use super::shape::{Shapes, TARGETS, cut};
use super::{Form, IGNORE, Model, Samples, Sequences, Trained};
use crate::data::{Batch, Buckets, Draw, Passes, random};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::layer::Recurrent;
use crate::loss::{Asks, CrossEntropyOptions, Loss, Objective, Target};
use crate::optim::averaged;
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;
use crate::train::{Event, Feed, Phase, Task, TrainOptions, Trainer};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Shapes of batches, where nothing else was asked for.
const SHAPES: usize = 4;
/// Rows of a batch, where nothing else was asked for.
const BATCH: usize = 32;

/// A model with the samples it is trained on: what a [`Trainer`] runs, or [`Fit::run`] at once.
///
/// ```
/// use recurra::model::{Fit, Samples, Sequences, Sequential, Targets};
/// use recurra::{Engine, Loss, train::{TrainOptions, Trainer}};
/// # fn main() -> recurra::Result<()> {
/// // The running sum of each sequence, one value a step.
/// let list: Vec<Vec<f32>> = (0..20).map(|i| (0..3 + i % 4).map(|t| ((i + t) % 3) as f32 - 1.0).collect()).collect();
/// let sums = list.iter().map(|x| x.iter().scan(0.0, |sum, x| { *sum += x; Some(*sum) }).collect()).collect();
/// let samples = Samples::new(Sequences::values(1, list), Targets::values(1, sums))?;
/// let (training, held_out) = samples.split(0.2, 1)?;
/// let model = Sequential::values(1).gru(8).linear(1).build()?;
///
/// let loss = Loss::Huber { delta: 1.0 };
/// let fit = Fit::new(&model, &training)?.with_validation(&held_out)?.with_loss(&loss).with_batch(8)?;
/// let engine = Engine::cpu(Some(1))?;
/// let options = TrainOptions::new(fit.steps(5));
/// // At once, or with a trainer in hand.
/// let trained = fit.run(&engine, options.clone(), |_| Ok(()))?;
/// assert!(trained.validation.len() > 1);
/// let mut trainer = Trainer::new(&engine, &fit, options, None)?;
/// trainer.run(None, |_| Ok(()))?;
/// # Ok(())
/// # }
/// ```
pub struct Fit<'a> {
    model: &'a Model,
    training: Part<'a>,
    validation: Option<Part<'a>>,
    loss: Option<&'a dyn Objective>,
    batch: usize,
    shapes: usize,
    /// Batches of short sequences have no more rows than those of the longest.
    equal: bool,
    unread: Unread<'a>,
    /// Inputs of the loss, the same at every batch.
    constants: Vec<(String, Vec<f32>)>,
}

struct Part<'a> {
    samples: &'a Samples,
    shapes: Shapes,
    passes: Passes,
    /// In order of their lengths.
    batches: Vec<Batch>,
}

impl<'a> Part<'a> {
    fn new(samples: &'a Samples, batch: usize, most: usize, equal: bool) -> Result<Self> {
        let buckets = cut(&samples.lengths, batch, most, equal)?;
        let shapes = Shapes::of(&buckets, &samples.lengths);
        let batches = buckets.in_order();
        Ok(Part { samples, shapes, passes: Passes::new(buckets), batches })
    }
}

/// Tokens that training reads as another one: the share of them, which one, and those that stay.
#[derive(Clone, Copy)]
struct Unread<'a> {
    rate: f32,
    unknown: u32,
    kept: &'a [u32],
}

impl<'a> Fit<'a> {
    /// Batches of 32 rows of the longest sequences, and more of shorter ones, in four shapes at most. The loss is
    /// cross-entropy of classes (in nats), or the mean square of values.
    ///
    /// # Errors
    /// No sequence that is not empty; inputs of another kind or width than the model's; targets of another form.
    pub fn new(model: &'a Model, training: &'a Samples) -> Result<Self> {
        let part = model.check(training).and_then(|_| Part::new(training, BATCH, SHAPES, false));
        let training = part.map_err(|error| of_samples("training", error))?;
        Ok(Fit {
            model,
            training,
            validation: None,
            loss: None,
            batch: BATCH,
            shapes: SHAPES,
            equal: false,
            unread: Unread { rate: 0.0, unknown: 0, kept: &[] },
            constants: Vec::new(),
        })
    }

    /// Samples to validate with: the weights that do best there are kept.
    ///
    /// # Errors
    /// As [`Fit::new`].
    pub fn with_validation(mut self, samples: &'a Samples) -> Result<Self> {
        let part = self.model.check(samples);
        let part = part.and_then(|_| Part::new(samples, self.batch, self.shapes, self.equal));
        self.validation = Some(part.map_err(|error| of_samples("validation", error))?);
        Ok(self)
    }

    /// Another loss, one of your own among them. Its mask has the steps (or rows) that are there.
    pub fn with_loss(self, loss: &'a dyn Objective) -> Self {
        Fit { loss: Some(loss), ..self }
    }

    /// So many rows of the longest sequences in a batch.
    ///
    /// # Errors
    /// No row.
    pub fn with_batch(self, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("a batch has one row at least"));
        }
        let shapes = self.shapes;
        self.cut(batch, shapes)
    }

    /// So many shapes of batches at most. Each is prepared for the device by itself; more of them have less padding.
    /// Ensembles and micro-batches need one.
    ///
    /// # Errors
    /// No shape.
    pub fn with_shapes(self, shapes: usize) -> Result<Self> {
        if shapes == 0 {
            return Err(Error::invalid("batches have one shape at least"));
        }
        let batch = self.batch;
        self.cut(batch, shapes)
    }

    /// All batches have the same number of rows, those of short sequences too: then each sequence counts the same in a
    /// mean over the sequences of a batch.
    ///
    /// # Errors
    /// None.
    pub fn with_equal_rows(self) -> Result<Self> {
        let (batch, shapes) = (self.batch, self.shapes);
        Fit { equal: true, ..self }.cut(batch, shapes)
    }

    /// Each token of the training sequences is read as `unknown` with a probability, drawn anew in each pass, but not those
    /// that are `kept` (marks of an end): so the
    /// model learns what to make of words that it doesn't know, and relies on none alone (Iyyer 2015, "Deep unordered
    /// composition rivals syntactic methods", section 5, drops them).
    ///
    /// # Errors
    /// A rate outside \[0, 1); a model of values; a token that the model lacks.
    pub fn with_token_dropout(self, rate: f32, unknown: u32, kept: &'a [u32]) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::invalid(format!(
                "a share of {rate} of all tokens can't be dropped"
            )));
        }
        self.model.features.check(&Sequences::tokens(vec![vec![unknown]]))?;
        Ok(Fit { unread: Unread { rate, unknown, kept }, ..self })
    }

    /// An input that a loss of one's own records, the same at every batch; where it isn't recorded it isn't written.
    pub fn with_input(mut self, name: impl Into<String>, values: Vec<f32>) -> Self {
        self.constants.push((name.into(), values));
        self
    }

    fn cut(self, batch: usize, shapes: usize) -> Result<Self> {
        let equal = self.equal;
        let again = |part: &Part<'a>| Part::new(part.samples, batch, shapes, equal);
        let training = again(&self.training)?;
        let validation = self.validation.as_ref().map(again).transpose()?;
        Ok(Fit { training, validation, batch, shapes, ..self })
    }

    /// The batches' shapes, and the share of padding in them.
    pub fn buckets(&self) -> &Buckets {
        self.training.passes.buckets()
    }

    /// Steps of so many passes over the training samples, for [`TrainOptions::new`].
    pub fn steps(&self, passes: u64) -> u64 {
        passes * self.batches_per_epoch()
    }

    /// Trains, and gives the weights of the best evaluation (without validation the last ones). `on_event` is told what
    /// happens and may end it by an error.
    ///
    /// # Errors
    /// What the device refuses; a loss or a weight that is no number any more; an engine for an ensemble, which a
    /// [`Trainer`] is for; before the first step, targets that the loss can't be of: classes beyond the model's width,
    /// values of another width, or outside the loss's range ([`Objective::asks`](crate::loss::Objective::asks)).
    pub fn run(
        &self,
        engine: &Engine,
        options: TrainOptions,
        mut on_event: impl FnMut(&Event) -> Result<()>,
    ) -> Result<Trained<'a>> {
        if engine.members() > 1 {
            return Err(Error::invalid("one model is fitted here; a Trainer trains ensembles"));
        }
        let model = self.model;
        let (mut losses, mut validation) = (Vec::new(), Vec::new());
        let mut trainer = Trainer::new(engine, self, options, None)?;
        trainer.run(None, |event| {
            match event {
                Event::Losses(progress, more) => {
                    let first = progress.step + 1 - more.len() as u64;
                    losses.extend((first..).zip(more.iter().map(|loss| loss.mean())));
                }
                Event::Validation(progress, loss) => validation.push((progress.step, loss.mean())),
                _ => {}
            }
            on_event(event)
        })?;
        let mut weights = trainer.best_weights().clone();
        let mut step = trainer.state().best.first().map_or(0, |best| best.step);
        if weights.is_empty() {
            step = trainer.step();
            // Nothing was evaluated: the last ones, or their averages where there are some.
            let mut all = trainer.checkpoint()?.tensors;
            all.extend(averaged(&all, ""));
            for (name, shape) in model.parameter_shapes() {
                let tensor = all.get(name).ok_or_else(|| Error::Missing {
                    tensor: name.clone(),
                    place: "the checkpoint".to_string(),
                })?;
                let tensor = tensor.to_shape(shape.clone());
                let tensor = tensor.map_err(|e| Error::invalid(format!("'{name}': {e}")))?;
                weights.insert(name.clone(), tensor.into_owned());
            }
        }
        // The last step may have broken what its loss, from before it, doesn't show.
        trainer.require_numbers(&weights, step)?;
        Ok(Trained { model, weights, losses, validation })
    }

    /// Whether the targets are what the loss is of. Not before the loss is known, and the host has all of them before
    /// the first step.
    fn check_targets(&self) -> Result<()> {
        let parts = [(Some(&self.training), "training"), (self.validation.as_ref(), "validation")];
        for (part, whose) in parts {
            let Some(Part { samples, .. }) = part else { continue };
            let asks = match (self.loss, &samples.targets.content) {
                (Some(loss), _) => loss.asks(),
                (None, Content::Ids(_)) => {
                    Asks { classes: true, ignore: Some(IGNORE), ..Asks::default() }
                }
                (None, Content::Values { .. }) => Loss::MeanSquared.asks(),
            };
            let checked = samples.check_targets(&asks, self.model.width);
            checked.map_err(|error| of_samples(whose, error))?;
        }
        Ok(())
    }

    fn part(&self, phase: Phase) -> &Part<'a> {
        match (&self.validation, phase) {
            (Some(validation), Phase::Validation) => validation,
            _ => &self.training,
        }
    }

    /// `drawn`: decides which tokens of a training batch aren't read.
    fn batch(&self, phase: Phase, batch: &Batch, mut drawn: ChaCha8Rng) -> Feed {
        let Part { samples, shapes, .. } = self.part(phase);
        let Unread { rate, unknown, kept } = self.unread;
        let mut feed = match &samples.inputs.0 {
            Content::Ids(list) if phase == Phase::Training && rate > 0.0 => {
                let mut some = |&id: &u32| {
                    let dropped = drawn.random::<f32>() < rate && !kept.contains(&id);
                    if dropped { unknown } else { id }
                };
                let read = |&row: &usize| list[row].iter().map(&mut some).collect();
                let rows: Vec<Vec<u32>> = batch.rows.iter().map(read).collect();
                let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
                // The same batch, its rows counted from the first.
                let own = Batch { shape: batch.shape, rows: (0..rows.len()).collect() };
                shapes.feed(&Sequences(Content::Ids(rows)), &lengths, &own)
            }
            _ => shapes.feed(&samples.inputs, &samples.lengths, batch),
        };
        for (name, values) in &self.constants {
            feed.put_if_recorded(name.clone(), values.clone());
        }
        feed.put(TARGETS, shapes.targets(samples, batch));
        feed
    }
}

/// An error with whose samples it is about.
fn of_samples(whose: &str, error: Error) -> Error {
    Error::invalid(format!("the {whose} samples: {error}"))
}

impl Model {
    /// Trains on samples, with the loss that [`Fit::new`] chooses, and validates with others where there are some.
    /// [`Fit`] has more to say.
    ///
    /// # Errors
    /// As [`Fit::new`] and [`Fit::run`].
    pub fn fit(
        &self,
        engine: &Engine,
        training: &Samples,
        validation: Option<&Samples>,
        options: TrainOptions,
    ) -> Result<Trained<'_>> {
        let mut fit = Fit::new(self, training)?;
        if let Some(samples) = validation {
            fit = fit.with_validation(samples)?;
        }
        let Trained { weights, losses, validation, .. } = fit.run(engine, options, |_| Ok(()))?;
        Ok(Trained { model: self, weights, losses, validation })
    }

    /// Whether samples are this model's.
    fn check(&self, samples: &Samples) -> Result<()> {
        self.features.check(&samples.inputs)?;
        if self.form != samples.targets.form {
            let words = |form| match form {
                Form::Steps => "one a step",
                Form::Rows => "one a sequence",
            };
            let (gives, wanted) = (words(self.form), words(samples.targets.form));
            return Err(Error::invalid(format!(
                "the model gives rows, {gives}; targets are {wanted}"
            )));
        }
        Ok(())
    }
}

impl Task for Fit<'_> {
    fn record(&self, rec: &mut Recorder, phase: Phase, shape: usize) -> Result<()> {
        if phase == Phase::Training && shape == 0 {
            self.check_targets()?;
        }
        let Part { samples, shapes, .. } = self.part(phase);
        let flow = shapes.record(rec, self.model, shape)?;
        let (prediction, flags) = (flow.rows()?, flow.flags(rec)?);
        let targets = &samples.targets;
        let target = match &targets.content {
            Content::Ids(_) => Target::Classes(rec.input_ids(TARGETS, prediction.rows)?),
            Content::Values { width, .. } => {
                Target::Values(rec.input(TARGETS, [prediction.rows, *width], false)?.view)
            }
        };
        if let Some(loss) = self.loss {
            return loss.record(rec, prediction, target, flags);
        }
        let loss = match target {
            Target::Classes(_) => {
                let ignore = targets.ignores().then_some(IGNORE);
                Loss::CrossEntropy(CrossEntropyOptions { ignore, ..CrossEntropyOptions::default() })
            }
            Target::Values(_) => Loss::MeanSquared,
        };
        loss.record(rec, prediction, target, flags)
    }

    fn shapes(&self, phase: Phase) -> usize {
        self.part(phase).shapes.sizes.len()
    }

    fn initial_weights(&self, seed: u64) -> NamedTensors {
        // What is missing, or of another shape, is found out when the weights are set.
        self.model.draw(seed)
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.model.parameter_shapes().clone()
    }

    fn batches_per_epoch(&self) -> u64 {
        self.training.batches.len() as u64
    }

    fn feed(&self, phase: Phase, batch: u64, seed: u64) -> Result<Feed> {
        let part = self.part(phase);
        let drawn = random(Draw::Tokens, seed, batch);
        Ok(match phase {
            Phase::Training => self.batch(phase, &part.passes.batch(batch, seed), drawn),
            Phase::Validation => self.batch(phase, &part.batches[batch as usize], drawn),
        })
    }

    fn validation_batches(&self) -> u64 {
        self.validation.as_ref().map_or(0, |part| part.batches.len() as u64)
    }

    fn validation_weight(&self, batch: u64) -> f64 {
        let part = self.part(Phase::Validation);
        let ignored = self.loss.and_then(|loss| loss.asks().ignore);
        part.samples.weight(&part.batches[batch as usize], ignored)
    }

    fn symbols_per_batch(&self) -> u64 {
        let steps: usize = self.training.samples.lengths.iter().sum();
        (steps / self.training.batches.len().max(1)) as u64
    }

    fn symbol(&self) -> &'static str {
        "step"
    }

    fn recurrent(&self) -> Vec<&Recurrent> {
        self.model.recurrent()
    }
}
