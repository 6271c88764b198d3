//! How the steps of a recurrence run on a device: a launch each, or all of a layer and direction in one.
//!
//! A recording has a launch a step. Those that follow one another over the same buffers become one
//! sequence kernel here, where the device and the shape are served by it and it is the faster way.

use super::grid::known_resident;
use super::steps::KnownSteps;
use super::tuning::key;
use super::{Context, Cooperative, DeviceInfo, GpuEngine, lock};
use crate::engine::{Choice, Strategy};
use crate::error::Result;
use crate::kernel::{
    BackwardPhase, BufferId, COOPERATIVE_TILES, Fill, GroupLimits, Op, SequenceBackward,
    SequenceForward, StepKind, StepParams, Team,
};
use crate::recording::{Launch, Recording};
use crate::tensor::DType;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Units of a head up to which one workgroup is taken to do better alone than a launch a step, where
/// that was not measured.
const FEW: u32 = 128;

/// Steps that are tried.
pub(super) const STEPS: usize = 32;

/// Steps in one launch, at most, so that a device is not kept from others for too long.
const MOST_STEPS: usize = 1 << 14;

/// Rounds after which Mesa's driver on the CPU ends a loop, in silence; all loops of a shader share them.
const ROUNDS: usize = 65_000;

/// Milliseconds of [`STEPS`] steps, each launched and in one launch, by kernel and shape. A kernel that a driver
/// refuses takes [`REFUSED`].
pub(super) type Times = BTreeMap<String, [f64; 2]>;

/// A time that no kernel takes: for the life of the process, as a device may have failed for other reasons.
pub(super) const REFUSED: f64 = 1e9;

/// By adapter and driver: for the life of the process.
static KNOWN: Mutex<BTreeMap<[String; 2], Times>> = Mutex::new(BTreeMap::new());

pub(super) fn known_times(info: &DeviceInfo) -> Times {
    lock(&KNOWN).get(&key(info)).cloned().unwrap_or_default()
}

pub(super) fn set_known_times(info: &DeviceInfo, times: Times) {
    lock(&KNOWN).insert(key(info), times);
}

impl GpuEngine {
    /// The same device with another way of launching the steps of a recurrence.
    ///
    /// # Errors
    /// Asked for grids, the device has no memory that workgroups share, or failed.
    pub(in crate::engine) fn with_strategy(&self, strategy: Strategy) -> Result<Self> {
        let mut limits = self.context.group_limits;
        if strategy == Strategy::Grid {
            self.check_coherent()?;
            if limits.resident == 0 {
                limits.resident = self.resident()?;
            }
        }
        Ok(self.copy(|context| {
            context.strategy = strategy;
            context.group_limits = limits;
        }))
    }

    pub(in crate::engine) fn strategy(&self) -> Strategy {
        self.context.strategy
    }

