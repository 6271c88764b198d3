//! Kernels of all steps are tried before one is taken: how long they take beside a launch a step, and whether grids and
//! cooperative matrices compute what the steps do.

use super::grid::{known_resident, set_known_resident};
use super::sequences::{REFUSED, Run, Runs, STEPS, candidate, together, way};
use super::steps::{KnownSteps, alike, in_matrices, with_matrices_of};
use super::{Cooperative, DeviceInfo, GpuEngine};
use crate::clock::Instant;
use crate::engine::Strategy;
use crate::error::Result;
use crate::kernel::{
    BufferId, Combine, Fill, Matmul, Op, Operand, RESET, Rows, StepBackward, StepForward,
    StepParams, Team, VALID, View, Wait,
};
use crate::recording::{Launch, Recording, Role};
use crate::tensor::DType;
use crate::wait;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a measurement of the two ways may take.
const BUDGET: Duration = Duration::from_millis(200);

/// What two ways may differ by, of the largest value, where all is f32 and where something is f16: their sums are in
/// another order, and the differences go on through the steps.
const APART: [f32; 2] = [1e-4, 2e-2];

/// How often a way has to compute the same.
const TRIES: usize = 8;

/// Rounds that workgroups of a grid wait in all while it is tried: some ten milliseconds, many times what they need.
const SPINS: usize = 512;

impl GpuEngine {
    /// Tries every kernel of every kind of run that was not tried yet; not on a driver that computes on the CPU,
    /// where compiling takes longer, nor in a host's device.
    pub(super) fn measure_strategies(&self, recording: &Recording) -> Result<()> {
        let context = &self.context;
        if !matches!(context.strategy, Strategy::Auto | Strategy::Wavefront) || !context.measures {
            return Ok(());
        }
        // Steps first: kernels of all steps are measured beside them as they go.
        let mut more = self.measure_steps(recording);
        for run in Runs(recording.launches()) {
            if known_resident(&context.info).is_none() && self.wants_grid(recording, &run) {
                self.find_resident(&context.info);
            }
            for op in self.candidates(recording, &run) {
                if self.measured(recording, &run, &op).is_none() {
                    let key = self.key(recording, &run.steps[0].buffers, &op);
                    let young = way(&op).is_young();
                    if young {
                        self.note_trial(&key, true);
                    }
                    // A driver that refuses the kernel leaves the steps, which always work.
                    let found = self.measure_run(recording, &run, &op).unwrap_or([0.0, REFUSED]);
                    if young {
                        self.note_trial(&key, false);
                    }
                    self.set_known(key, found);
                    more = true;
                }
            }
        }
        // Runs first: chains are measured with their layers as they go.
        let chains = self.measure_chains(recording);
        if more || chains {
            self.keep_measured();
        }
        Ok(())
    }

    /// Tries the steps whose products may go in matrices.
    fn measure_steps(&self, recording: &Recording) -> bool {
        let mut seen: Vec<&Launch> = Vec::new();
        let mut more = false;
        for launch in recording.launches() {
            if seen.iter().any(|other| alike(&other.op, &launch.op)) {
                continue;
            }
            let Some(op) = in_matrices(&self.context, recording, launch) else { continue };
            seen.push(launch);
            let key = self.step_key(recording, launch, &op);
            if self.known(&key).is_none() {
                self.note_trial(&key, true);
                let found = self.measure_step(recording, launch, &op).unwrap_or([0.0, REFUSED]);
                self.note_trial(&key, false);
                self.set_known(key, found);
                more = true;
            }
        }
        more
    }

    /// Milliseconds of some steps by threads and in matrices, [`REFUSED`] where these compute other numbers.
    fn measure_step(&self, recording: &Recording, launch: &Launch, op: &Op) -> Result<[f64; 2]> {
        let steps = typical(std::slice::from_ref(launch));
        let in_matrices = steps.iter().map(|step| Launch {
            op: with_matrices_of(&step.op, op),
            buffers: step.buffers.clone(),
        });
        let ways = [steps.clone(), in_matrices.collect()];
        if !self.agree(recording, &ways)? {
            return Ok([0.0, REFUSED]);
        }
        self.measure_ways(recording, &ways, Recording::clone)
    }

