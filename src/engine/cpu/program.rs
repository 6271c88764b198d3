//! A recording with its memory, ready to run.

use super::store::CpuStore;
use super::team::ThreadTeam;
use super::{Bound, Context, MOST_BINDINGS, Names, Scratch, embedding, matmul, memory, run, step};
use crate::clock::Instant;
use crate::engine::WeightFormat;
use crate::error::{Error, Result};
use crate::kernel::{BufferId, Matmul, Op};
use crate::recording::MemoryPlan;
use rayon::prelude::*;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A launch, or steps that are made together.
pub struct CpuLaunch {
    /// One, or steps that are made together, which count as that many launches.
    pub ops: Vec<Op>,
    /// Which scratch a step has: one for each weights and phase.
    pub scratch: usize,
    pub names: Names,
    pub reads: Vec<Place>,
    pub writes: Vec<Place>,
    /// What a cell leaves in the gates is read behind the launch.
    pub keeps_gates: bool,
    /// Which tensor of the store the weights are, if the program never writes them.
    pub weights: Option<usize>,
    /// What they are kept in.
    pub format: WeightFormat,
    /// Nothing writes the weights before this launch in a run.
    pub stays: bool,
    /// Steps make their input product themselves.
    pub input: Option<Box<StepInput>>,
}

/// An input product that steps make themselves; what it reads is bound by the names of [`INPUTS`].
pub struct StepInput {
    pub product: Matmul,
    /// Which tensor of the store its weights are.
    pub weights: Option<usize>,
    pub format: WeightFormat,
}

/// The names in [`matmul`] and those that steps have for the same.
pub const INPUTS: [[&str; 2]; 3] = [["a", "x"], ["b", "w_x"], ["bias", "b_x"]];

impl CpuLaunch {
    /// Launches of the recording, and which of them has all the time: the input product has none of its own.
    fn count(&self) -> [usize; 2] {
        let input = usize::from(self.input.is_some());
        [self.ops.len() + input, input]
    }

    /// One thread does it, and no other need be asked.
    pub fn is_small(&self, threads: usize) -> bool {
        match &self.ops[..] {
            [Op::Matmul(k)] => matmul::is_small(k),
            [Op::Combine(k)] => memory::is_small(k),
            [Op::EmbeddingForward(k)] => embedding::is_small(k),
            [Op::SelectRows(_) | Op::SequenceFlags(_) | Op::Fill(_)] => true,
            ops @ [Op::StepForward(_) | Op::StepBackward(_), ..] => {
                step::members(ops, self.weights.is_some(), threads) == 1
            }
            _ => false,
        }
    }
}

/// What follows one another.
pub enum CpuStage {
    One(CpuLaunch),
    Lanes(Vec<CpuLane>),
}

/// Launches one after another, beside those of other lanes.
pub struct CpuLane {
    pub launches: Vec<CpuLaunch>,
    pub context: Arc<Context>,
    /// What it writes leaves the program's memory for the time: places there.
    pub places: Vec<usize>,
    pub scratches: Vec<usize>,
    /// What it reads of buffers that other lanes write elsewhere is copied before: from, to, elements.
    pub lent: Vec<(usize, usize, Range<usize>)>,
}

/// A buffer that lives in the store between runs.
pub struct SharedTensor {
    pub name: String,
    /// Its place in the memory.
    pub place: usize,
    pub len: usize,
    /// The program writes it.
    pub is_written: bool,
    /// That of this run.
    pub version: u64,
}

/// A buffer of a launch: its memory may be a slot that is longer than the buffer.
#[derive(Clone, Copy)]
pub struct Place {
    pub place: usize,
    pub len: usize,
    /// In the memory that all lanes read, not in the lane's own.
    pub is_common: bool,
}

/// Memory that launches run in.
struct Tables<'a> {
    /// What other lanes read as well.
    common: &'a [Vec<f32>],
    own: &'a mut [Vec<f32>],
    scratches: &'a mut [Scratch],
    shared: &'a [SharedTensor],
    /// The run's number.
    run: u64,
}

/// A recording with its memory, ready to run.
pub struct CpuProgram {
    pub(super) context: Arc<Context>,
    pub(super) store: CpuStore,
    pub(super) stages: Vec<CpuStage>,
    pub(super) memory: Vec<Vec<f32>>,
    pub(super) scratches: Vec<Scratch>,
    /// Index into `memory` for each buffer of the recording.
    pub(super) place: Vec<usize>,
    pub(super) shared: Vec<SharedTensor>,
    /// No launch asks other threads: a run stays where it was called.
    pub(super) is_small: bool,
    /// Runs so far.
    pub(super) runs: u64,
    /// A run panicked, in a caller's cell: its memory is no longer in its places.
    pub(super) is_broken: bool,
    pub(super) plan: MemoryPlan,
}