    /// A recording with the steps put together, and launches that need not wait for one another side by side.
    pub(in crate::engine) fn arranged<'a>(&self, recording: &'a Recording) -> Cow<'a, Recording> {
        self.arranged_around(recording, &[])
    }

    /// The same, with launches over buffers of the host's in their order and for themselves: two of those may be one.
    pub(super) fn arranged_around<'a>(
        &self,
        recording: &'a Recording,
        foreign: &[BufferId],
    ) -> Cow<'a, Recording> {
        if self.context.strategy == Strategy::Step {
            return match self.context.cooperative {
                Cooperative::Tile(_) => Cow::Owned(self.each_in_matrices(recording)),
                _ => Cow::Borrowed(recording),
            };
        }
        let most = self.most_bytes(recording);
        let ordered = match foreign {
            [] => self.wavefront(recording, most),
            _ => Cow::Borrowed(recording),
        };
        // What was asked for has its memory.
        let most = match self.context.strategy {
            Strategy::Wavefront => most.max(self.most_bytes(&ordered)),
            _ => most,
        };
        let together = self.together(&ordered);
        Cow::Owned(match self.context.beside {
            true => self.beside(together, foreign, most),
            false => together,
        })
    }

    /// Bytes of temporary buffers that a recording may have in another order: twice what it has in its own, or no more
    /// where a layer was given a budget.
    pub(super) fn most_bytes(&self, recording: &Recording) -> u64 {
        let own = recording.plan().map_or(0, |plan| plan.temporary_bytes());
        if recording.is_frugal() { own } else { own.saturating_mul(2) }
    }

    /// A recording with the steps put together.
    pub(super) fn together(&self, recording: &Recording) -> Recording {
        let mut out = recording.with_launches(Vec::new());
        let mut known = KnownSteps::default();
        let mut each = |launches: &[Launch], out: &mut Recording| {
            let launches = launches.iter();
            let each = launches.map(|launch| self.alone_in_matrices(recording, launch, &mut known));
            out.extend(&each.collect::<Vec<_>>());
        };
        for run in Runs(recording.launches()) {
            let taken = self.taken(recording, &run);
            let Some(steps) = taken.as_ref().and_then(|op| self.most_steps(op)) else {
                each(run.all, &mut out);
                continue;
            };
            let way = taken.as_ref().map_or(Way::default(), way);
            for part in run.parts(steps) {
                let together = match candidate(&self.context, &part, way) {
                    Some(op) => together(&part, op, &mut out),
                    None => None,
                };
                match together {
                    Some(launches) => out.extend(&launches),
                    None => each(part.all, &mut out),
                }
            }
        }
        out
    }

    /// Steps that a launch of a sequence kernel may have.
    fn most_steps(&self, op: &Op) -> Option<usize> {
        let limits = &self.context.group_limits;
        match op {
            Op::SequenceForward(op) => Some(op.cut.most_steps(limits)),
            Op::SequenceBackward(op) => Some(op.cut.most_steps(limits)),
            _ => None,
        }
    }

    /// How the steps of a recording are launched, and why.
    pub(in crate::engine) fn choices(&self, recording: &Recording) -> Result<Vec<Choice>> {
        self.count_subgroups_for(recording);
        self.measure_strategies(recording)?;
        let mut list: Vec<Choice> = Vec::new();
        for run in Runs(recording.launches()).filter(|run| is_step(&run.steps[0].op)) {
            let found = self.taken(recording, &run);
            let first = self.candidates(recording, &run).into_iter().next();
            let (taken, op) = (found.as_ref(), found.clone().or(first));
            let measured = op.as_ref().and_then(|op| self.measured(recording, &run, op));
            let refused = measured.is_some_and(|ms| ms[1] >= REFUSED);
            let measured = measured.filter(|_| !refused);
            let choice = Choice {
                kernel: taken.unwrap_or(&run.steps[0].op).kernel().name(),
                layers: 1,
                steps: run.steps.len(),
                strategy: match taken {
                    Some(op) if way(op).grid => Strategy::Grid,
                    Some(_) => Strategy::Sequence,
                    None => Strategy::Step,
                },
                measured_ms: measured.map(|ms| ms.map(|ms| ms / STEPS as f64)),
                reason: match refused {
                    true => {
                        "the device failed with the kernel of all steps, or computed other numbers"
                            .to_string()
                    }
                    false => self.reason(op.as_ref(), measured.is_some()),
                },
                cut: match taken {
                    Some(op) => cut_in_words(op),
                    None => self.step_in_words(recording, &run.steps[0]),
                }
                .or(op.as_ref().and_then(cut_in_words)),
            };
            if !list.contains(&choice) {
                list.push(choice);
            }
        }
        for choice in self.chain_choices(recording) {
            if !list.contains(&choice) {
                list.push(choice);
            }
        }
        Ok(list)
    }

    fn reason(&self, op: Option<&Op>, measured: bool) -> String {
        match (op, self.context.strategy, measured) {
            (_, Strategy::Step, _) | (Some(_), Strategy::Sequence | Strategy::Grid, _) => {
                "asked for".to_string()
            }
            (None, Strategy::Grid, _) => {
                let resident = self.context.group_limits.resident;
                format!(
                    "no grid serves a single step, several phases, heads, or so few units; the device keeps {resident} workgroups at work"
                )
            }
            (None, _, _) => {
                "no sequence kernel serves a single step, or several phases".to_string()
            }
            (Some(_), _, true) => "the faster one, measured".to_string(),
            (Some(_), _, false) => {
                format!("not measured here: heads of up to {FEW} units go in sequence")
            }
        }
    }

    /// The kernels that make a run in one launch, where there are any: those of one workgroup first, and of those that
    /// of matrices.
    pub(super) fn candidates(&self, recording: &Recording, run: &Run) -> Vec<Op> {
        let alone = self.of_teams(recording, run, false);
        let tried = self.context.measures && !matches!(self.context.strategy, Strategy::Sequence);
        match self.context.strategy {
            Strategy::Grid => self.of_teams(recording, run, true),
            // Weights that one workgroup holds need no grid, unless few workgroups have much to do for each.
            _ if tried && !alone.iter().any(|op| self.is_enough(op)) => {
                alone.into_iter().chain(self.of_teams(recording, run, true)).collect()
            }
            _ => alone,
        }
    }

    /// The same of one workgroup for some rows, or of a grid.
    fn of_teams(&self, recording: &Recording, run: &Run, grid: bool) -> Vec<Op> {
        if run.steps.len() < 2 {
            return Vec::new();
        }
        let context = &self.context;
        let matrices = multiplies_matrices(context, recording, run).then_some(true);
        let ways = matrices.into_iter().chain([false]).map(|matrices| Way { grid, matrices });
        ways.filter_map(|way| candidate(context, run, way)).collect()
    }

    /// Whether a grid is worth a try: the device has memory that workgroups share, and no workgroup holds the weights.
    pub(super) fn wants_grid(&self, recording: &Recording, run: &Run) -> bool {
        run.steps.len() > 1
            && is_step(&run.steps[0].op)
            && self.check_coherent().is_ok()
            && !self.of_teams(recording, run, false).iter().any(|op| self.is_enough(op))
    }

    /// Whether no more workgroups than a sequence has are worth a try: it keeps all weights, and a thread has one unit to
    /// settle, or there are workgroups for a good part of the device.
    fn is_enough(&self, op: &Op) -> bool {
        let cut = match op {
            Op::SequenceForward(op) => op.cut,
            Op::SequenceBackward(op) => op.cut,
            _ => return false,
        };
        let groups: usize = op.kernel().groups().iter().map(|&n| n as usize).product();
        let many = groups * 8 > self.context.group_limits.groups;
        cut.pinned == cut.places && (cut.each() == 1 || many)
    }

    /// The kernel that makes a run in one launch, if one is to: the first, or of those that were measured the
    /// fastest.
    fn taken(&self, recording: &Recording, run: &Run) -> Option<Op> {
        let list = self.candidates(recording, run).into_iter();
        let mut list: Vec<_> = list.filter(|op| self.takes(recording, run, op)).collect();
        let time = |op: &Op| self.measured(recording, run, op).map_or(0.0, |ms| ms[1]);
        // Sorts keep the order of equals.
        list.sort_by(|a, b| time(a).total_cmp(&time(b)));
        list.into_iter().next()
    }

    /// Whether a run goes into one launch.
    fn takes(&self, recording: &Recording, run: &Run, op: &Op) -> bool {
        match (self.context.strategy, self.measured(recording, run, op)) {
            (Strategy::Step, _) => false,
            (Strategy::Sequence | Strategy::Grid, _) => true,
            (Strategy::Auto | Strategy::Wavefront, Some([step, sequence])) => sequence <= step,
            (Strategy::Auto | Strategy::Wavefront, None) => head(op) <= FEW && !way(op).grid,
        }
    }

    pub(super) fn measured(&self, recording: &Recording, run: &Run, op: &Op) -> Option<[f64; 2]> {
        self.known(&self.key(recording, &run.steps[0].buffers, op))
    }

    pub(super) fn known(&self, of: &str) -> Option<[f64; 2]> {
        lock(&KNOWN).get(&key(&self.context.info))?.get(of).copied()
    }

    /// Whether anything was measured whose name begins so.
    pub(super) fn knows(&self, beginning: &str) -> bool {
        let known = lock(&KNOWN);
        let times = known.get(&key(&self.context.info));
        times.is_some_and(|times| times.keys().any(|of| of.starts_with(beginning)))
    }

    pub(super) fn set_known(&self, of: String, ms: [f64; 2]) {
        let mut known = lock(&KNOWN);
        known.entry(key(&self.context.info)).or_default().entry(of).or_insert(ms);
    }

    /// What the time depends on: kernel and permutation, element types, rows. Members of an ensemble go as they do
    /// alone. Whether Initial comes
    /// behind is left out: a part of a sequence has to go as the whole does.
    pub(super) fn key(&self, recording: &Recording, buffers: &[BufferId], op: &Op) -> String {
        let op = &match op.clone() {
            Op::SequenceBackward(op) => SequenceBackward { initial: false, ..op }.into(),
            other => other,
        };
        let launch = Launch { op: op.clone(), buffers: buffers.to_vec() };
        let types: Vec<_> = recording.bindings(&launch).iter().map(|b| b.dtype).collect();
        let (kernel, groups) = (op.kernel(), op.kernel().groups());
        let (name, defines) = (kernel.name(), kernel.defines());
        let defines = defines.into_iter().map(|(name, value)| match value.is_empty() {
            true => name.to_string(),
            false => format!("{name}={value}"),
        });
        let types = types.iter().map(|dtype| format!("{dtype:?}").to_lowercase());
        let words = defines.chain(types).collect::<Vec<_>>().join(" ");
        format!("{name} {words} groups {}", groups.map(|n| n.to_string()).join("x"))
    }

    /// The same device with strategies measured, or not: for tests, and where each is asked for by its name.
    #[doc(hidden)]
    pub fn with_measuring(&self, measures: bool) -> Self {
        self.copy(|context| context.measures = measures)
    }

    /// The same device with other limits for sequence kernels: for tests and measurements.
    #[doc(hidden)]
    pub fn with_group_limits(&self, limits: GroupLimits) -> Self {
        self.copy(|context| context.group_limits = limits)
    }

    /// What a workgroup of a sequence kernel may have.
    #[doc(hidden)]
    pub fn group_limits(&self) -> GroupLimits {
        self.context.group_limits
    }
}

