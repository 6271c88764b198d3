//! The CPU engine: the kernels' twins in Rust, one file a kernel, the same names as the shaders.
//!
//! Large products come from crate gemm; the rest is loops that vectorise, compiled for the best
//! instruction set at run time (crate pulp). Threads are rayon's. For a given number of threads two
//! runs give the same bits.

mod cell;
mod convolution;
mod crf;
mod cross_entropy;
mod dropout;
mod embedding;
mod lasting;
mod losses;
mod math;
mod matmul;
mod memory;
mod norm;
mod normalise;
mod optimizer;
mod panel;
mod penalty;
mod pool;
mod product;
mod reduce;
mod rows;
mod scan;
mod slope;
mod step;
mod store;
mod sum_parts;
mod team;
mod zoneout;

pub(super) use store::CpuStore;

use super::{Choice, Strategy};
use crate::error::{Error, Result};
use crate::kernel::{Access, BackwardPhase, BufferId, Control, Op};
use crate::recording::{Launch, MemoryPlan, Recording, Role};
use lasting::{Lasting, weights_of};
use std::sync::{Arc, Mutex};

/// Elements that one task of an elementwise kernel takes.
const PARALLEL_CHUNK: usize = 1 << 14;

/// What kernels know of the engine.
struct Context {
    threads: usize,
    pool: rayon::ThreadPool,
    /// Held by the team at work: see [`team::Team`].
    team: Mutex<()>,
}

/// A launch's buffers by their names in the shader.
struct Bound<'a> {
    names: &'a Names,
    reads: &'a [&'a [f32]],
    writes: [&'a mut [f32]; MOST],
    /// Of a step's weights, where what was made of them can be kept until they have another.
    version: Option<u64>,
}

/// The names of what a launch reads and of what it writes, each in binding order.
#[derive(Default)]
struct Names {
    reads: Vec<&'static str>,
    writes: Vec<&'static str>,
}

impl<'a> Bound<'a> {
    /// A buffer that is only read; empty where the launch has none of that name.
    fn read(&self, name: &str) -> &'a [f32] {
        match self.names.reads.iter().position(|&n| n == name) {
            Some(i) => self.reads[i],
            None => &[],
        }
    }

    /// A buffer that is written, once; empty where the launch has none of that name.
    fn write(&mut self, name: &str) -> &'a mut [f32] {
        match self.names.writes.iter().position(|&n| n == name) {
            Some(i) => std::mem::take(&mut self.writes[i]),
            None => &mut [],
        }
    }
}

/// Memory of a layer's launches besides the recording's: the transposed weights, which serve all steps,
/// room for the rows that a step gathers, and zeros.
#[derive(Default)]
struct Scratch {
    weights: Vec<f32>,
    rows: Vec<f32>,
    zeros: Vec<f32>,
    members: Vec<step::MemberRoom>,
    /// A product's weights and sums, where they last and it has few rows.
    kept: panel::Kept,
    sums: Vec<f32>,
}

impl Scratch {
    /// At least so many zeros.
    fn zero(&mut self, words: usize) {
        let words = words.max(self.zeros.len());
        self.zeros.resize(words, 0.0);
    }

    /// Room for so many members of a team.
    fn rooms(&mut self, count: usize) -> impl Iterator<Item = &mut step::MemberRoom> {
        let count_now = self.members.len().max(count);
        self.members.resize_with(count_now, Default::default);
        self.members[..count].iter_mut()
    }
}

/// The control words, as the host wrote them.
fn control(words: &[f32]) -> Control {
    *bytemuck::from_bytes(bytemuck::cast_slice(&words[..Control::WORDS]))
}

/// Runs recordings on the CPU.
#[derive(Clone)]
pub struct CpuEngine {
    context: Arc<Context>,
    /// Members of an ensemble, which run one after another; 1 without one.
    pub(super) members: usize,
}

