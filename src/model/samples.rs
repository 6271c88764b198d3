//! Sequences in memory, and what is wanted of them.

use super::Form;
use crate::error::{Error, Result};
use crate::loss::Asks;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A target class of steps whose loss doesn't count ([`Targets::classes`]).
pub const IGNORE: u32 = u32::MAX;

/// Rows of numbers, one or more rows a sequence.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Whole numbers, one a row.
    Ids(Vec<Vec<u32>>),
    /// `width` numbers a row.
    Values { width: usize, list: Vec<Vec<f32>> },
}

impl Content {
    pub fn len(&self) -> usize {
        match self {
            Content::Ids(list) => list.len(),
            Content::Values { list, .. } => list.len(),
        }
    }

    /// Rows of a sequence.
    pub fn rows(&self, sequence: usize) -> usize {
        match self {
            Content::Ids(list) => list[sequence].len(),
            Content::Values { width, list } => list[sequence].len() / width,
        }
    }

    fn check(&self, what: &str) -> Result<()> {
        let Content::Values { width, list } = self else { return Ok(()) };
        if *width == 0 {
            return Err(Error::invalid(format!("{what} must be at least one number wide")));
        }
        for (number, own) in list.iter().enumerate() {
            let place = format!("{what}, sequence {}", number + 1);
            if !own.len().is_multiple_of(*width) {
                let n = own.len();
                let why = format!("{place}: {n} numbers are no whole number of rows of {width}");
                return Err(Error::invalid(why));
            }
            if let Some(at) = own.iter().position(|x| !x.is_finite()) {
                let (row, value) = (at / width + 1, own[at]);
                return Err(Error::invalid(format!("{place}, row {row}: {value} is no number")));
            }
        }
        Ok(())
    }

    fn choose(&self, which: &[usize]) -> Self {
        match self {
            Content::Ids(list) => Content::Ids(which.iter().map(|&i| list[i].clone()).collect()),
            Content::Values { width, list } => {
                let list = which.iter().map(|&i| list[i].clone()).collect();
                Content::Values { width: *width, list }
            }
        }
    }
}

/// Sequences of steps, of different lengths: token ids, or rows of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequences(pub(super) Content);

impl Sequences {
    /// An id a step.
    pub fn tokens(list: Vec<Vec<u32>>) -> Self {
        Sequences(Content::Ids(list))
    }

    /// `width` values a step, the steps of a sequence one after the other.
    pub fn values(width: usize, list: Vec<Vec<f32>>) -> Self {
        Sequences(Content::Values { width, list })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The steps of each.
    ///
    /// # Errors
    /// Values that are no whole number of steps, or no numbers: the sequence is named.
    pub fn lengths(&self) -> Result<Vec<usize>> {
        self.0.check("the inputs")?;
        Ok((0..self.len()).map(|i| self.0.rows(i)).collect())
    }
}

/// What is wanted of sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    pub(super) content: Content,
    pub(super) form: Form,
}

impl Targets {
    /// A class a sequence.
    pub fn class(list: Vec<u32>) -> Self {
        let content = Content::Ids(list.into_iter().map(|class| vec![class]).collect());
        Targets { content, form: Form::Rows }
    }

    /// A class a step; steps of [`IGNORE`] don't count.
    pub fn classes(list: Vec<Vec<u32>>) -> Self {
        Targets { content: Content::Ids(list), form: Form::Steps }
    }

    /// `width` values a sequence.
    pub fn value(width: usize, list: Vec<Vec<f32>>) -> Self {
        Targets { content: Content::Values { width, list }, form: Form::Rows }
    }

    /// `width` values a step, the steps of a sequence one after the other.
    pub fn values(width: usize, list: Vec<Vec<f32>>) -> Self {
        Targets { content: Content::Values { width, list }, form: Form::Steps }
    }

    /// The classes of each sequence: one, or one a step. None where values are wanted.
    pub fn ids(&self) -> Option<&[Vec<u32>]> {
        match &self.content {
            Content::Ids(list) => Some(list),
            Content::Values { .. } => None,
        }
    }

