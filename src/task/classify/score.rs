//! How well classes are told apart, and what guessing would do.

use crate::error::{Error, Result};
use serde::Serialize;

/// Bins of confidence.
const BINS: usize = 10;
/// Buckets of lengths, at most.
const BUCKETS: usize = 6;

/// An interval of a share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// The interval of 95 % of a share of `right` of `all` (Wilson 1927, "Probable inference, the law of succession,
    /// and statistical inference").
    pub fn wilson(right: u64, all: u64) -> Self {
        const Z: f64 = 1.959_963_984_540_054;
        if all == 0 {
            return Interval { low: 0.0, high: 1.0 };
        }
        let (n, p) = (all as f64, right as f64 / all as f64);
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // Rounding may leave p outside where all are right, or none.
        let low = ((middle - half) / scale).clamp(0.0, p);
        Interval { low, high: ((middle + half) / scale).clamp(p, 1.0) }
    }
}

/// What guessing does: the class that was the most frequent in training for every sequence, and the shares of the
/// classes there as probabilities.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// The most frequent class.
    pub label: String,
    /// Of this class for all.
    pub accuracy: f64,
    /// Of this class for all.
    pub macro_f1: f64,
    /// Of the shares in training, in nats a sequence.
    pub loss: f64,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassMeasure {
    /// Its label.
    pub label: String,
    /// Right ones of those that were taken for it; 0 where none was.
    pub precision: f64,
    /// Right ones of its own; 0 where it has none.
    pub recall: f64,
    /// 2·precision·recall/(precision + recall), or 0.
    pub f1: f64,
    /// How many it has.
    pub support: u64,
    /// How many were taken for it.
    pub predicted: u64,
}

/// The sequences whose likeliest class had such a probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// From this probability,
    pub from: f64,
    /// to this one.
    pub to: f64,
    /// How many they are.
    pub count: u64,
    /// The mean of the probability.
    pub confidence: f64,
    /// How many of them are right.
    pub accuracy: f64,
}

/// The sequences of like lengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// Steps of the shortest.
    pub shortest: usize,
    /// Steps of the longest.
    pub longest: usize,
    /// How many they are.
    pub count: u64,
    /// How many of them are right.
    pub accuracy: f64,
}

/// How well classes are told apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// Sequences.
    pub sequences: usize,
    /// Those among them whose label is none of the classes: whatever is said of them is wrong. They have no part in
    /// losses, nor a row in the confusion matrix.
    pub unknown_labels: usize,
    /// The share whose likeliest class is right.
    pub accuracy: f64,
    /// Its interval of 95 %.
    pub interval: Interval,
    /// The mean of −ln of the true class's probability, in nats.
    pub loss: f64,
    /// The mean of F1 over the classes that occur or were predicted.
    pub macro_f1: f64,
    /// The mean of precision over them.
    pub macro_precision: f64,
    /// The mean of recall over them.
    pub macro_recall: f64,
    /// The mean probability of the likeliest class.
    pub confidence: f64,
    /// The expected calibration error, Σ n(bin)/n·|accuracy(bin) − confidence(bin)| over ten bins of confidence
    /// (Guo 2017, "On calibration of modern neural networks").
    pub calibration_error: f64,
    /// What guessing does.
    pub majority: Guess,
    /// Whether more are right than by guessing.
    pub beats_majority: bool,
    /// Each class.
    pub classes: Vec<ClassMeasure>,
    /// \[truth, predicted\].
    pub confusion: Vec<Vec<u64>>,
    /// By confidence, those bins that have any.
    pub reliability: Vec<Reliability>,
    /// By length, from the shortest on.
    pub by_length: Vec<Bucket>,
}

/// The class that the most sequences are of; the first of equals.
pub(super) fn most_frequent(counts: &[u64]) -> usize {
    let most = counts.iter().enumerate().rev().max_by_key(|class| class.1);
    most.map_or(0, |(class, _)| class)
}

/// The likeliest class; the first of equals.
pub(super) fn likeliest(probabilities: &[f64]) -> usize {
    let best = probabilities.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(class, _)| class)
}