    /// How many workgroups the device keeps at work; where that can't be found, one, which is no grid.
    fn find_resident(&self, info: &DeviceInfo) {
        if self.resident().is_err() {
            set_known_resident(info, Some(1));
        }
    }

    /// Milliseconds of some steps over buffers of their own, each launched and in one launch: [`REFUSED`] where that
    /// computes other numbers.
    fn measure_run(&self, recording: &Recording, run: &Run, op: &Op) -> Result<[f64; 2]> {
        let steps = typical(run.steps);
        let few = Run { steps: &steps, all: &steps };
        // With the counters of a grid.
        let mut with = recording.with_launches(Vec::new());
        let one = candidate(&self.context, &few, way(op));
        let one = one.map(impatient);
        let Some(one) = one.and_then(|op| together(&few, op, &mut with)) else {
            return Ok([0.0, REFUSED]);
        };
        // What a device's drivers are young in has to prove itself.
        let way = way(op);
        if way.is_young() && !self.agree(&with, &[steps.clone(), one.clone()])? {
            return Ok([0.0, REFUSED]);
        }
        let mut known = KnownSteps::default();
        let steps = steps.iter().map(|step| self.alone_in_matrices(recording, step, &mut known));
        let ways = [steps.collect(), one];
        let times = self.measure_ways(&with, &ways, Recording::clone)?;
        Ok(times)
    }

    /// Whether a tile of cooperative matrices multiplies as threads do.
    pub(super) fn multiplies(&self, tile: usize) -> Result<bool> {
        // Sizes that no tile divides.
        let shape @ [m, n, k] = [195, 133, 71];
        let mut recording = Recording::new();
        let a = recording.buffer("a", m * k, DType::F16, Role::Temporary)?;
        let b = recording.buffer("b", k * n, DType::F16, Role::Temporary)?;
        let c = recording.buffer("c", m * n, DType::F32, Role::Temporary)?;
        let operands = [Operand::new(a, k), Operand::new(b, n), Operand::new(c, n)];
        let [left, right, to] = operands;
        let product = Matmul::new(shape, left, right, to);
        let launches =
            [Launch { op: product.into(), buffers: [a, b, c].map(|v| v.buffer).to_vec() }];
        let all = bound(&recording, launches.iter());
        let [threads, matrices] = [Cooperative::Never, Cooperative::Tile(tile)];
        let want = self.with_cooperative(threads).results(&all, &launches, 1)?;
        let got = self.with_cooperative(matrices).results(&all, &launches, TRIES)?;
        Ok(are_near(&want[0], &got, APART[0]))
    }

    /// Whether two ways leave the same numbers, but for rounding, where both begin with the same random ones.
    fn agree(&self, recording: &Recording, ways: &[Vec<Launch>; 2]) -> Result<bool> {
        let all = bound(recording, ways.iter().flatten());
        let half = all.values().any(|bound| bound.dtype == DType::F16);
        let want = self.results(&all, &ways[0], 1)?;
        let got = self.results(&all, &ways[1], TRIES)?;
        Ok(are_near(&want[0], &got, APART[usize::from(half)]))
    }

    /// What launches leave in the buffers that they write, each time that they are run, over random numbers in buffers of
    /// their own.
    fn results(
        &self,
        all: &BTreeMap<BufferId, Bound>,
        launches: &[Launch],
        tries: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let alone = self.alone();
        let store = alone.store();
        let mut way = Recording::new();
        let (mut own, mut inputs, mut outputs) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (number, (&id, bound)) in all.iter().enumerate() {
            let name = format!("{number}");
            if bound.dtype == DType::U32 || bound.name == PROGRESS {
                let role = if bound.name == PROGRESS { Role::Temporary } else { Role::Input };
                own.insert(id, way.buffer(name, bound.len, bound.dtype, role)?);
                continue;
            }
            let given = way.buffer(format!("{name} given"), bound.len, DType::F32, Role::Input)?;
            let view = way.buffer(name, bound.len, bound.dtype, Role::Temporary)?;
            copy(&mut way, given, view)?;
            own.insert(id, view);
            inputs.push((given, bound));
            if bound.written {
                let name = format!("{number} out");
                outputs.push((view, way.buffer(name, bound.len, DType::F32, Role::Output)?));
            }
        }
        launch(&mut way, launches, &own)?;
        for &(from, to) in &outputs {
            copy(&mut way, from, to)?;
        }
        let mut program = alone.load_arranged(&way, &store, &[])?;
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (view, bound) in inputs {
            // Weights as of a layer of some hundred units, so that nothing grows.
            let most: f32 = if bound.name == "w" { 0.05 } else { 0.5 };
            let values: Vec<f32> =
                (0..view.len).map(|_| random.random_range(-most..most)).collect();
            program.write(view.buffer, bytemuck::cast_slice(&values), None)?;
        }
        // Some rows begin anew or take no part, so that those branches prove themselves too.
        let mixed = |word: usize| match word % 7 {
            2 => 0,
            5 => VALID | RESET,
            _ => VALID,
        };
        set_flags(&mut program, all, &own, mixed)?;
        let mut results = Vec::new();
        for _ in 0..tries {
            program.run()?;
            let mut values = Vec::new();
            for (_, out) in &outputs {
                values.extend(wait::here(program.read(out.buffer, out.len, None))?);
            }
            results.push(values);
        }
        Ok(results)
    }