/// What a device lets a workgroup of a sequence kernel have.
pub(super) fn group_limits(limits: &wgpu::Limits, software: bool) -> GroupLimits {
    let threads =
        limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
    GroupLimits {
        threads: threads.min(512) as usize,
        bytes: limits.max_compute_workgroup_storage_size as usize,
        // With 512 threads of a few dozen words besides, what a multiprocessor of today's GPUs has.
        registers: 64,
        spills: !software,
        groups: if software { 2 } else { 128 },
        slices: 32,
        steps: MOST_STEPS,
        rounds: if software { ROUNDS } else { usize::MAX },
        resident: 0,
        // On a driver that counts rounds, some of them; else about a second.
        spins: if software { ROUNDS / 4 } else { 1 << 14 },
        matrix: 0,
        lanes: 0,
    }
}

/// Launches of which the first are steps that follow one another, or a single other launch.
pub(super) struct Run<'a> {
    pub steps: &'a [Launch],
    /// With the phase Initial behind backward steps.
    pub all: &'a [Launch],
}

impl<'a> Run<'a> {
    /// The run in parts of so many steps.
    fn parts(&self, most: usize) -> impl Iterator<Item = Run<'a>> + use<'a> {
        let Run { steps, all } = *self;
        let count = steps.len();
        (0..count).step_by(most).map(move |from| {
            let to = (from + most).min(count);
            let end = if to == count { all.len() } else { to };
            Run { steps: &all[from..to], all: &all[from..end] }
        })
    }
}

