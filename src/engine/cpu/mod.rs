//! The CPU engine: the kernels' twins in Rust, one file a kernel, the same names as the shaders.
//!
//! Large products come from crate gemm; the rest is loops that vectorise, compiled for the best
//! instruction set at run time (crate pulp). Threads are rayon's. For a given number of threads two
//! runs give the same bits.

mod beside;
mod cell;
mod context;
mod convolution;
mod crf;
mod cross_entropy;
mod dropout;
mod embedding;
mod input;
mod input_norm;
mod lanes;
mod lasting;
mod load;
mod losses;
mod math;
mod matmul;
mod memory;
mod norm;
mod optimizer;
mod panel;
mod penalty;
mod pool;
mod product;
mod program;
mod reduce;
mod rows;
mod scan;
mod slope;
mod step;
mod store;
mod sum_parts;
mod team;
mod wavefront;
mod zoneout;

pub(super) use store::CpuStore;

use super::{Choice, KeptWeights, Strategy, WeightFormat};
use crate::error::{Error, Result};
use crate::kernel::{BackwardPhase, Control, Matmul, Op};
use crate::recording::{Launch, Recording};
use beside::{Arranged, Stage};
use context::Context;
use lasting::{Lasting, has_gradients};
pub(super) use program::CpuProgram;
use std::ops::Range;
use std::sync::Arc;

/// Elements that one task of an elementwise kernel takes.
const PARALLEL_CHUNK: usize = 1 << 14;