    /// The values of each sequence, of all steps one after the other. None where classes are wanted.
    pub fn numbers(&self) -> Option<&[Vec<f32>]> {
        match &self.content {
            Content::Values { list, .. } => Some(list),
            Content::Ids(_) => None,
        }
    }

    /// Whether some steps don't count.
    pub(super) fn ignores(&self) -> bool {
        matches!(&self.content, Content::Ids(list) if list.iter().flatten().any(|&c| c == IGNORE))
    }

    /// Rows of a sequence that count: those of a class that isn't ignored.
    pub(super) fn counted(&self, sequence: usize, ignored: Option<u32>) -> usize {
        match &self.content {
            Content::Ids(list) => {
                let ignored = [IGNORE, ignored.unwrap_or(IGNORE)];
                list[sequence].iter().filter(|class| !ignored.contains(class)).count()
            }
            values => values.rows(sequence),
        }
    }
}

/// Sequences with what is wanted of them.
///
/// ```
/// use recurra::model::{Samples, Sequences, Targets};
/// # fn main() -> recurra::Result<()> {
/// // Two sequences of two values a step, of 3 and 1 steps, and a value wanted of each.
/// let inputs = Sequences::values(2, vec![vec![0.1, 0.0, 0.2, 1.0, 0.3, 0.0], vec![0.5, 1.0]]);
/// let samples = Samples::new(inputs, Targets::value(1, vec![vec![0.2], vec![0.5]]))?;
/// let (training, held_out) = samples.split(0.5, 1)?;
/// assert_eq!((training.len(), held_out.len()), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    pub(super) inputs: Sequences,
    pub(super) targets: Targets,
    pub(super) lengths: Vec<usize>,
}