impl CpuProgram {
    pub fn run(&mut self) -> Result<()> {
        self.run_watched(None)
    }

    /// One run. On request it notes when each launch began, and when the last ended: of steps that are made together
    /// the first has all the time, and lanes beside one another share theirs as they would take it alone.
    pub fn run_watched(&mut self, begins: Option<&mut Vec<Instant>>) -> Result<()> {
        let waits = self.context.pool.is_some() && rayon::current_thread_index().is_some();
        if self.is_small || !waits {
            return self.run_here(begins);
        }
        // A worker of the host's that waits for this engine's threads takes up other work of its pool, which may want
        // the store that this run has locked: it waits for a thread instead.
        std::thread::scope(|scope| {
            let run = scope.spawn(|| self.run_here(begins));
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn run_here(&mut self, begins: Option<&mut Vec<Instant>>) -> Result<()> {
        if self.is_broken {
            return Err(Error::invalid("a run of this program has panicked: load it anew"));
        }
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
        self.runs += 1;
        let (context, stages, shared) =
            (&self.context, &self.stages, (&self.shared[..], self.runs));
        let (memory, scratches) = (&mut self.memory, &mut self.scratches);
        let all = || run_stages(context, stages, memory, scratches, shared, begins);
        // A caller's cell may panic: the store has its tensors back before that goes on.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match self.is_small {
            true => all(),
            false => context.within(all),
        }));
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
        drop(tensors);
        self.is_broken = done.is_err();
        done.map_err(|panic| std::panic::resume_unwind(panic))
    }

    pub fn buffer(&self, id: BufferId) -> &[f32] {
        &self.memory[self.place[id.0]]
    }

    pub fn buffer_mut(&mut self, id: BufferId) -> &mut [f32] {
        &mut self.memory[self.place[id.0]]
    }

    /// The memory of an input, which must stay as long as it is.
    pub fn input_mut(&mut self, id: BufferId) -> &mut Vec<f32> {
        &mut self.memory[self.place[id.0]]
    }

    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }
}

fn run_stages(
    context: &Context,
    stages: &[CpuStage],
    memory: &mut [Vec<f32>],
    scratches: &mut [Scratch],
    shared: (&[SharedTensor], u64),
    mut begins: Option<&mut Vec<Instant>>,
) {
    for stage in stages {
        match stage {
            CpuStage::One(launch) => {
                let [count, first] = launch.count();
                if let Some(begins) = &mut begins {
                    begins.extend((0..=first).map(|_| Instant::now()));
                }
                let mut tables =
                    Tables { common: &[], own: memory, scratches, shared: shared.0, run: shared.1 };
                execute(context, launch, &mut tables);
                if let Some(begins) = &mut begins {
                    // One after another, however little there is between them.
                    begins.extend((first + 1..count).map(|_| Instant::now()));
                }
            }
            CpuStage::Lanes(lanes) => {
                let start = Instant::now();
                let times = run_lanes(context, lanes, memory, scratches, shared);
                if let Some(begins) = &mut begins {
                    let all: Duration = times.iter().sum();
                    let share = start.elapsed().as_secs_f64() / all.as_secs_f64().max(1e-9);
                    let mut now = start;
                    let launches = lanes.iter().flat_map(|lane| &lane.launches);
                    for (launch, time) in launches.zip(times) {
                        let [count, first] = launch.count();
                        begins.extend((0..=first).map(|_| now));
                        now += time.mul_f64(share);
                        begins.extend((first + 1..count).map(|_| now));
                    }
                }
            }
        }
    }
    if let Some(begins) = begins {
        begins.push(Instant::now());
    }
}

/// How long each launch took, lane by lane.
fn run_lanes(
    context: &Context,
    lanes: &[CpuLane],
    memory: &mut [Vec<f32>],
    scratches: &mut [Scratch],
    shared: (&[SharedTensor], u64),
) -> Vec<Duration> {
    for (from, to, elements) in lanes.iter().flat_map(|lane| &lane.lent) {
        let mut copy = std::mem::take(&mut memory[*to]);
        copy[elements.clone()].copy_from_slice(&memory[*from][elements.clone()]);
        memory[*to] = copy;
    }
    // Written buffers leave the table, so that all lanes can read the rest: no other lane has to do with them.
    let take = |lane: &CpuLane| -> (Vec<Vec<f32>>, Vec<Scratch>) {
        let own = lane.places.iter().map(|&place| std::mem::take(&mut memory[place]));
        let room = lane.scratches.iter().map(|&number| std::mem::take(&mut scratches[number]));
        (own.collect(), room.collect())
    };
    let mut tables: Vec<_> = lanes.iter().map(take).collect();
    let common = &*memory;
    let one = |lane: &CpuLane, context: &Context, own: &mut (Vec<Vec<f32>>, Vec<Scratch>)| {
        let (scratches, shared, run) = (&mut own.1[..], shared.0, shared.1);
        let mut tables = Tables { common, own: &mut own.0, scratches, shared, run };
        let mut begin = Instant::now();
        let launches = lane.launches.iter().map(|launch| {
            execute(context, launch, &mut tables);
            let end = Instant::now();
            end - std::mem::replace(&mut begin, end)
        });
        launches.collect::<SmallVec<[Duration; 8]>>()
    };
    let taken = ThreadTeam::new(context, lanes.len());
    let times: Vec<_> = if taken.size() > 1 {
        let pairs = lanes.par_iter().zip(&mut tables).with_max_len(1);
        pairs.map(|(lane, own)| lane.context.within(|| one(lane, &lane.context, own))).collect()
    } else {
        lanes.iter().zip(&mut tables).map(|(lane, own)| one(lane, context, own)).collect()
    };
    for (lane, (own, room)) in lanes.iter().zip(tables) {
        lane.places.iter().zip(own).for_each(|(&place, words)| memory[place] = words);
        lane.scratches.iter().zip(room).for_each(|(&number, room)| scratches[number] = room);
    }
    times.into_iter().flatten().collect()
}