/// Cuts launches into runs.
pub(super) struct Runs<'a>(pub &'a [Launch]);

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let pairs = self.0.windows(2);
        let count = 1 + pairs.take_while(|pair| follows(&pair[0], &pair[1])).count();
        let tail = self.0.get(count).is_some_and(|next| ends(&self.0[count - 1], next));
        let (all, rest) = self.0.split_at(count + usize::from(tail));
        self.0 = rest;
        Some(Run { steps: &all[..count], all })
    }
}

fn is_step(op: &Op) -> bool {
    matches!(op, Op::StepForward(_) | Op::StepBackward(_))
}

/// Whether a launch is the step that comes after another.
fn follows(before: &Launch, after: &Launch) -> bool {
    let same = |kinds: [&StepKind; 2]| kinds[0] == kinds[1] && before.buffers == after.buffers;
    match (&before.op, &after.op) {
        (Op::StepForward(a), Op::StepForward(b)) => {
            a.phase == b.phase && b.params.is_after(&a.params) && same([&a.kind, &b.kind])
        }
        (Op::StepBackward(a), Op::StepBackward(b)) => {
            a.phase == b.phase
                && a.d_output == b.d_output
                && b.params.is_before(&a.params)
                && same([&a.kind, &b.kind])
        }
        _ => false,
    }
}

/// Whether a launch is the phase Initial behind the last of the backward steps.
fn ends(last: &Launch, after: &Launch) -> bool {
    let (Op::StepBackward(a), Op::StepBackward(b)) = (&last.op, &after.op) else { return false };
    // All that Initial binds, the steps bind too.
    let bound = |launch: &Launch, name: &str| {
        let bindings = launch.op.kernel().bindings();
        let at = bindings.iter().position(|binding| binding.name == name);
        at.map(|at| launch.buffers[at])
    };
    let bindings = after.op.kernel().bindings();
    let same = |name: &str| bound(last, name) == bound(after, name);
    let params = StepParams { d_output_offset: a.params.d_output_offset, ..b.params };
    let here = StepParams { later: a.params.t, ..a.params };
    a.phase == BackwardPhase::Cell
        && b.phase == BackwardPhase::Initial
        && a.kind == b.kind
        && bytemuck::bytes_of(&params) == bytemuck::bytes_of(&here)
        && bindings.iter().all(|binding| same(binding.name))
}

