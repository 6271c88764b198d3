//! The whole suite on an engine: in an order that has something of everything early, for as long as there is time, and
//! over whatever fails on the way.

use super::kernels::{self, Case};
use super::{
    RecurrentCase, Report, random_case, random_shape, record_case, recurrent_groups, reports_of,
};
use crate::clock::Instant;
use crate::engine::{Cooperative, Engine, Strategy};
use crate::error::{Error, Result};
use crate::tensor::Precision;
use crate::wait;
use std::collections::BTreeSet;
use std::ops::Range;

/// What a run of the suite keeps to.
#[derive(Clone, Copy, Default)]
pub struct Bounds<'a> {
    /// No case begins later.
    pub until: Option<Instant>,
    /// How the device is opened again after it failed: what was lost answers nothing any more. Without it the cases that
    /// follow run on what is left of it.
    pub reopen: Option<&'a dyn Fn() -> Result<Engine>>,
}

/// How far a run of the suite came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Reports that were made.
    pub reports: usize,
    /// What the time was over for: so many more reports at most, as not every way of launching serves every case.
    pub left: usize,
    /// The time was over before the last case.
    pub cut: bool,
}

/// The whole suite on an engine, in each precision that it has, calling `each` with every report as it comes. A case that
/// could not be run is a report that does not pass, with the reason.
///
/// # Errors
/// The suite's own: not a wrong number, and not a device that fails.
pub fn run(engine: &Engine, each: impl FnMut(&Report)) -> Result<()> {
    run_within(engine, Bounds::default(), each).map(drop)
}

/// Like [`run`], within bounds. The order is the same without any: each kernel's first case, then recurrent cases, of
/// every cell and precision in turn and each in all ways of launching it, and after the first of them the kernels' other cases.
///
/// # Errors
/// As [`run`]; the device does not open again.
pub fn run_within(
    engine: &Engine,
    bounds: Bounds<'_>,
    each: impl FnMut(&Report),
) -> Result<Progress> {
    wait::here(run_within_async(engine, bounds, each))
}

/// The same in a browser. Elsewhere this thread waits.
///
/// # Errors
/// As [`run_within`].
pub async fn run_within_async(
    engine: &Engine,
    bounds: Bounds<'_>,
    each: impl FnMut(&Report),
) -> Result<Progress> {
    let mut run = Run::new(engine, bounds, each);
    let precisions = [Precision::F32, Precision::F16].map(|p| (p, engine.supports(p)));
    let precisions = || precisions.into_iter().filter(|p| p.1).map(|p| p.0);
    let mut others = 0;
    for precision in precisions() {
        let mut seen = BTreeSet::new();
        let mut first = async |case: Case| match seen.insert(case.kernel) {
            true => run.kernel(case).await,
            false => {
                others += 1;
                Ok(())
            }
        };
        kernels::cases(precision, &mut first).await?;
    }
    let mut groups = Vec::new();
    precisions().for_each(|precision| groups.extend(recurrent_groups(precision)));
    let first = groups.len();
    let cases = in_turn(groups);
    for case in &cases[..first] {
        run.recurrent(case).await?;
    }
    for precision in precisions() {
        let mut seen = BTreeSet::new();
        let mut other = async |case: Case| {
            if seen.insert(case.kernel) {
                return Ok(());
            }
            if run.is_over() {
                // The data of those that follow need not be made.
                return Err(Error::invalid("the time is over"));
            }
            others -= 1;
            run.kernel(case).await
        };
        let done = kernels::cases(precision, &mut other).await;
        if done.is_err() && run.progress.cut {
            break;
        }
        done?;
    }
    run.progress.left += others;
    for case in &cases[first..] {
        run.recurrent(case).await?;
    }
    Ok(run.progress)
}

/// The stacks with random options of these seeds ([`random_case`]), each in so many shapes ([`random_shape`]), as [`run`]
/// does its own.
///
/// # Errors
/// As [`run`].
pub fn run_random(
    engine: &Engine,
    seeds: Range<u64>,
    shapes: u64,
    each: impl FnMut(&Report),
) -> Result<()> {
    run_random_within(engine, seeds, shapes, Bounds::default(), each).map(drop)
}