impl CpuEngine {
    /// The best instruction set that crate gemm and crate pulp have code for and this machine has.
    pub fn instruction_set() -> &'static str {
        #[cfg(target_arch = "x86_64")]
        return if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            "AVX-512"
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            "AVX2 and FMA"
        } else {
            "SSE2"
        };
        #[cfg(not(target_arch = "x86_64"))]
        if cfg!(target_arch = "aarch64") { "NEON" } else { "scalar" }
    }

    /// An engine with so many threads; none given, as many as the machine has cores.
    ///
    /// # Errors
    /// Zero threads, or the system refuses to start them.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let threads = match threads {
            Some(0) => return Err(Error::invalid("the number of threads must be at least 1")),
            Some(n) => n,
            None => std::thread::available_parallelism().map_or(1, |n| n.get()),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| Error::Device(format!("could not start {threads} threads: {e}")))?;
        Ok(CpuEngine {
            context: Arc::new(Context { threads, pool, team: Mutex::new(()) }),
            members: 1,
        })
    }

    /// The same engine for so many members, one after another.
    pub(super) fn ensemble(&self, members: usize) -> Self {
        CpuEngine { members, ..self.clone() }
    }

    /// Threads of the engine.
    pub fn threads(&self) -> usize {
        self.context.threads
    }

    pub(super) fn check(&self, recording: &Recording) -> Result<()> {
        if let Some(buffer) = recording.find_half() {
            let name = &buffer.name;
            return Err(Error::Device(format!(
                "the CPU engine computes in f32, and buffer '{name}' is f16: use precision f32 or a GPU"
            )));
        }
        let needed = recording.plan()?.times(self.members).peak_bytes();
        match memory::available_bytes() {
            Some(allowed) if needed > allowed => Err(Error::Limit {
                device: "cpu".to_string(),
                limit: "free memory in bytes",
                allowed,
                needed,
                what: format!("a recording of {} launches", recording.launches().len()),
            }),
            _ => Ok(()),
        }
    }

    /// How the threads share the steps of layers, each way once.
    pub(super) fn choices(&self, recording: &Recording) -> Vec<Choice> {
        let mut list: Vec<Choice> = Vec::new();
        let mut rest = recording.launches();
        let lasting = Lasting::new(recording);
        while let Some(first) = rest.first() {
            let steps = step_count(rest);
            rest = &rest[steps..];
            let lasts = lasting.weights(first).is_some();
            let cut = step::shared_by(&first.op, steps, lasts, self.context.threads);
            let choice = Choice {
                kernel: first.op.kernel().name(),
                layers: 1,
                steps,
                strategy: Strategy::Step,
                measured_ms: None,
                reason: match &cut {
                    Some(_) if steps > 1 => "its threads stay together over time".to_string(),
                    Some(_) => "its weights last from run to run".to_string(),
                    None => {
                        "steps of several phases, heads, or a recurrent dropout, or a single step"
                            .to_string()
                    }
                },
                cut,
            };
            let is_step = matches!(&first.op, Op::StepForward(_) | Op::StepBackward(_));
            if is_step && !list.contains(&choice) {
                list.push(choice);
            }
        }
        list
    }

    /// The recording over one member's store.
    pub(super) fn load(&self, recording: &Recording, store: &CpuStore) -> Result<CpuProgram> {
        self.check(recording)?;
        let plan = recording.plan()?;
        let mut memory: Vec<Vec<f32>> = plan.slots.iter().map(|&n| vec![0.0; n]).collect();
        let mut place = Vec::new();
        let mut shared = Vec::new();
        let lasting = Lasting::new(recording);
        let mut tensors = store.lock();
        for (id, buffer) in recording.iter() {
            if let Some(slot) = plan.slot_of[id.0] {
                place.push(slot);
                continue;
            }
            place.push(memory.len());
            match buffer.role {
                Role::Parameter | Role::State => {
                    let found = tensors.by_name.get(&buffer.name).map(|t| t.words.len());
                    super::check_shared(found, buffer)?;
                    if found.is_none() {
                        tensors.set(&buffer.name, vec![0.0; buffer.len]);
                    }
                    shared.push(SharedTensor {
                        name: buffer.name.clone(),
                        place: memory.len(),
                        len: buffer.len,
                        is_written: lasting.is_written(id),
                        version: 0,
                    });
                    memory.push(Vec::new());
                }
                Role::Temporary => memory.push(Vec::new()),
                Role::Input | Role::Output => memory.push(vec![0.0; buffer.len]),
            }
        }
        drop(tensors);
        // Steps that share weights and a phase share their transpose.
        let mut layers: Vec<(BufferId, u8)> = Vec::new();
        // The first is for launches that have none of their own.
        let mut scratches = vec![Scratch::default()];
        // The last launch that touches a buffer.
        let mut touched = vec![0; place.len()];
        for (number, launch) in recording.launches().iter().enumerate() {
            launch.buffers.iter().for_each(|id| touched[id.0] = number);
        }
        let mut rest = recording.launches();
        let runs = std::iter::from_fn(|| {
            let first = rest.first()?;
            let together = step_count(rest);
            let run;
            (run, rest) = rest.split_at(together);
            let behind = recording.launches().len() - rest.len();
            Some((first, behind, run.iter().map(|launch| launch.op.clone()).collect()))
        });
        let launches = runs.map(|(launch, behind, ops): (&Launch, usize, Vec<Op>)| {
            let bindings = launch.op.kernel().bindings();
            let bound = |id: BufferId| Place { place: place[id.0], len: recording.get(id).len };
            let of = |access| {
                let pairs = bindings.iter().zip(&launch.buffers);
                pairs.filter(|p| p.0.access == access).map(|p| bound(*p.1)).collect()
            };
            let names =
                |access| bindings.iter().filter(|b| b.access == access).map(|b| b.name).collect();
            let (reads, writes) = (of(Access::Read), of(Access::Write));
            let names = Names { reads: names(Access::Read), writes: names(Access::Write) };
            let phase = match &launch.op {
                Op::StepForward(k) => Some(k.phase as u8),
                Op::SequenceForward(k) => Some(k.step.phase as u8),
                Op::StepBackward(k) => Some(16 + k.phase as u8),
                Op::SequenceBackward(k) => Some(16 + k.step.phase as u8),
                Op::Matmul(k) if matmul::keeps_weights(k) => Some(32 + u8::from(k.b_transposed)),
                _ => None,
            };
            let weights = weights_of(launch);
            let scratch = phase.zip(weights).map_or(0, |(phase, w)| {
                let layer = (w, phase);
                let known = layers.iter().position(|&l| l == layer);
                if known.is_none() {
                    layers.push(layer);
                    scratches.push(Scratch::default());
                }
                known.map_or(layers.len(), |at| at + 1)
            });
            let gates = bindings.iter().zip(&launch.buffers).find(|b| b.0.name == "gates");
            let keeps_gates = gates.is_none_or(|gates| touched[gates.1.0] >= behind);
            let weights = lasting.weights(launch).and_then(|id| {
                shared.iter().position(|tensor: &SharedTensor| tensor.place == place[id.0])
            });
            CpuLaunch { ops, scratch, names, reads, writes, keeps_gates, weights }
        });
        let launches: Vec<_> = launches.collect();
        let threads = self.context.threads;
        let is_small = launches.iter().all(|launch| launch.is_small(threads));
        Ok(CpuProgram {
            is_small,
            launches,
            scratch: scratches,
            context: self.context.clone(),
            store: store.clone(),
            memory,
            place,
            shared,
            plan,
        })
    }
}

