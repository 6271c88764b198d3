//! Kernels of all steps are tried before one is taken: how long they take beside a launch a step, and whether grids and
//! cooperative matrices compute what the steps do.

use super::grid::{known_resident, set_known_resident};
use super::sequences::{REFUSED, Run, Runs, STEPS, candidate, together, way};
use super::{DeviceInfo, GpuEngine};
use crate::engine::Strategy;
use crate::error::Result;
use crate::kernel::{
    BufferId, Combine, Fill, NONE, Op, Rows, StepBackward, StepForward, StepParams, Team, VALID,
    View,
};
use crate::layer::Initializer;
use crate::recording::{Launch, Recording, Role};
use crate::tensor::DType;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a measurement of the two ways may take.
const BUDGET: Duration = Duration::from_millis(200);

/// What two ways may differ by, of the largest value, where all is f32 and where something is f16: their sums are in
/// another order, and the differences go on through the steps.
const APART: [f32; 2] = [1e-4, 2e-2];

/// How often a way has to compute the same.
const TRIES: usize = 3;

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
        let mut more = false;
        for run in Runs(recording.launches()) {
            if known_resident(&context.info).is_none() && self.wants_grid(recording, &run) {
                self.find_resident(&context.info);
            }
            for op in self.candidates(recording, &run) {
                if self.measured(recording, &run, &op).is_none() {
                    // A driver that refuses the kernel leaves the steps, which always work.
                    let found = self.measure_run(recording, &run, &op).unwrap_or([0.0, REFUSED]);
                    self.set_known(self.key(recording, &run.steps[0].buffers, &op), found);
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

    /// How many workgroups the device keeps at work; where that can't be found, one, which is no grid.
    fn find_resident(&self, info: &DeviceInfo) {
        if self.resident().is_err() {
            set_known_resident(info, Some(1));
        }
    }

    /// Milliseconds of some steps over buffers of their own, each launched and in one launch: [`REFUSED`] where that
    /// computes other numbers.
    fn measure_run(&self, recording: &Recording, run: &Run, op: &Op) -> Result<[f64; 2]> {
        let steps = shortened(&run.steps[..run.steps.len().min(STEPS)]);
        let few = Run { steps: &steps, all: &steps };
        // With the counters of a grid.
        let mut with = recording.with_launches(Vec::new());
        let one = candidate(&self.context, &few, way(op));
        let one = one.map(|op| impatient(op, self.context.info.software));
        let Some(one) = one.and_then(|op| together(&few, op, &mut with)) else {
            return Ok([0.0, REFUSED]);
        };
        let ways = [steps.clone(), one];
        // What a device's drivers are young in has to prove itself.
        let way = way(op);
        if (way.grid || way.matrices) && !self.agree(&with, &ways)? {
            return Ok([0.0, REFUSED]);
        }
        let times = self.measure_ways(&with, &ways, Recording::clone)?;
        Ok(times.map(|ms| ms * STEPS as f64 / steps.len() as f64))
    }

    /// Whether two ways leave the same numbers, but for rounding, where both begin with the same random ones.
    fn agree(&self, recording: &Recording, ways: &[Vec<Launch>; 2]) -> Result<bool> {
        let all = bound(recording, ways.iter().flatten());
        let half = all.values().any(|bound| bound.dtype == DType::F16);
        let alone = self.alone();
        let store = alone.store();
        let mut results: Vec<Vec<f32>> = Vec::new();
        for launches in ways {
            let mut way = Recording::new();
            let (mut own, mut inputs, mut outputs) = (BTreeMap::new(), Vec::new(), Vec::new());
            for (number, (&id, bound)) in all.iter().enumerate() {
                let name = format!("{number}");
                if bound.dtype == DType::U32 || bound.name == PROGRESS {
                    let role = if bound.name == PROGRESS { Role::Temporary } else { Role::Input };
                    own.insert(id, way.buffer(name, bound.len, bound.dtype, role)?);
                    continue;
                }
                let given =
                    way.buffer(format!("{name} given"), bound.len, DType::F32, Role::Input)?;
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
            let mut generator = Initializer::new(1);
            for (view, bound) in inputs {
                // Weights as of a layer of some hundred units, so that nothing grows.
                let values =
                    generator.uniform(view.len, if bound.name == "w" { 0.05 } else { 0.5 });
                program.write(view.buffer, bytemuck::cast_slice(&values), None)?;
            }
            set_flags(&mut program, &all, &own)?;
            let tries = if results.is_empty() { 1 } else { TRIES };
            for _ in 0..tries {
                program.run()?;
                let mut values = Vec::new();
                for (_, out) in &outputs {
                    values.extend(program.read(out.buffer, out.len, None)?);
                }
                results.push(values);
            }
        }
        let Some((want, others)) = results.split_first() else { return Ok(false) };
        let largest = want.iter().fold(0f32, |most, value| most.max(value.abs()));
        let apart = APART[usize::from(half)] * largest;
        let near = |pair: (&f32, &f32)| (pair.0 - pair.1).abs() <= apart;
        Ok(largest > 0.0 && others.iter().all(|got| got.iter().zip(want).all(near)))
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
            set_flags(&mut program, &all, &own)?;
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
fn impatient(mut op: Op, software: bool) -> Op {
    let team = match &mut op {
        Op::SequenceForward(op) => &mut op.team,
        Op::SequenceBackward(op) => &mut op.team,
        _ => return op,
    };
    if let Team::Grid { spins } = team
        && !software
    {
        *spins = SPINS.min(*spins);
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

/// All rows take part.
fn set_flags(
    program: &mut super::GpuProgram,
    all: &BTreeMap<BufferId, Bound>,
    own: &BTreeMap<BufferId, View>,
) -> Result<()> {
    for (id, _) in all.iter().filter(|(_, bound)| bound.name == "flags") {
        let words = vec![VALID; own[id].len];
        program.write(own[id].buffer, bytemuck::cast_slice(&words), None)?;
    }
    Ok(())
}

/// Some steps as those of a sequence that is no longer than they are: their buffers hold no more.
fn shortened(steps: &[Launch]) -> Vec<Launch> {
    let params = |op: &Op| match op {
        Op::StepForward(step) => Some(step.params),
        Op::StepBackward(step) => Some(step.params),
        _ => None,
    };
    let low = steps.iter().filter_map(|step| params(&step.op)).map(|p| p.t).min().unwrap_or(0);
    let time = steps.len() as u32;
    let change = |p: &StepParams| StepParams {
        time,
        t: p.t - low,
        old_slot: p.old_slot - low,
        new_slot: p.new_slot - low,
        later: p.later.checked_sub(low).filter(|later| *later < time).unwrap_or(NONE),
        first: 0,
        ..*p
    };
    let short = |launch: &Launch| {
        let op = match &launch.op {
            Op::StepForward(step) => {
                StepForward { params: change(&step.params), ..step.clone() }.into()
            }
            Op::StepBackward(step) => {
                StepBackward { params: change(&step.params), ..step.clone() }.into()
            }
            other => other.clone(),
        };
        Launch { op, buffers: launch.buffers.clone() }
    };
    steps.iter().map(short).collect()
}