/// Like [`run_random`], within bounds. What is left is not counted.
///
/// # Errors
/// As [`run_within`].
pub fn run_random_within(
    engine: &Engine,
    seeds: Range<u64>,
    shapes: u64,
    bounds: Bounds<'_>,
    each: impl FnMut(&Report),
) -> Result<Progress> {
    let mut run = Run::new(engine, bounds, each);
    for seed in seeds {
        let case = random_case(seed);
        for number in 0..shapes.max(1) {
            if run.is_over() {
                return Ok(run.progress);
            }
            wait::here(run.recurrent(&random_shape(&case, seed, number)))?;
        }
    }
    Ok(run.progress)
}

/// The first of each group, then the second of each, and so on.
fn in_turn<T>(groups: Vec<Vec<T>>) -> Vec<T> {
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    let mut list = Vec::new();
    loop {
        let before = list.len();
        list.extend(groups.iter_mut().filter_map(Iterator::next));
        if list.len() == before {
            return list;
        }
    }
}

/// The ways that a device can have: three of the strategies with cooperative matrices and without.
const MOST_WAYS: usize = 7;

/// A way of launching the steps of a recurrence.
struct Way {
    strategy: Strategy,
    engine: Engine,
    /// For cases in f16 alone.
    only_half: bool,
}

/// A run of the suite.
struct Run<'a, F> {
    engine: Engine,
    /// Empty until they are needed: that some kernels are right is worth knowing before a device is asked how many
    /// workgroups it has at once.
    ways: Vec<Way>,
    /// The device failed when these were asked for.
    without: Vec<Strategy>,
    bounds: Bounds<'a>,
    each: F,
    progress: Progress,
}

impl<'a, F: FnMut(&Report)> Run<'a, F> {
    fn new(engine: &Engine, bounds: Bounds<'a>, each: F) -> Self {
        let engine = unmeasured(engine);
        let (ways, without, progress) = (Vec::new(), Vec::new(), Progress::default());
        Run { engine, ways, without, bounds, each, progress }
    }

    fn is_over(&mut self) -> bool {
        self.progress.cut |= self.bounds.until.is_some_and(|until| Instant::now() >= until);
        self.progress.cut
    }

    /// A case of a kernel.
    async fn kernel(&mut self, case: Case) -> Result<()> {
        if self.is_over() {
            self.progress.left += 1;
            return Ok(());
        }
        let [kernel, name] = [case.title(), case.name.clone()];
        match case.report(&self.engine).await {
            Ok(report) => self.report(&report),
            Err(error) => return self.failed(kernel, name, &error),
        }
        Ok(())
    }

    /// A recurrent case in each way that serves it.
    async fn recurrent(&mut self, case: &RecurrentCase) -> Result<()> {
        let reports = if case.inference { 1 } else { 2 };
        if self.ways.is_empty() {
            if self.is_over() {
                self.progress.left += MOST_WAYS * reports;
                return Ok(());
            }
            self.open_ways()?;
        }
        for number in 0..self.ways.len() {
            // After the device was opened again the ways are others.
            let Some(way) = self.ways.get(number) else { break };
            if way.only_half && case.precision != Precision::F16 {
                continue;
            }
            let (engine, strategy) = (way.engine.clone(), way.strategy);
            if self.is_over() {
                self.progress.left += reports;
                continue;
            }
            let reports = match serves(&engine, strategy, case) {
                Ok(true) => reports_of(&engine, case).await,
                Ok(false) => Ok(Vec::new()),
                Err(error) => Err(error),
            };
            match reports {
                Ok(reports) => reports.iter().for_each(|report| self.report(report)),
                Err(error) => {
                    let cell = case.stack.cell.name();
                    let half = if case.precision == Precision::F16 { " f16" } else { "" };
                    let kernel = format!("{}_forward/{cell}{half}", strategy.name());
                    self.failed(kernel, case.name(), &error)?;
                }
            }
        }
        Ok(())
    }