/// A launch's buffers by their names in the shader.
struct Bound<'a> {
    names: &'a Names,
    reads: &'a [&'a [f32]],
    writes: [&'a mut [f32]; MOST_BINDINGS],
    /// Of a step's weights, where what was made of them can be kept until they have another.
    version: Option<u64>,
    /// The same, or one for as long as a run lasts: until then steps' packed weights can be kept.
    label: Option<u64>,
    /// What it is kept in.
    format: WeightFormat,
    /// Of steps that make their input product themselves, that, with its weights' version and format.
    input: Option<(&'a Matmul, Option<u64>, WeightFormat)>,
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
    product: panel::ProductRoom,
    /// A strategy was asked for: threads share units even where they lose time by waiting for one another.
    insists: bool,
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
    pub(super) strategy: Strategy,
    /// Members of an ensemble, which run one after another; 1 without one.
    pub(super) members: usize,
    /// How weights that last are kept.
    pub(super) weights: WeightFormat,
}

/// Threads of an engine, at most.
const MOST_THREADS: usize = 1024;

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
    /// Zero threads, more than 1,024, or the system refuses to start them.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let threads = match threads {
            Some(0) => return Err(Error::invalid("the number of threads must be at least 1")),
            Some(threads) if threads > MOST_THREADS => {
                let what = format!("{threads} threads; there can be {MOST_THREADS}");
                return Err(Error::invalid(what));
            }
            Some(n) => n,
            None => std::thread::available_parallelism().map_or(1, |n| n.get()),
        };
        let context = Arc::new(Context::new(threads)?);
        Ok(CpuEngine { context, strategy: Strategy::Auto, members: 1, weights: WeightFormat::F32 })
    }

    /// The same engine for so many members, one after another.
    pub(super) fn ensemble(&self, members: usize) -> Self {
        CpuEngine { members, ..self.clone() }
    }

    /// The same engine with another way of keeping weights that last.
    pub(super) fn with_weights(&self, weights: WeightFormat) -> Self {
        CpuEngine { weights, ..self.clone() }
    }

    /// Threads of the engine.
    pub fn threads(&self) -> usize {
        self.context.threads
    }

    /// The same engine that puts runs beside one another, or, with steps, lets each have all threads.
    pub(super) fn with_strategy(&self, strategy: Strategy) -> Self {
        CpuEngine { strategy, ..self.clone() }
    }

    /// The recording as it is run, whether it fits or not.
    pub(super) fn arrange<'a>(&self, recording: &'a Recording) -> Result<Arranged<'a>> {
        let available = memory::available_bytes().map(|bytes| bytes / self.members as u64);
        beside::arrange(recording, self.context.threads, self.strategy, available)
    }

    /// The recording as it is run, if it fits.
    pub(super) fn arranged<'a>(&self, recording: &'a Recording) -> Result<Arranged<'a>> {
        if let Some(buffer) = recording.find_half() {
            let name = &buffer.name;
            return Err(Error::Device(format!(
                "the CPU engine computes in f32, and buffer '{name}' is f16: use precision f32 or a GPU"
            )));
        }
        if self.weights != WeightFormat::F32 && has_gradients(recording) {
            let format = self.weights.name();
            return Err(Error::invalid(format!(
                "weights in {format} are for inference, and this program has gradients: take an engine that keeps them in f32"
            )));
        }
        if recording.launches().iter().any(|launch| matches!(launch.op, Op::Resident(_))) {
            let what = "kernel resident counts the workgroups of a GPU; the CPU engine has none";
            return Err(Error::Device(what.to_string()));
        }
        let arranged = self.arrange(recording)?;
        let available = memory::available_bytes();
        let needed = arranged.plan.clone().times(self.members).peak_bytes();
        match available {
            Some(allowed) if needed > allowed => Err(Error::Limit {
                device: "cpu".to_string(),
                limit: "free memory in bytes",
                allowed,
                needed,
                what: format!("a recording of {} launches", recording.launches().len()),
            }),
            _ => Ok(arranged),
        }
    }

    /// How the threads share the steps of layers, each way once.
    pub(super) fn choices(&self, recording: &Recording) -> Result<Vec<Choice>> {
        let mut list: Vec<Choice> = Vec::new();
        let whole = recording;
        let Arranged { recording, stages, parts, .. } = self.arrange(recording)?;
        let lasting = Lasting::new(&recording);
        let mut add = |unit: &Range<usize>, threads: usize, lanes: usize| {
            let (input, steps) = input::apart(&recording.launches()[unit.clone()]);
            let first = &steps[0];
            let lasts = lasting.weights(first).is_some();
            let cut = step::shared_by(&first.op, steps.len(), lasts, threads);
            let with = "; each step multiplies its own input";
            let cut = cut.map(|cut| cut + if input.is_some() { with } else { "" });
            let reason = match &cut {
                Some(_) if lanes > 1 && self.strategy == Strategy::Wavefront => {
                    "asked for".to_string()
                }
                Some(_) if lanes > 1 => "no run beside it has to wait for it".to_string(),
                Some(_) if steps.len() > 1 => "its threads stay together over time".to_string(),
                Some(_) => "its weights last from run to run".to_string(),
                None => "steps of several phases, heads, or a recurrent dropout, or a single step"
                    .to_string(),
            };
            let beside = |cut: String| match lanes {
                1 => cut,
                _ => format!("{lanes} runs beside one another, of this one {cut}"),
            };
            let choice = Choice {
                kernel: first.op.kernel().name(),
                layers: 1,
                steps: steps.len(),
                strategy: if lanes > 1 { Strategy::Wavefront } else { Strategy::Step },
                measured_ms: None,
                reason,
                cut: cut.map(beside),
            };
            let is_step = matches!(&first.op, Op::StepForward(_) | Op::StepBackward(_));
            if is_step && !list.contains(&choice) {
                list.push(choice);
            }
        };
        for stage in &stages {
            match stage {
                Stage::One(unit) => add(unit, self.context.threads, 1),
                Stage::Lanes(lanes) => {
                    for lane in lanes {
                        lane.units.iter().for_each(|unit| add(unit, lane.threads, lanes.len()));
                    }
                }
            }
        }
        if parts > 1 {
            list.extend(wavefront::choices(whole, parts));
        }
        Ok(list)
    }

    pub(super) fn kept_weights(&self, recording: &Recording) -> Vec<KeptWeights> {
        lasting::kept_weights(recording, self.weights)
    }

    /// The recording over one member's store.
    pub(super) fn load(&self, arranged: &Arranged, store: &CpuStore) -> Result<CpuProgram> {
        CpuProgram::new(self, arranged, store)
    }
}

/// The most buffers a kernel reads, and writes.
const MOST_BINDINGS: usize = 10;

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
        Op::InputNormForward(k) => input_norm::input_norm_forward(context, k, bound),
        Op::InputNormBackward(k) => input_norm::input_norm_backward(context, k, bound),
        Op::ColumnSum(k) => input_norm::column_sum(context, k, bound),
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