impl ClassScore {
    /// Of sequences by their true classes (none: another one), the probabilities of all classes, and their steps.
    /// `counts` are the training sequences of each class.
    ///
    /// # Errors
    /// There is no sequence of one of the classes; lists that do not fit together.
    pub fn new(
        classes: &[String],
        counts: &[u64],
        targets: &[Option<u32>],
        probabilities: &[Vec<f64>],
        lengths: &[usize],
    ) -> Result<Self> {
        let (n, c) = (targets.len(), classes.len());
        let fits = probabilities.len() == n
            && lengths.len() == n
            && counts.len() == c
            && probabilities.iter().all(|row| row.len() == c)
            && targets.iter().flatten().all(|&target| (target as usize) < c);
        let known = targets.iter().flatten().count();
        if known == 0 || !fits {
            let what =
                if known == 0 { "there is no sequence to score" } else { "lists do not fit" };
            return Err(Error::invalid(what));
        }
        let nats = |p: f64| -p.max(f64::MIN_POSITIVE).ln();
        let mut confusion = vec![vec![0u64; c]; c];
        let mut sure = vec![(0u64, 0.0f64, 0u64); BINS];
        let (mut loss, mut confidence, mut right) = (0.0, 0.0, Vec::with_capacity(n));
        // What sequences of other classes were taken for.
        let mut astray = vec![0u64; c];
        for (target, row) in targets.iter().zip(probabilities) {
            let best = likeliest(row);
            match target.map(|target| target as usize) {
                Some(target) => {
                    confusion[target][best] += 1;
                    loss += nats(row[target]);
                }
                None => astray[best] += 1,
            }
            let is_right = *target == Some(best as u32);
            confidence += row[best];
            let bin = ((row[best] * BINS as f64) as usize).min(BINS - 1);
            let of = &mut sure[bin];
            *of = (of.0 + 1, of.1 + row[best], of.2 + u64::from(is_right));
            right.push(is_right);
        }
        let all_right = right.iter().filter(|&&right| right).count() as u64;
        let reliability: Vec<Reliability> = (0..BINS)
            .filter(|&bin| sure[bin].0 > 0)
            .map(|bin| {
                let (count, sum, right) = sure[bin];
                let share = |x: f64| x / count as f64;
                let [from, to] = [bin, bin + 1].map(|end| end as f64 / BINS as f64);
                let (confidence, accuracy) = (share(sum), share(right as f64));
                Reliability { from, to, count, confidence, accuracy }
            })
            .collect();
        let off = |r: &Reliability| r.count as f64 * (r.accuracy - r.confidence).abs();
        let calibration_error = reliability.iter().map(off).sum::<f64>() / n as f64;

        let most = most_frequent(counts);
        let own = |class: usize| confusion[class].iter().sum::<u64>();
        let mut guessed = vec![vec![0u64; c]; c];
        (0..c).for_each(|class| guessed[class][most] = own(class));
        let all: f64 = counts.iter().sum::<u64>() as f64;
        let prior = |&target: &u32| nats(counts[target as usize] as f64 / all);
        let priors = targets.iter().flatten().map(prior).sum::<f64>();
        let mut all_astray = vec![0; c];
        all_astray[most] = (n - known) as u64;
        let majority = Guess {
            label: classes[most].clone(),
            accuracy: own(most) as f64 / n as f64,
            macro_f1: means(&measures(classes, &guessed, &all_astray))[0],
            loss: priors / known as f64,
        };
        let each = measures(classes, &confusion, &astray);
        let [macro_f1, macro_precision, macro_recall] = means(&each);
        Ok(ClassScore {
            sequences: n,
            unknown_labels: n - known,
            accuracy: all_right as f64 / n as f64,
            interval: Interval::wilson(all_right, n as u64),
            loss: loss / known as f64,
            macro_f1,
            macro_precision,
            macro_recall,
            confidence: confidence / n as f64,
            calibration_error,
            beats_majority: all_right > own(most),
            majority,
            classes: each,
            confusion,
            reliability,
            by_length: by_length(lengths, &right),
        })
    }