struct CpuLaunch {
    /// One, or steps that are made together, which count as that many launches.
    ops: Vec<Op>,
    /// Which scratch a step has: one for each weights and phase.
    scratch: usize,
    names: Names,
    reads: Vec<Place>,
    writes: Vec<Place>,
    /// What a cell leaves in the gates is read behind the launch.
    keeps_gates: bool,
    /// Which tensor of the store the weights are, if the program never writes them.
    weights: Option<usize>,
}

impl CpuLaunch {
    /// One thread does it, and no other need be asked.
    fn is_small(&self, threads: usize) -> bool {
        match &self.ops[..] {
            [Op::Matmul(k)] => matmul::is_small(k, self.weights.is_some()),
            [Op::Combine(k)] => memory::is_small(k),
            [Op::SelectRows(_) | Op::SequenceFlags(_) | Op::Fill(_) | Op::EmbeddingForward(_)] => {
                true
            }
            ops @ [Op::StepForward(_), ..] => {
                step::members(ops, self.weights.is_some(), threads) == 1
            }
            _ => false,
        }
    }
}

/// A buffer that lives in the store between runs.
struct SharedTensor {
    name: String,
    /// Its place in the memory.
    place: usize,
    len: usize,
    /// The program writes it.
    is_written: bool,
    /// That of this run.
    version: u64,
}

/// A buffer of a launch: its memory may be a slot that is longer than the buffer.
#[derive(Clone, Copy)]
struct Place {
    place: usize,
    len: usize,
}

