//! What can't be known better in a case's precision.

use super::RecurrentCase;
use super::expected::{self, Expected};
use crate::conformance::harness::Tensors;
use crate::conformance::{Difference, Report};
use crate::error::Result;
use crate::layer::Initializer;
use crate::oracle::tape::Tape;
use crate::tensor::Precision;

/// How much further from the oracle a tensor may be than what rounding the case's data alone moves it.
const OPERATIONS: f64 = 16.0;

/// How much further than what rounding every operation's result in the oracle moves it: in f32 tensors are half to twice as
/// far from the oracle as that, sums of many terms further.
const ROUNDED: f64 = 4.0;

/// The first in f16: sums are of f32, and on its way from the data a number is stored but a few times.
const SHORT_OPERATIONS: f64 = 2.0;

/// Roundings of the data that are tried: what one of them moves a tensor by is a matter of chance.
const ROUNDINGS: usize = 5;

/// The widest bound: what is off by more of the tensor's largest value is wrong, whatever the case is.
const WIDEST: f64 = 0.05;

/// A bound where rounding may move a tensor of that largest value by so much.
fn widened(bound: f64, moved: f64, scale: f64) -> f64 {
    // Of a tensor of zeros any other number is infinitely far: there is no share of it to allow.
    if scale == 0.0 { bound } else { bound.max((moved / scale).min(WIDEST)) }
}