impl Samples {
    /// Inputs and targets, in the same order.
    ///
    /// # Errors
    /// Another number of targets than of sequences; of a sequence other steps than targets of steps, or not one target;
    /// values that are no numbers: the sequence is named.
    pub fn new(inputs: Sequences, targets: Targets) -> Result<Self> {
        let lengths = inputs.lengths()?;
        targets.content.check("the targets")?;
        let (have, want) = (targets.content.len(), inputs.len());
        if have != want {
            return Err(Error::invalid(format!("there are {have} targets for {want} sequences")));
        }
        for (number, &steps) in lengths.iter().enumerate() {
            let rows = targets.content.rows(number);
            let wanted = if targets.form == Form::Steps { steps } else { 1 };
            if rows != wanted {
                let number = number + 1;
                let what =
                    format!("sequence {number} of {steps} steps has {rows} targets, not {wanted}");
                return Err(Error::invalid(what));
            }
        }
        Ok(Samples { inputs, targets, lengths })
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// The sequences.
    pub fn inputs(&self) -> &Sequences {
        &self.inputs
    }

    /// What is wanted of them.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// A part for training, and `held_out` of all to validate with, drawn from a seed. Either has
    /// one sequence at least.
    ///
    /// # Errors
    /// A share outside (0, 1); fewer than two sequences.
    pub fn split(&self, held_out: f32, seed: u64) -> Result<(Samples, Samples)> {
        if !(held_out > 0.0 && held_out < 1.0) || self.len() < 2 {
            let n = self.len();
            let what = format!("a share of {held_out} of {n} sequences can't be held out");
            return Err(Error::invalid(what));
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let count = (f64::from(held_out) * self.len() as f64).round() as usize;
        let (held, rest) = order.split_at(count.clamp(1, self.len() - 1));
        Ok((self.choose(rest), self.choose(held)))
    }

    /// Whether the targets are what a loss asks for, of a model that gives rows of `width`.
    ///
    /// # Errors
    /// The first sequence, and of several rows the row, whose target isn't; values of another width.
    pub(super) fn check_targets(&self, asks: &Asks, width: usize) -> Result<()> {
        let place = |sequence: usize, row: usize| match self.targets.form {
            Form::Steps => format!("sequence {}, step {}", sequence + 1, row + 1),
            Form::Rows => format!("sequence {}", sequence + 1),
        };
        match &self.targets.content {
            Content::Ids(list) if asks.classes => {
                let beyond = |id: &u32| *id as usize >= width && asks.ignore != Some(*id);
                for (sequence, own) in list.iter().enumerate() {
                    if let Some(row) = own.iter().position(beyond) {
                        let (place, class) = (place(sequence, row), own[row]);
                        return Err(Error::invalid(format!(
                            "{place}: class {class} of a model that gives {width} classes"
                        )));
                    }
                }
                Ok(())
            }
            Content::Ids(_) => Ok(()),
            Content::Values { width: wanted, list } => {
                if let Some(each) =
                    asks.predictions.filter(|each| wanted.checked_mul(*each) != Some(width))
                {
                    let of = if each == 1 { String::new() } else { format!(", {each} for each") };
                    return Err(Error::invalid(format!(
                        "{wanted} values are wanted of a model that gives rows of {width}{of}"
                    )));
                }
                let Some([least, most]) = asks.range else { return Ok(()) };
                for (sequence, own) in list.iter().enumerate() {
                    if let Some(at) = own.iter().position(|x| !(least..=most).contains(x)) {
                        let (place, value) = (place(sequence, at / wanted), own[at]);
                        return Err(Error::invalid(format!(
                            "{place}: a value of {value} is wanted, and the loss is of {least} to {most}"
                        )));
                    }
                }
                Ok(())
            }
        }
    }

    fn choose(&self, which: &[usize]) -> Self {
        Samples {
            inputs: Sequences(self.inputs.0.choose(which)),
            targets: Targets { content: self.targets.content.choose(which), ..self.targets },
            lengths: which.iter().map(|&i| self.lengths[i]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let refused = |inputs: Sequences, targets: Targets, words: &str| {
            let message = Samples::new(inputs, targets).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        let tokens = || Sequences::tokens(vec![vec![1, 2, 3], vec![4]]);
        refused(tokens(), Targets::class(vec![1]), "1 targets for 2 sequences");
        refused(
            tokens(),
            Targets::classes(vec![vec![1; 3], vec![1; 2]]),
            "sequence 2 of 1 steps has 2",
        );
        refused(
            tokens(),
            Targets::value(2, vec![vec![0.0; 2], vec![0.0; 4]]),
            "sequence 2 of 1 steps has 2",
        );
        refused(
            tokens(),
            Targets::value(2, vec![vec![0.0; 2], vec![0.0; 3]]),
            "targets, sequence 2: 3 numbers",
        );
        refused(
            tokens(),
            Targets::value(1, vec![vec![0.0], vec![f32::NAN]]),
            "sequence 2, row 1: NaN",
        );
        let values = |width, list| Sequences::values(width, vec![list, vec![]]);
        refused(
            values(2, vec![0.0; 3]),
            Targets::class(vec![0; 2]),
            "inputs, sequence 1: 3 numbers",
        );
        refused(values(0, vec![]), Targets::class(vec![0; 2]), "at least one number wide");
        refused(values(1, vec![0.0, f32::INFINITY]), Targets::class(vec![0; 2]), "row 2: inf");
        let samples = Samples::new(tokens(), Targets::class(vec![0, 1])).unwrap();
        for share in [0.0, 1.0, f32::NAN, -1.0] {
            assert!(samples.split(share, 1).is_err());
        }
    }

    #[test]
    fn a_split_keeps_targets_with_their_sequences() {
        let list = |i: u32| vec![i; 1 + i as usize % 4];
        let tokens = Sequences::tokens((0..20).map(list).collect());
        let samples = Samples::new(tokens, Targets::class((0..20).collect())).unwrap();
        let (training, held) = samples.split(0.25, 7).unwrap();
        assert_eq!((training.len(), held.len()), (15, 5));
        let mut seen = Vec::new();
        for part in [&training, &held] {
            let (Content::Ids(inputs), Content::Ids(targets)) =
                (&part.inputs.0, &part.targets.content)
            else {
                panic!("ids became values");
            };
            for ((input, target), &length) in inputs.iter().zip(targets).zip(&part.lengths) {
                assert_eq!((input, length), (&list(target[0]), input.len()));
                seen.push(target[0]);
            }
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..20));
        assert_eq!(samples.split(0.25, 7).unwrap(), (training, held));
        assert_ne!(samples.split(0.25, 8).unwrap().1, samples.split(0.25, 7).unwrap().1);
    }
}