/// A recording with its memory, ready to run.
pub struct CpuProgram {
    context: Arc<Context>,
    store: CpuStore,
    launches: Vec<CpuLaunch>,
    memory: Vec<Vec<f32>>,
    scratch: Vec<Scratch>,
    /// Index into `memory` for each buffer of the recording.
    place: Vec<usize>,
    shared: Vec<SharedTensor>,
    /// No launch asks other threads: a run stays where it was called.
    is_small: bool,
    plan: MemoryPlan,
}

impl CpuProgram {
    pub(super) fn run(&mut self) -> Result<()> {
        self.run_each(|_| {})
    }

    /// One run; `begins` is called with each launch's number before it, and with their count at the
    /// end.
    pub(super) fn run_each(&mut self, mut begins: impl FnMut(usize) + Send) -> Result<()> {
        let mut tensors = self.store.lock();
        for SharedTensor { name, len, .. } in &self.shared {
            let found = tensors.by_name.get(name).map_or(0, |tensor| tensor.words.len());
            if found != *len {
                return Err(Error::shape(name.as_str(), &[*len], &[found]));
            }
        }
        for shared in &mut self.shared {
            if let Some(tensor) = tensors.by_name.get_mut(&shared.name) {
                self.memory[shared.place] = std::mem::take(&mut tensor.words);
                shared.version = tensor.version;
            }
        }
        let (context, launches, shared) = (&self.context, &self.launches, &self.shared);
        let (memory, scratch) = (&mut self.memory, &mut self.scratch);
        let mut all = || {
            let mut number = 0;
            for launch in launches {
                begins(number);
                let version = launch.weights.map(|weights| shared[weights].version);
                execute(context, launch, memory, &mut scratch[launch.scratch], version);
                // The first of them has all the time.
                (1..launch.ops.len()).for_each(|step| begins(number + step));
                number += launch.ops.len();
            }
            begins(number);
        };
        if self.is_small {
            all()
        } else {
            context.pool.install(all)
        }
        for shared in &self.shared {
            let next = tensors.versions + 1;
            if let Some(tensor) = tensors.by_name.get_mut(&shared.name) {
                tensor.words = std::mem::take(&mut self.memory[shared.place]);
                if shared.is_written {
                    tensor.version = next;
                    tensors.versions = next;
                }
            }
        }
        Ok(())
    }

    pub(super) fn buffer(&self, id: BufferId) -> &[f32] {
        &self.memory[self.place[id.0]]
    }

    pub(super) fn buffer_mut(&mut self, id: BufferId) -> &mut [f32] {
        &mut self.memory[self.place[id.0]]
    }

    pub(super) fn plan(&self) -> &MemoryPlan {
        &self.plan
    }
}

/// The most buffers a kernel reads, and writes.
const MOST: usize = 10;

/// How many launches at the list's start are steps that are made together. The phase Initial binds some of what the
/// steps before it do.
fn step_count(launches: &[Launch]) -> usize {
    let first = &launches[0].buffers;
    let same = |launch: &&Launch| match &launch.op {
        Op::StepBackward(k) if k.phase == BackwardPhase::Initial => {
            launch.buffers.iter().all(|buffer| first.contains(buffer))
        }
        _ => launch.buffers == *first,
    };
    step::steps_together(launches.iter().take_while(same).map(|launch| &launch.op))
}

fn execute(
    context: &Context,
    launch: &CpuLaunch,
    memory: &mut [Vec<f32>],
    scratch: &mut Scratch,
    version: Option<u64>,
) {
    // Written buffers leave the table while the kernel runs, so that the rest can be read: no
    // launch binds a buffer twice.
    let mut taken: [Vec<f32>; MOST] = Default::default();
    for (vec, bound) in taken.iter_mut().zip(&launch.writes) {
        *vec = std::mem::take(&mut memory[bound.place]);
    }
    {
        let mut reads: [&[f32]; MOST] = Default::default();
        for (slice, bound) in reads.iter_mut().zip(&launch.reads) {
            *slice = &memory[bound.place][..bound.len];
        }
        let steps: Vec<Op> = match &launch.ops[..] {
            [Op::SequenceForward(k)] => k.steps().into_iter().map(Op::from).collect(),
            [Op::SequenceBackward(k)] => k.steps().into_iter().map(Op::from).collect(),
            _ => Vec::new(),
        };
        let mut rest: &[Op] = if steps.is_empty() { &launch.ops } else { &steps };
        while !rest.is_empty() {
            let ops;
            (ops, rest) = rest.split_at(step::steps_together(rest.iter()));
            let mut writes: [&mut [f32]; MOST] = Default::default();
            for ((slice, vec), bound) in writes.iter_mut().zip(&mut taken).zip(&launch.writes) {
                *slice = &mut vec[..bound.len];
            }
            let reads = &reads[..launch.reads.len()];
            let bound = Bound { names: &launch.names, reads, writes, version };
            run(context, ops, launch.keeps_gates, bound, scratch);
        }
    }
    for (vec, bound) in taken.iter_mut().zip(&launch.writes) {
        memory[bound.place] = std::mem::take(vec);
    }
}