    /// In words, whether the model is better than guessing.
    pub fn verdict(&self) -> String {
        let Guess { label, accuracy, .. } = &self.majority;
        let [own, guess] = [self.accuracy, *accuracy].map(|share| 100.0 * share);
        if !self.beats_majority {
            return format!(
                "The model does not beat guessing: {own:.2} % are right, and of '{label}' for every sequence {guess:.2} %."
            );
        }
        if self.interval.low <= *accuracy {
            return format!(
                "{own:.2} % are right, of '{label}' for every sequence {guess:.2} %; but of so few sequences that the \
                 difference may be chance."
            );
        }
        format!("{own:.2} % are right, of '{label}' for every sequence {guess:.2} %.")
    }
}

/// Of each class, with what of other ones was taken for it.
fn measures(classes: &[String], confusion: &[Vec<u64>], astray: &[u64]) -> Vec<ClassMeasure> {
    let of = |(class, label): (usize, &String)| {
        let right = confusion[class][class] as f64;
        let support: u64 = confusion[class].iter().sum();
        let predicted = confusion.iter().map(|row| row[class]).sum::<u64>() + astray[class];
        let share = |of: u64| if of > 0 { right / of as f64 } else { 0.0 };
        let (precision, recall) = (share(predicted), share(support));
        let f1 = if right > 0.0 { 2.0 * right / (support + predicted) as f64 } else { 0.0 };
        ClassMeasure { label: label.clone(), precision, recall, f1, support, predicted }
    };
    classes.iter().enumerate().map(of).collect()
}

/// F1, precision and recall, the means over the classes that occur or were predicted.
fn means(classes: &[ClassMeasure]) -> [f64; 3] {
    let there: Vec<&ClassMeasure> =
        classes.iter().filter(|class| class.support + class.predicted > 0).collect();
    let mean = |of: &dyn Fn(&ClassMeasure) -> f64| {
        there.iter().map(|class| of(class)).sum::<f64>() / there.len().max(1) as f64
    };
    [mean(&|m| m.f1), mean(&|m| m.precision), mean(&|m| m.recall)]
}