fn execute(context: &Context, launch: &CpuLaunch, tables: &mut Tables) {
    let version = launch.weights.map(|weights| tables.shared[weights].version);
    // Versions never come so far.
    let label = version.or_else(|| launch.stays.then_some(u64::MAX - tables.run));
    let scratch = &mut tables.scratches[launch.scratch];
    // Written buffers leave the table while the kernel runs, so that the rest can be read: no
    // launch binds a buffer twice.
    let mut taken: [Vec<f32>; MOST_BINDINGS] = Default::default();
    for (vec, bound) in taken.iter_mut().zip(&launch.writes) {
        *vec = std::mem::take(&mut tables.own[bound.place]);
    }
    {
        let mut reads: [&[f32]; MOST_BINDINGS] = Default::default();
        for (slice, bound) in reads.iter_mut().zip(&launch.reads) {
            let table = if bound.is_common { tables.common } else { &*tables.own };
            *slice = &table[bound.place][..bound.len];
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
            let mut writes: [&mut [f32]; MOST_BINDINGS] = Default::default();
            for ((slice, vec), bound) in writes.iter_mut().zip(&mut taken).zip(&launch.writes) {
                *slice = &mut vec[..bound.len];
            }
            let reads = &reads[..launch.reads.len()];
            let format = launch.format;
            let input = launch.input.as_ref().map(|input| {
                let version = input.weights.map(|weights| tables.shared[weights].version);
                (&input.product, version, input.format)
            });
            let names = &launch.names;
            let bound = Bound { names, reads, writes, version, label, format, input };
            run(context, ops, launch.keeps_gates, bound, scratch);
        }
    }
    for (vec, bound) in taken.iter_mut().zip(&launch.writes) {
        tables.own[bound.place] = std::mem::take(vec);
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::Strategy;
    use crate::engine::cpu::beside::{Stage, arrange};
    use crate::engine::cpu::{CpuEngine, CpuStore};
    use crate::kernel::CellKind;
    use crate::layer::{Direction, InitialState, Initializer, Merge, Recurrent, Sequence};
    use crate::schedule::Recorder;
    use crate::tensor::NamedTensors;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A lane that fails ends the run, leaves nobody waiting, and other programs have all threads.
    #[test]
    fn a_lane_that_fails_takes_nothing_along() {
        let direction = Direction::Both(Merge::Concat);
        let stack = Recurrent { direction, ..Recurrent::new("rnn", CellKind::Lstm, 3, 40) };
        let mut rec = Recorder::inference();
        let x = rec.input("x", [32, 3], false).unwrap();
        let y = stack.record(&mut rec, x, Sequence::new(16, 2), &InitialState::Zero).unwrap();
        let output = rec.output("y", y.output).unwrap().view.buffer;
        let recording = rec.finish();
        let mut weights = NamedTensors::new();
        stack.init(&mut Initializer::new(1), &mut weights);
        let engine = CpuEngine::new(Some(3)).unwrap();
        let run = |breaks: bool| {
            let store = CpuStore::default();
            for (name, tensor) in &weights {
                store.set(name, tensor.as_slice().unwrap());
            }
            let arranged = arrange(&recording, 3, Strategy::Wavefront, None).unwrap();
            assert!(arranged.stages.iter().any(|stage| matches!(stage, Stage::Lanes(_))));
            let mut program = engine.load(&arranged, &store).unwrap();
            if breaks {
                program.memory[program.place[x.view.buffer.0]].clear();
            }
            program.run().map(|()| program.buffer(output).to_vec()).unwrap()
        };
        let want = run(false);
        for _ in 0..3 {
            assert!(catch_unwind(AssertUnwindSafe(|| run(true))).is_err());
            assert_eq!(run(false), want);
        }
    }
}