fn run(context: &Context, ops: &[Op], keeps_gates: bool, bound: Bound, scratch: &mut Scratch) {
    if step::goes_together(ops, bound.version.is_some()) {
        return step::sequence(context, ops, bound, scratch, keeps_gates);
    }
    match &ops[0] {
        // Their steps were taken apart; what a grid has not made is nothing.
        Op::SequenceForward(_) | Op::SequenceBackward(_) => {}
        // There are no workgroups, and launches side by side were taken apart.
        Op::Resident(_) | Op::Beside(_) => {}
        Op::Matmul(k) => matmul::matmul(context, k, bound, scratch),
        Op::Slope(k) => slope::slope(context, k, bound),
        Op::SumParts(k) => sum_parts::sum_parts(context, k, bound),
        Op::StepForward(k) => step::step_forward(context, k, bound, scratch),
        Op::StepBackward(k) => step::step_backward(context, k, bound, scratch),
        Op::NormForward(k) => norm::norm_forward(context, k, bound, scratch),
        Op::NormBackward(k) => norm::norm_backward(context, k, bound, scratch),
        Op::ScanForward(k) => scan::scan_forward(context, k, bound),
        Op::ScanBackward(k) => scan::scan_backward(context, k, bound),
        Op::Combine(k) => memory::combine(context, k, bound),
        Op::SelectRows(k) => memory::select_rows(context, k, bound),
        Op::SequenceFlags(k) => memory::sequence_flags(context, k, bound),
        Op::Fill(k) => memory::fill(context, k, bound),
        Op::ColumnsForward(k) => convolution::columns_forward(context, k, bound),
        Op::ColumnsBackward(k) => convolution::columns_backward(context, k, bound),
        Op::NormaliseForward(k) => normalise::normalise_forward(context, k, bound),
        Op::NormaliseBackward(k) => normalise::normalise_backward(context, k, bound),
        Op::ColumnSum(k) => normalise::column_sum(context, k, bound),
        Op::ActivationPenalty(k) => penalty::activation_penalty(context, k, bound),
        Op::EmbeddingForward(k) => embedding::embedding_forward(context, k, bound),
        Op::EmbeddingBackward(k) => embedding::embedding_backward(context, k, bound),
        Op::MaxOverTime(k) => pool::max_over_time(context, k, bound),
        Op::MaxOverTimeBackward(k) => pool::max_over_time_backward(context, k, bound),
        Op::Dropout(k) => dropout::dropout(context, k, bound),
        Op::CrossEntropy(k) => cross_entropy::cross_entropy(context, k, bound),
        Op::LossTotal(k) => losses::loss_total(context, k, bound),
        Op::ElementLoss(k) => losses::element_loss(context, k, bound),
        Op::CrfScan(k) => crf::crf_scan(context, k, bound),
        Op::CrfPosterior(k) => crf::crf_posterior(context, k, bound),
        Op::CrfTransitions(k) => crf::crf_transitions(context, k, bound),
        Op::SumSquares(k) => reduce::sum_squares(context, k, bound),
        Op::ClipScale(k) => reduce::clip_scale(context, k, bound),
        Op::RecordLoss(k) => reduce::record_loss(context, k, bound),
        Op::Sgd(k) => optimizer::sgd(context, k, bound),
        Op::Adam(k) => optimizer::adam(context, k, bound),
        Op::RmsProp(k) => optimizer::rms_prop(context, k, bound),
        Op::Average(k) => optimizer::average(context, k, bound),
        Op::ClipValue(k) => optimizer::clip_value(context, k, bound),
    }
}