/// A report beyond the bounds, weighed by the case's own condition: a tensor that the rounding of the
/// inputs alone moves far (norms of rows that hardly vary, sums that cancel) can't be known better in
/// the case's precision. The data are moved by half a unit of their last place, up or down at random, and the oracle
/// runs once more for each of some such moves; the median counts (Higham 2002, section 1.6: the forward
/// error of a stable computation). In f32 it runs again too with every operation's result off by as much: a slope that is
/// told from what was stored, such as tanh's 1 − h², knows less than the data do.
pub(super) fn weigh(
    mut report: Report,
    case: &RecurrentCase,
    data: &Tensors,
    [lengths, ids]: [&[u32]; 2],
    expected: &Expected,
    differences: &[(String, Difference)],
) -> Result<Report> {
    // 2⁻²² of a value: four times what rounding moves it, so that float32 can hold it. That of f16 it holds.
    let (step, times, operations) = match case.precision {
        Precision::F32 => (f32::EPSILON * 2.0, 4.0, OPERATIONS),
        Precision::F16 => (1.0 / 2048.0, 1.0, SHORT_OPERATIONS),
    };
    let mut generator = Initializer::new(case.seed() ^ 0x5eed);
    let mut again = Vec::new();
    for _ in 0..ROUNDINGS {
        let mut moved = Tensors::new();
        for (name, values) in data {
            let flags = name == "mask" || name == "resets";
            let signs = generator.uniform(values.len(), 1.0);
            let moves = values.iter().zip(&signs).map(|(&v, &s)| match flags {
                true => v,
                false => v + v * s.signum() * step,
            });
            moved.insert(name.clone(), moves.collect());
        }
        again.push(expected::expected(case, &moved, lengths, ids, 0.0)?);
    }
    let rounded = match case.precision {
        Precision::F32 => ROUNDINGS,
        Precision::F16 => 0,
    };
    let unit = f64::from(f32::EPSILON) / 2.0;
    let tapes = (0..rounded).map(|number| Tape::rounding(unit, case.seed() ^ number as u64));
    let rounded = tapes.map(|tape| expected::expected_on(&tape, case, data, lengths, ids));
    let rounded = rounded.collect::<Result<Vec<_>>>()?;
    report.pass = true;
    let (bound, mut worst) = (report.tolerance, 0.0);
    for (i, (name, want)) in expected.values.iter().enumerate() {
        let Some((_, difference)) = differences.iter().find(|d| d.0 == *name) else { continue };
        let scale = want.iter().fold(0f64, |a, x| a.max(x.abs()));
        let apart =
            |near: &[f64]| want.iter().zip(near).fold(0f64, |a, (x, y)| a.max((x - y).abs()));
        let median = |runs: &[Expected]| {
            let mut all: Vec<f64> = runs.iter().map(|run| apart(&run.values[i].1)).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(0.0)
        };
        let moved = (operations * median(&again) / times).max(ROUNDED * median(&rounded));
        let tolerance = widened(bound, moved, scale);
        // Written so that NaN fails.
        let within = difference.max_rel <= tolerance;
        report.pass &= within;
        if difference.max_rel / tolerance > worst || !within {
            worst = difference.max_rel / tolerance;
            (report.max_rel, report.tensor) = (difference.max_rel, name.clone());
            report.tolerance = tolerance;
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::compare;
    use crate::conformance::recurrent::{Data, FORWARD_BOUND, data};
    use crate::kernel::{Cell, CellKind};
    use crate::layer::Recurrent;

    /// The gradient of a weight whose scale batch norm takes away is what is left of a sum that cancels: its data say
    /// nothing of what rounding does to it. A third of it wrong is wrong nevertheless.
    #[test]
    fn weighing_knows_sums_that_cancel() {
        let mut stack = Recurrent::new("rnn", Cell::from(CellKind::RnnTanh), 1, 8);
        stack.batch_norm = Some(1e-5);
        let case = RecurrentCase::new(stack, 4, 22);
        let Data { tensors, lengths, ids } = data(&case);
        let wanted = expected::expected(&case, &tensors, &lengths, &ids, 0.0).unwrap();
        let unit = f64::from(f32::EPSILON) / 2.0;
        let tape = Tape::rounding(unit, 1);
        let rounded = expected::expected_on(&tape, &case, &tensors, &lengths, &ids).unwrap();
        let name = "d.rnn.weight_ih_l0";
        let weighed = |off: f32| {
            let mut differences = Vec::new();
            for ((of, want), (_, got)) in wanted.values.iter().zip(&rounded.values) {
                let mut got: Vec<f32> = got.iter().map(|&x| x as f32).collect();
                if of == name {
                    got.iter_mut().for_each(|x| *x *= off);
                }
                differences.push((of.clone(), compare(&got, want)));
            }
            let all = differences.iter().map(|(name, d)| (name.clone(), *d, 1e-9));
            let report = Report::worst("step_backward", case.name(), all);
            weigh(report, &case, &tensors, [&lengths, &ids], &wanted, &differences).unwrap()
        };
        assert!(weighed(1.0).pass, "{:?}", weighed(1.0));
        assert!(!weighed(1.3).pass);
    }

    /// Where zeros are wanted no other number passes, however far the data's rounding moves the tensor; and where
    /// numbers are wanted, a wrong one doesn't for that.
    #[test]
    fn weighing_excuses_rounding_alone() {
        let stack = Recurrent::new("rnn", Cell::from(CellKind::Lstm), 3, 4);
        let case = RecurrentCase::new(stack, 2, 2);
        let Data { tensors, lengths, ids } = data(&case);
        let right = expected::expected(&case, &tensors, &lengths, &ids, 0.0).unwrap();
        let passes = |change: &dyn Fn(&mut Vec<f64>, &mut Vec<f32>)| {
            let mut wanted = expected::expected(&case, &tensors, &lengths, &ids, 0.0).unwrap();
            let mut differences = Vec::new();
            for ((name, want), (_, got)) in wanted.values.iter_mut().zip(&right.values) {
                let mut got: Vec<f32> = got.iter().map(|&x| x as f32).collect();
                if name == "output" {
                    change(want, &mut got);
                }
                differences.push((name.clone(), compare(&got, want)));
            }
            let all = differences.iter().map(|(name, d)| (name.clone(), *d, FORWARD_BOUND));
            let report = Report::worst("step_forward", case.name(), all);
            let own = [&lengths[..], &ids[..]];
            weigh(report, &case, &tensors, own, &wanted, &differences).unwrap().pass
        };
        assert!(passes(&|_, _| ()));
        assert!(!passes(&|want, _| want.fill(0.0)));
        assert!(!passes(&|_, got| got[0] += 0.01));
        assert_eq!(widened(1e-6, 1e3, 1.0), WIDEST);
        assert_eq!(widened(1e-6, 1e-3, 1.0), 1e-3);
        assert_eq!(widened(1e-6, 0.0, 1.0), 1e-6);
    }
}