/// How a kernel makes all steps.
#[derive(Clone, Copy, Default)]
pub(super) struct Way {
    /// By several workgroups that wait for one another.
    pub grid: bool,
    /// With products in matrices.
    pub matrices: bool,
}

impl Way {
    /// Drivers are young in it: such a kernel has to prove itself.
    pub fn is_young(self) -> bool {
        self.grid || self.matrices
    }
}

pub(super) fn way(op: &Op) -> Way {
    let (cut, team) = match op {
        Op::SequenceForward(op) => (op.cut, op.team),
        Op::SequenceBackward(op) => (op.cut, op.team),
        _ => return Way::default(),
    };
    Way { grid: team != Team::Alone, matrices: cut.matrices.is_some() }
}

/// Whether subgroups may multiply a run's matrices together: the device does that, and all that is multiplied lies in
/// f16. On a driver of the CPU only on request.
fn multiplies_matrices(context: &Context, recording: &Recording, run: &Run) -> bool {
    let wanted = match context.cooperative {
        Cooperative::Measured => !context.info.software,
        Cooperative::Never => false,
        Cooperative::Tile(_) => true,
    };
    let bound = recording.bindings(&run.steps[0]);
    let handed = if matches!(run.steps[0].op, Op::StepForward(_)) { "states" } else { "gates" };
    let mut multiplied = bound.iter().filter(|binding| ["w", handed].contains(&binding.name));
    wanted && !context.offered().is_empty() && multiplied.all(|binding| binding.dtype == DType::F16)
}

/// The kernel that makes a run in one launch, where there is one. A single step is its own kernel's, unless it
/// is what is left of a longer run.
pub(super) fn candidate(context: &Context, run: &Run, way: Way) -> Option<Op> {
    let (count, initial) = (run.steps.len(), run.all.len() > run.steps.len());
    let (grid, mut limits) = (way.grid, context.group_limits);
    if limits.resident == 0 {
        limits.resident = known_resident(&context.info).unwrap_or(0);
    }
    if way.matrices {
        limits.matrix = COOPERATIVE_TILES[*context.offered().first()?].matrix;
        limits.lanes = context.lanes();
    }
    let op: Op = match &run.steps[0].op {
        Op::StepForward(step) if grid => SequenceForward::grid(step, count, &limits)?.into(),
        Op::StepBackward(step) if grid => {
            SequenceBackward::grid(step, count, initial, &limits)?.into()
        }
        Op::StepForward(step) => SequenceForward::new(step, count, &limits)?.into(),
        Op::StepBackward(step) => SequenceBackward::new(step, count, initial, &limits)?.into(),
        _ => return None,
    };
    let most = context.limits.max_compute_workgroups_per_dimension;
    let kernel = op.kernel();
    let groups = kernel.groups();
    let fits = groups.into_iter().all(|groups| groups <= most)
        && kernel.bindings().len() <= context.most_bound();
    // Those of all members wait side by side.
    let kept = groups.into_iter().map(|n| n as usize).product::<usize>() * context.members();
    (fits && (!grid || kept <= limits.resident)).then_some(op)
}

/// The launches that make a run with a candidate: itself, or a grid and what comes behind it, with counters that
/// begin at zero.
pub(super) fn together(run: &Run, op: Op, out: &mut Recording) -> Option<Vec<Launch>> {
    let mut buffers = run.steps[0].buffers.clone();
    if !way(&op).grid {
        return Some(vec![Launch { op, buffers }]);
    }
    let (rest, words): (Op, usize) = match &op {
        Op::SequenceForward(grid) => (grid.rest().into(), grid.progress_words()),
        Op::SequenceBackward(grid) => (grid.rest().into(), grid.progress_words()),
        _ => return None,
    };
    let progress = out.scratch(words).ok()?;
    buffers.push(progress.buffer);
    let zero = Launch { op: Fill::new(progress, 0.0).into(), buffers: vec![progress.buffer] };
    Some(vec![zero, Launch { op, buffers: buffers.clone() }, Launch { op: rest, buffers }])
}

fn cut_in_words(op: &Op) -> Option<String> {
    match op {
        Op::SequenceForward(op) => Some(op.to_string()),
        Op::SequenceBackward(op) => Some(op.to_string()),
        _ => None,
    }
}

fn head(op: &Op) -> u32 {
    match op {
        Op::SequenceForward(op) => op.step.params.head,
        Op::SequenceBackward(op) => op.step.params.head,
        _ => u32::MAX,
    }
}