    /// Milliseconds of launches in two ways, over buffers of their own in the place of those that are bound.
    pub(super) fn measure_ways(
        &self,
        recording: &Recording,
        ways: &[Vec<Launch>; 2],
        arrange: impl Fn(&Recording) -> Recording,
    ) -> Result<[f64; 2]> {
        let all = bound(recording, ways.iter().flatten());
        let mut base = Recording::new();
        let mut own: BTreeMap<BufferId, View> = BTreeMap::new();
        for (number, (&id, bound)) in all.iter().enumerate() {
            let half = bound.dtype == DType::F16;
            let role = if half { Role::Temporary } else { Role::Input };
            let view = base.buffer(format!("{number}"), bound.len, bound.dtype, role)?;
            if half {
                base.launch(Fill::new(view, 0.0), &[view])?;
            }
            own.insert(id, view);
        }
        let alone = self.alone();
        let store = alone.store();
        let mut times = [0.0; 2];
        for (time, launches) in times.iter_mut().zip(ways) {
            let mut way = base.clone();
            launch(&mut way, launches, &own)?;
            let mut program = alone.load_arranged(&arrange(&way), &store, &[])?;
            set_flags(&mut program, &all, &own, |_| VALID)?;
            program.run()?;
            program.wait()?;
            let (start, mut all) = (Instant::now(), Vec::new());
            while all.is_empty() || (all.len() < 9 && start.elapsed() < BUDGET / 2) {
                let start = Instant::now();
                program.run()?;
                program.wait()?;
                all.push(start.elapsed().as_secs_f64() * 1e3);
            }
            all.sort_by(f64::total_cmp);
            *time = all[all.len() / 2];
        }
        Ok(times)
    }
}

/// A grid that gives up soon, so that one whose workgroups don't meet costs no second at every run; a driver of the CPU
/// has fewer rounds anyway.
fn impatient(mut op: Op) -> Op {
    let team = match &mut op {
        Op::SequenceForward(op) => &mut op.team,
        Op::SequenceBackward(op) => &mut op.team,
        _ => return op,
    };
    if let Team::Grid(Wait::Each(rounds)) = team {
        *rounds = SPINS.min(*rounds);
    }
    op
}

/// The counters of a grid.
const PROGRESS: &str = "progress";

/// A buffer that launches bind.
struct Bound {
    name: &'static str,
    len: usize,
    dtype: DType,
    written: bool,
}

fn bound<'a>(
    recording: &Recording,
    launches: impl Iterator<Item = &'a Launch>,
) -> BTreeMap<BufferId, Bound> {
    let mut all = BTreeMap::new();
    for launch in launches {
        for (binding, &id) in launch.op.kernel().bindings().iter().zip(&launch.buffers) {
            let dtype = recording.get(id).dtype;
            let new = Bound { name: binding.name, len: 0, dtype, written: false };
            let bound: &mut Bound = all.entry(id).or_insert(new);
            bound.len = bound.len.max(binding.extent);
            bound.written |= binding.access == crate::kernel::Access::Write;
            if binding.name == PROGRESS {
                bound.name = PROGRESS;
            }
        }
    }
    all
}

