//! A trained model that is loaded once and predicts many times.

use super::samples::Content;
use super::sequential::Features;
use super::shape::Shapes;
use super::trained::likeliest;
use super::{Form, Model, Sequences};
use crate::data::Batch;
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;
use crate::train::load_recording_into;
use crate::wait;

/// What a program needs to know of its model.
#[derive(Clone, Copy)]
struct Gives {
    form: Form,
    width: usize,
}

/// A model over batches of one shape, loaded.
pub(super) struct Loaded {
    program: Program,
    output: BufferId,
    gives: Gives,
}

impl Loaded {
    /// `store` receives the weights.
    pub fn new(
        engine: &Engine,
        store: &Store,
        model: &Model,
        weights: &NamedTensors,
        shapes: &Shapes,
        shape: usize,
    ) -> Result<Self> {
        let mut rec = Recorder::inference();
        let flow = shapes.record(&mut rec, model, shape)?;
        let output = flow.rows()?;
        let output = rec.output("output", output)?.view.buffer;
        let program = load_recording_into(engine, rec, weights, store)?;
        Ok(Loaded { program, output, gives: Gives { form: model.form, width: model.width } })
    }

    /// Puts what the model gives for each of a batch's sequences into `all`.
    pub async fn predict(
        &mut self,
        shapes: &Shapes,
        sequences: &Sequences,
        lengths: &[usize],
        batch: &Batch,
        all: &mut [Vec<f32>],
    ) -> Result<()> {
        shapes.feed(sequences, lengths, batch).write(&mut self.program.inputs())?;
        self.program.run()?;
        let output = self.program.read_async(self.output).await?;
        let (Gives { form, width }, [_, rows]) = (self.gives, shapes.sizes[batch.shape]);
        for (row, &sequence) in batch.rows.iter().enumerate() {
            let steps = if form == Form::Steps { lengths[sequence] } else { 1 };
            let step = |t: usize| &output[(t * rows + row) * width..][..width];
            all[sequence] = (0..steps).flat_map(step).copied().collect();
        }
        Ok(())
    }
}

/// A trained model on an engine, loaded for batches of given shapes \[T, B\]: for programs that predict again and again,
/// such as servers. Sequences go into batches of the smallest T that holds them; of several B for one T the
/// smallest that holds all that are left, or else the largest. It keeps nothing of the model or the weights that it was made from, but states that a
/// layer of one's own records it carries from call to call.
///
/// ```
/// use recurra::{Engine, model::{Sequences, Sequential}};
/// # fn main() -> recurra::Result<()> {
/// let model = Sequential::tokens(9).embedding(4).gru(8).last_step().linear(2).build()?;
/// let trained = model.with_weights(model.initial_weights(1)?)?;
/// // One row at a time, or up to 16; of 20 steps at most, or of 100.
/// let shapes = [[20, 1], [20, 16], [100, 1], [100, 16]];
/// let mut predictor = trained.predictor(&Engine::cpu(Some(1))?, &shapes)?;
/// let classes = predictor.predict_classes(&Sequences::tokens(vec![vec![3, 1], vec![7; 50]]))?;
/// assert_eq!(classes.len(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Predictor {
    features: Features,
    gives: Gives,
    shapes: Shapes,
    loaded: Vec<Loaded>,
}

impl Predictor {
    pub(super) fn new(
        engine: &Engine,
        model: &Model,
        weights: &NamedTensors,
        shapes: &[[usize; 2]],
    ) -> Result<Self> {
        if shapes.is_empty() || shapes.iter().flatten().any(|&size| size == 0) {
            return Err(Error::invalid(
                "a predictor has batches of one shape at least, of one step and one row at least",
            ));
        }
        let mut sizes = shapes.to_vec();
        sizes.sort();
        sizes.dedup();
        let shapes = Shapes::given(sizes);
        let store = engine.store();
        let load = |shape| Loaded::new(engine, &store, model, weights, &shapes, shape);
        let loaded = (0..shapes.sizes.len()).map(load).collect::<Result<_>>()?;
        let gives = Gives { form: model.form, width: model.width };
        Ok(Predictor { features: model.features, gives, shapes, loaded })
    }

    /// T and B of the batches it is loaded for, from the smallest on.
    pub fn shapes(&self) -> &[[usize; 2]] {
        &self.shapes.sizes
    }