/// Buckets of about as many sequences each; those of one length lie in one.
fn by_length(lengths: &[usize], right: &[bool]) -> Vec<Bucket> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| lengths[i]);
    let each = order.len().div_ceil(BUCKETS).max(1);
    let (mut buckets, mut from) = (Vec::new(), 0);
    while from < order.len() {
        let longest = lengths[order[(from + each - 1).min(order.len() - 1)]];
        let end = from + order[from..].iter().take_while(|&&i| lengths[i] <= longest).count();
        let own = &order[from..end];
        let good = own.iter().filter(|&&i| right[i]).count();
        buckets.push(Bucket {
            shortest: lengths[order[from]],
            longest,
            count: own.len() as u64,
            accuracy: good as f64 / own.len() as f64,
        });
        from = end;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    /// By hand: seven sequences of a and b, of which c is predicted once.
    #[test]
    fn measures_by_hand() {
        let sure = |class: usize, p: f64| {
            let mut row = vec![(1.0 - p) / 2.0; 3];
            row[class] = p;
            row
        };
        let targets = [0, 0, 0, 0, 1, 1, 1].map(Some);
        let rows = [
            sure(0, 0.95),
            sure(0, 0.92),
            sure(0, 0.5),
            sure(1, 0.5),
            sure(1, 0.95),
            sure(0, 0.91),
            sure(2, 0.5),
        ];
        let lengths = [1, 2, 3, 4, 5, 6, 6];
        let score = ClassScore::new(&classes(), &[5, 9, 1], &targets, &rows, &lengths).unwrap();
        assert_eq!(score.confusion, [[3, 1, 0], [1, 1, 1], [0, 0, 0]]);
        assert!((score.accuracy - 4.0 / 7.0).abs() < 1e-12);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        let [a, b, c] = &score.classes[..] else { panic!() };
        for (class, wanted) in
            [(a, [3.0 / 4.0, 3.0 / 4.0, 0.75]), (b, [0.5, 1.0 / 3.0, 0.4]), (c, [0.0; 3])]
        {
            [class.precision, class.recall, class.f1]
                .into_iter()
                .zip(wanted)
                .for_each(|(x, y)| near(x, y));
        }
        near(score.macro_f1, (0.75 + 0.4) / 3.0);
        let loss = [0.95f64, 0.92, 0.5, 0.25, 0.95, 0.045, 0.25];
        near(score.loss, loss.iter().map(|p| -p.ln()).sum::<f64>() / 7.0);
        // Four beyond 0.9, of which three are right, and three at 0.5, of which one is.
        near(score.confidence, (0.95 + 0.92 + 0.95 + 0.91 + 1.5) / 7.0);
        near(score.calibration_error, ((3.73f64 - 3.0).abs() + (1.5f64 - 1.0).abs()) / 7.0);
        assert_eq!(score.reliability.len(), 2);
        // b was the most frequent in training: it is the guess, though a is here.
        assert_eq!(score.majority.label, "b");
        near(score.majority.accuracy, 3.0 / 7.0);
        near(score.majority.macro_f1, 0.6 / 2.0);
        near(score.majority.loss, -(4.0 * (5.0f64 / 15.0).ln() + 3.0 * (9.0f64 / 15.0).ln()) / 7.0);
        assert!(score.beats_majority && score.verdict().contains("may be chance"));
        let lengths: Vec<_> =
            score.by_length.iter().map(|b| (b.shortest, b.longest, b.count)).collect();
        assert_eq!(lengths, [(1, 2, 2), (3, 4, 2), (5, 6, 3)]);
        near(score.by_length[2].accuracy, 1.0 / 3.0);
    }

    #[test]
    fn guessing_is_not_beaten_by_guessing() {
        let rows = vec![vec![0.1, 0.8, 0.1]; 5];
        let score =
            ClassScore::new(&classes(), &[1, 5, 1], &[1, 1, 0, 2, 1].map(Some), &rows, &[3; 5])
                .unwrap();
        assert!(!score.beats_majority && score.verdict().contains("does not beat"));
        assert_eq!(score.by_length.len(), 1);
        assert!(ClassScore::new(&classes(), &[1, 5, 1], &[], &[], &[]).is_err());
        assert!(ClassScore::new(&classes(), &[1, 5, 1], &[Some(3)], &rows[..1], &[3]).is_err());
        assert!(ClassScore::new(&classes(), &[1, 5, 1], &[None], &rows[..1], &[3]).is_err());
        // A sequence of another class is one that is wrong.
        let more = [Some(1), Some(1), Some(0), None, Some(1)];
        let score = ClassScore::new(&classes(), &[1, 5, 1], &more, &rows, &[3; 5]).unwrap();
        assert_eq!((score.unknown_labels, score.sequences), (1, 5));
        assert_eq!((score.accuracy, score.majority.accuracy), (0.6, 0.6));
        assert_eq!((score.classes[1].support, score.classes[1].predicted), (3, 5));
        assert_eq!(score.by_length[0].accuracy, 0.6);
        assert!((score.loss - (3.0 * -0.8f64.ln() - 0.1f64.ln()) / 4.0).abs() < 1e-12);
    }

    /// By Wilson's formula in another form: the roots of (p − x)² = z²·x·(1 − x)/n.
    #[test]
    fn the_interval_solves_its_equation() {
        for (right, all) in [(0, 10), (7, 10), (985, 1000), (10, 10)] {
            let Interval { low, high } = Interval::wilson(right, all);
            let p = right as f64 / all as f64;
            for x in [low, high] {
                let (a, b) = ((p - x).powi(2), 3.841_458_820_694_124 * x * (1.0 - x) / all as f64);
                assert!((a - b).abs() < 1e-9, "{right} of {all}: {a} {b}");
            }
            assert!(low <= p && p <= high);
        }
    }
}