/// The launches over other buffers.
fn launch(way: &mut Recording, launches: &[Launch], own: &BTreeMap<BufferId, View>) -> Result<()> {
    for Launch { op, buffers } in launches {
        let views: Vec<View> = buffers.iter().filter_map(|id| own.get(id)).copied().collect();
        way.launch(op.clone(), &views)?;
    }
    Ok(())
}

fn copy(way: &mut Recording, from: View, to: View) -> Result<()> {
    let [source, target] = [from, to].map(|view| Rows::new(view, view.len));
    way.launch(Combine::copy([1, from.len], source, target), &[from, to])
}

/// Which rows take part, by the flags' words.
fn set_flags(
    program: &mut super::GpuProgram,
    all: &BTreeMap<BufferId, Bound>,
    own: &BTreeMap<BufferId, View>,
    flag: impl Fn(usize) -> u32,
) -> Result<()> {
    for (id, _) in all.iter().filter(|(_, bound)| bound.name == "flags") {
        let words: Vec<u32> = (0..own[id].len).map(&flag).collect();
        program.write(own[id].buffer, bytemuck::cast_slice(&words), None)?;
    }
    Ok(())
}

/// Whether all results are what is wanted, but for a part of its largest value.
fn are_near(want: &[f32], results: &[Vec<f32>], apart: f32) -> bool {
    let largest = want.iter().fold(0f32, |most, value| most.max(value.abs()));
    let near = |(got, want): (&f32, &f32)| (got - want).abs() <= apart * largest;
    largest > 0.0 && results.iter().all(|got| got.iter().zip(want).all(near))
}

/// [`STEPS`] steps like those of a run, as a sequence of so many: what is found must not depend on which length comes
/// first.
fn typical(steps: &[Launch]) -> Vec<Launch> {
    let like = |number: usize| {
        let Launch { op, buffers } = &steps[number.min(steps.len() - 1)];
        let at = |p: &StepParams, s: usize| {
            StepParams { time: STEPS as u32, first: 0, ..*p }.at(s, p.new_slot < p.old_slot)
        };
        let op = match op {
            Op::StepForward(step) => {
                StepForward { params: at(&step.params, number), ..step.clone() }.into()
            }
            Op::StepBackward(step) => {
                let params = at(&step.params, STEPS - 1 - number);
                StepBackward { params, ..step.clone() }.into()
            }
            other => other.clone(),
        };
        Launch { op, buffers: buffers.clone() }
    };
    (0..STEPS).map(like).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::CellKind;
    use crate::layer::{Direction, InitialState, Recurrent};
    use crate::schedule::Recorder;

    fn record(direction: Direction, time: usize) -> Recording {
        let mut rec = Recorder::training();
        let x = rec.input("x", [time * 3, 4], true).unwrap();
        let stack = Recurrent { direction, ..Recurrent::new("rnn", CellKind::Lstm, 4, 5) };
        let y = stack.record(&mut rec, x, [time, 3], &InitialState::Zero).unwrap().output;
        let seed = rec.input("seed", [time * 3, 5], false).unwrap();
        rec.seed_gradient(y, seed).unwrap();
        rec.backward().unwrap();
        rec.finish()
    }

    /// The steps that are tried are those of a sequence of [`STEPS`] steps, whatever the run's length.
    #[test]
    fn steps_that_are_tried_are_the_same_for_every_length() {
        let is_step =
            |run: &Run| matches!(run.steps[0].op, Op::StepForward(_) | Op::StepBackward(_));
        for direction in [Direction::Forward, Direction::Reverse] {
            let steps = |time: usize| {
                let recording = record(direction, time);
                let runs = Runs(recording.launches()).filter(is_step);
                let all: Vec<Vec<Launch>> = runs.map(|run| typical(run.steps)).collect();
                let params = |launch: &Launch| launch.op.kernel().params().to_vec();
                all.iter().map(|run| run.iter().map(params).collect()).collect::<Vec<Vec<_>>>()
            };
            let want = steps(STEPS);
            assert_eq!(want.len(), 2, "forward and backward");
            let whole = record(direction, STEPS);
            for (run, want) in Runs(whole.launches()).filter(is_step).zip(&want) {
                let own = run.steps.iter().map(|launch| launch.op.kernel().params());
                assert!(own.eq(want.iter().map(Vec::as_slice)), "{direction:?}");
            }
            for time in [3, 8, 70] {
                assert!(steps(time) == want, "{direction:?} of {time} steps");
            }
        }
    }
}