    fn report(&mut self, report: &Report) {
        self.progress.reports += 1;
        (self.each)(report);
    }

    /// A case that could not be run.
    fn failed(&mut self, kernel: String, case: String, error: &Error) -> Result<()> {
        self.report(&Report::failed(kernel, case, error));
        if self.recover(error)? && !self.ways.is_empty() {
            self.open_ways()?;
        }
        Ok(())
    }

    /// Opens the device again where it failed, and says whether it did.
    fn recover(&mut self, error: &Error) -> Result<bool> {
        if let (Error::DeviceFailed { .. }, Some(reopen)) = (error, self.bounds.reopen) {
            self.engine = unmeasured(&reopen()?);
            return Ok(true);
        }
        Ok(false)
    }

    /// The ways that the engine has, or the one that it was asked for. One at which the device fails is told once.
    fn open_ways(&mut self) -> Result<()> {
        self.ways.clear();
        // The steps are what serves everything.
        let all = [Strategy::Step, Strategy::Sequence, Strategy::Grid, Strategy::Wavefront];
        let asked = self.engine.strategy();
        let wanted = |strategy: &Strategy| [Strategy::Auto, *strategy].contains(&asked);
        for strategy in all.into_iter().filter(wanted) {
            if self.without.contains(&strategy) {
                continue;
            }
            match self.engine.with_strategy(strategy) {
                Ok(engine) => {
                    let variants = variants(&engine, strategy).into_iter();
                    let way = |(engine, only_half)| Way { strategy, engine, only_half };
                    self.ways.extend(variants.map(way));
                }
                // A device may lack what a strategy needs.
                Err(Error::Device(_) | Error::Invalid(_)) => {}
                Err(error) => {
                    self.without.push(strategy);
                    let kernel = format!("{}_forward", strategy.name());
                    let case = "the strategy".to_string();
                    self.report(&Report::failed(kernel, case, &error));
                    // Those before are of the device that was lost.
                    if self.recover(&error)? {
                        return self.open_ways();
                    }
                }
            }
        }
        Ok(())
    }
}

/// Every way is asked for by its name: how fast each is need not be found out.
fn unmeasured(engine: &Engine) -> Engine {
    match engine {
        Engine::Gpu(gpu) => Engine::Gpu(gpu.with_measuring(false)),
        Engine::Cpu(_) => engine.clone(),
    }
}

/// Whether a case is launched so where it is asked for.
fn serves(engine: &Engine, strategy: Strategy, case: &RecurrentCase) -> Result<bool> {
    Ok(match strategy {
        Strategy::Step => true,
        Strategy::Wavefront => {
            let choices = engine.choices(&record_case(case)?)?;
            choices.iter().any(|choice| choice.strategy == strategy)
        }
        _ => {
            let recording = record_case(case)?;
            let launched = engine.arranged(&recording).census();
            let launches = |pass| launched.contains_key(&*format!("{}_{pass}", strategy.name()));
            ["forward", "backward"].into_iter().any(launches)
        }
    })
}

/// An engine as it multiplies, and, where it has cooperative matrices, with them and without: those are of f16 alone.
fn variants(engine: &Engine, strategy: Strategy) -> Vec<(Engine, bool)> {
    if let (Engine::Gpu(gpu), Strategy::Step | Strategy::Sequence | Strategy::Grid) =
        (engine, strategy)
        && let Some(&tile) = gpu.cooperative_tiles().first()
    {
        let of = |cooperative| Engine::Gpu(gpu.with_cooperative(cooperative));
        return vec![(of(Cooperative::Never), false), (of(Cooperative::Tile(tile)), true)];
    }
    vec![(engine.clone(), false)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_turns() {
        let list = in_turn(vec![vec![1, 2, 3], vec![], vec![4], vec![5, 6]]);
        assert_eq!(list, [1, 4, 5, 2, 6, 3]);
    }
}