    /// What the model gives for each sequence, as [`Trained::predict`](super::Trained::predict) does.
    ///
    /// # Errors
    /// Inputs of another kind or width than the model's; ids beyond its vocabulary; a sequence that is longer than the
    /// longest batch, which is named; the device failed.
    pub fn predict(&mut self, sequences: &Sequences) -> Result<Vec<Vec<f32>>> {
        wait::here(self.predict_async(sequences))
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub async fn predict_async(&mut self, sequences: &Sequences) -> Result<Vec<Vec<f32>>> {
        self.features.check(sequences)?;
        let lengths = sequences.lengths()?;
        let mut all = vec![Vec::new(); lengths.len()];
        for batch in batches(&self.shapes.sizes, &lengths)? {
            let loaded = &mut self.loaded[batch.shape];
            loaded.predict(&self.shapes, sequences, &lengths, &batch, &mut all).await?;
        }
        Ok(all)
    }

    /// The likeliest class of each step, or of each sequence, in the order given.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn predict_classes(&mut self, sequences: &Sequences) -> Result<Vec<Vec<u32>>> {
        wait::here(self.predict_classes_async(sequences))
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub async fn predict_classes_async(&mut self, sequences: &Sequences) -> Result<Vec<Vec<u32>>> {
        Ok(likeliest(&self.predict_async(sequences).await?, self.gives.width))
    }
}

/// Sequences that are not empty, in batches of sorted sizes \[T, B\].
fn batches(sizes: &[[usize; 2]], lengths: &[usize]) -> Result<Vec<Batch>> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&i| lengths[i] > 0).collect();
    order.sort_by_key(|&i| (lengths[i], i));
    let (mut list, mut rest, mut first) = (Vec::new(), &order[..], 0);
    for of_time in sizes.chunk_by(|a, b| a[0] == b[0]) {
        let fit = rest.partition_point(|&i| lengths[i] <= of_time[0][0]);
        let (mut own, longer) = rest.split_at(fit);
        while !own.is_empty() {
            let enough = of_time.iter().position(|&[_, batch]| batch >= own.len());
            let number = enough.unwrap_or(of_time.len() - 1);
            let (rows, others) = own.split_at(own.len().min(of_time[number][1]));
            list.push(Batch { shape: first + number, rows: rows.to_vec() });
            own = others;
        }
        (rest, first) = (longer, first + of_time.len());
    }
    match (rest.first(), sizes.last()) {
        (Some(&long), Some([longest, _])) => Err(Error::invalid(format!(
            "sequence {} has {} steps, more than the predictor's longest batch ({longest})",
            long + 1,
            lengths[long]
        ))),
        _ => Ok(list),
    }
}

impl Features {
    /// Whether sequences are of what a model reads.
    pub fn check(self, sequences: &Sequences) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid(what));
        match (self, &sequences.0) {
            (Features::Tokens(vocabulary), Content::Ids(list)) => {
                let beyond = |own: &Vec<u32>| own.iter().position(|&id| id as usize >= vocabulary);
                let mut found = list.iter().enumerate();
                match found.find_map(|(number, own)| Some((number, own, beyond(own)?))) {
                    Some((number, own, step)) => refuse(format!(
                        "sequence {}, step {}: token {} of a vocabulary of {vocabulary}",
                        number + 1,
                        step + 1,
                        own[step]
                    )),
                    None => Ok(()),
                }
            }
            (Features::Values(own), Content::Values { width, .. }) if own == *width => Ok(()),
            (Features::Values(own), Content::Values { width, .. }) => {
                refuse(format!("the model reads {own} values a step, not {width}"))
            }
            (Features::Tokens(_), _) => refuse("the model reads token ids, not values".to_string()),
            (Features::Values(_), _) => refuse("the model reads values, not token ids".to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_take_the_smallest_shapes() {
        let sizes = [[5, 1], [5, 4], [9, 2]];
        let cut = |lengths: &[usize]| {
            let list = batches(&sizes, lengths).unwrap();
            list.into_iter().map(|batch| (batch.shape, batch.rows)).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&[0, 3]), [(0, vec![1])]);
        assert_eq!(cut(&[9, 5, 6]), [(0, vec![1]), (2, vec![2, 0])]);
        assert_eq!(cut(&[5; 5]), [(1, vec![0, 1, 2, 3]), (0, vec![4])]);
        assert_eq!(cut(&[5, 6, 7, 8]), [(0, vec![0]), (2, vec![1, 2]), (2, vec![3])]);
        let error = batches(&sizes, &[1, 10, 12]).unwrap_err().to_string();
        assert!(error.contains("sequence 2 has 10 steps") && error.contains("(9)"), "{error}");
    }
}
