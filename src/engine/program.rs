//! A loaded recording: its inputs, its runs, its outputs.

use super::{cpu, gpu};
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::kernel::{BufferId, Control, Cost, Op};
use crate::recording::{Buffer, CONTROL, Launch, MemoryPlan, Recording, Role};
use crate::tensor::{DType, WORD_BYTES};
use crate::wait;
use std::collections::BTreeMap;

/// Times after the earliest beginning.
fn since_first(mut times: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    let first = times.iter().map(|span| span[0]).fold(f64::INFINITY, f64::min);
    times.iter_mut().flatten().for_each(|time| *time -= first);
    times
}

/// Microseconds from `zero` on.
fn since(zero: Instant, times: impl IntoIterator<Item = [Instant; 2]>) -> Vec<[f64; 2]> {
    let us = |time: Instant| {
        // One of the two is zero.
        let [after, before] = [time.duration_since(zero), zero.duration_since(time)];
        (after.as_secs_f64() - before.as_secs_f64()) * 1e6
    };
    times.into_iter().map(|span| span.map(us)).collect()
}

/// A recording that is ready to run.
pub struct Program {
    kind: ProgramKind,
    buffers: Vec<Buffer>,
    names: BTreeMap<String, BufferId>,
    control: Option<BufferId>,
    /// Control words were set, or nothing needs them: without them an optimizer would run at a rate of 0.
    is_controlled: bool,
    /// Each launch's kernel and cost.
    kernels: Vec<(&'static str, Cost)>,
    /// Runs on the CPU that are watched: how many more, and those so far.
    watched: Option<(usize, Vec<[Instant; 2]>)>,
    members: usize,
    plan: MemoryPlan,
}

/// Runs that can be watched at once.
const MOST_WATCHED: usize = 1 << 16;

/// When something was executed, in microseconds after the first of its kind began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The kernel; of whole runs "run".
    pub kernel: &'static str,
    /// Its operations and bytes; of whole runs none are counted.
    pub cost: Cost,
    /// Beginning.
    pub start_us: f64,
    /// End.
    pub end_us: f64,
}

impl Span {
    pub(super) fn new(kernel: &'static str, cost: Cost, [start_us, end_us]: [f64; 2]) -> Self {
        Span { kernel, cost, start_us, end_us }
    }

    /// Whole runs, in order, after the first one's beginning.
    pub(crate) fn runs(times: Vec<[f64; 2]>) -> Vec<Span> {
        let mut times = since_first(times);
        times.sort_by(|a, b| a[0].total_cmp(&b[0]));
        times.into_iter().map(|times| Span::new("run", Cost::default(), times)).collect()
    }
}

pub(super) enum ProgramKind {
    /// A program a member.
    Cpu(Vec<cpu::CpuProgram>),
    Gpu(Box<gpu::GpuProgram>),
}

/// An output that was asked for: see [`Program::read_later`].
pub struct Later(LaterKind);

enum LaterKind {
    Here(Vec<f32>),
    Gpu(gpu::LaterTensors),
}

impl Later {
    /// The values, the members' one after another. Waits for the runs before the request alone.
    ///
    /// # Errors
    /// The device was lost.
    pub fn wait(self) -> Result<Vec<f32>> {
        wait::here(self.wait_async())
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// The device was lost.
    pub async fn wait_async(self) -> Result<Vec<f32>> {
        match self.0 {
            LaterKind::Here(values) => Ok(values),
            LaterKind::Gpu(later) => later.wait().await,
        }
    }
}

/// What a program is given, for one member of an ensemble or for all.
pub struct Inputs<'a> {
    program: &'a mut Program,
    member: Option<usize>,
    /// What names end with.
    suffix: String,
}

impl Inputs<'_> {
    /// The same for inputs whose names end so: of one micro-batch of several, for who knows the plain names.
    pub fn with_suffix(self, suffix: impl Into<String>) -> Self {
        Inputs { suffix: suffix.into(), ..self }
    }

    /// As [`Program::find`].
    ///
    /// # Errors
    /// There is none of that name.
    pub fn find(&self, name: &str) -> Result<BufferId> {
        match self.suffix.as_str() {
            "" => self.program.find(name),
            suffix => self.program.find(&format!("{name}{suffix}")),
        }
    }

    /// Writes an input.
    ///
    /// # Errors
    /// As [`Program::write`].
    pub fn write(&mut self, id: BufferId, values: &[f32]) -> Result<()> {
        self.words(id, DType::F32, bytemuck::cast_slice(values))
    }

    /// Writes an input of integers.
    ///
    /// # Errors
    /// As [`Program::write_u32`].
    pub fn write_u32(&mut self, id: BufferId, values: &[u32]) -> Result<()> {
        self.check_range(id, values)?;
        self.words(id, DType::U32, bytemuck::cast_slice(values))
    }

    fn check_range(&self, id: BufferId, values: &[u32]) -> Result<()> {
        let buffer = self.program.buffer(id)?;
        if let Some(place) = values.iter().position(|&value| !buffer.allows(value)) {
            let Buffer { name, most, except, .. } = buffer;
            let value = values[place];
            let negative = match value as i32 {
                ..0 => format!(" ({} as a signed number)", value as i32),
                _ => String::new(),
            };
            let or = except.map_or(String::new(), |except| format!(", or {except}"));
            return Err(Error::invalid(format!(
                "'{name}': element {place} is {value}{negative}; it must be {most} at most{or}"
            )));
        }
        Ok(())
    }

    /// As [`Inputs::write`], with values that are not needed any more: the CPU engine takes them as
    /// they are, without a copy.
    ///
    /// # Errors
    /// As [`Program::write`].
    pub fn give(&mut self, id: BufferId, values: Vec<f32>) -> Result<()> {
        self.check_words(id, DType::F32, values.len())?;
        self.put_owned(id, values)
    }

    /// As [`Inputs::write_u32`], with values that are not needed any more.
    ///
    /// # Errors
    /// As [`Program::write_u32`].
    pub fn give_u32(&mut self, id: BufferId, values: Vec<u32>) -> Result<()> {
        self.check_range(id, &values)?;
        self.check_words(id, DType::U32, values.len())?;
        self.put_owned(id, bytemuck::cast_vec(values))
    }

    fn put_owned(&mut self, id: BufferId, values: Vec<f32>) -> Result<()> {
        let member = self.member.unwrap_or(0);
        match &mut self.program.kind {
            ProgramKind::Cpu(programs) if programs.len() == 1 || self.member.is_some() => {
                if let Some(program) = programs.get_mut(member) {
                    *program.input_mut(id) = values;
                }
                Ok(())
            }
            _ => self.put(id, bytemuck::cast_slice(&values)),
        }
    }

    /// Sets the control words, where the recording has them.
    pub fn set_control(&mut self, control: Control) {
        if let Some(id) = self.program.control {
            self.program.is_controlled = true;
            // The control buffer is the program's own: only a lost device could fail, and the next
            // run says so.
            let _ = self.put(id, bytemuck::bytes_of(&control));
        }
    }

    fn words(&mut self, id: BufferId, dtype: DType, bytes: &[u8]) -> Result<()> {
        self.check_words(id, dtype, bytes.len() / WORD_BYTES)?;
        self.put(id, bytes)
    }

    fn check_words(&self, id: BufferId, dtype: DType, words: usize) -> Result<()> {
        let buffer = self.program.buffer(id)?;
        if buffer.role != Role::Input || buffer.dtype != dtype {
            return Err(Error::invalid(format!("'{}' is no input of type {dtype:?}", buffer.name)));
        }
        if words != buffer.len {
            return Err(Error::shape(buffer.name.as_str(), &[buffer.len], &[words]));
        }
        Ok(())
    }

    fn put(&mut self, id: BufferId, bytes: &[u8]) -> Result<()> {
        match &mut self.program.kind {
            ProgramKind::Cpu(programs) => {
                let members = self.member.map_or(0..programs.len(), |i| i..i + 1);
                for program in &mut programs[members] {
                    bytemuck::cast_slice_mut(program.buffer_mut(id)).copy_from_slice(bytes);
                }
                Ok(())
            }
            ProgramKind::Gpu(gpu) => gpu.write(id, bytes, self.member),
        }
    }
}

impl Program {
    pub(super) fn new(kind: ProgramKind, recording: &Recording, members: usize) -> Self {
        let plan = match &kind {
            ProgramKind::Cpu(programs) => programs[0].plan(),
            ProgramKind::Gpu(gpu) => gpu.plan(),
        };
        let plan = plan.clone().times(members);
        let buffers = recording.buffers().to_vec();
        let names = recording.iter().map(|(id, buffer)| (buffer.name.clone(), id)).collect();
        let control = recording.find(CONTROL);
        let kernel = |l| (Launch::kernel(l).name(), recording.launch_cost(l));
        let kernels = recording.launches().iter().map(kernel).collect();
        let updates = |launch: &Launch| match &launch.op {
            Op::Beside(beside) => beside.ops().iter().any(Op::is_update),
            op => op.is_update(),
        };
        let is_controlled = !recording.launches().iter().any(updates);
        Program {
            kind,
            buffers,
            names,
            control,
            is_controlled,
            kernels,
            watched: None,
            members,
            plan,
        }
    }

    /// The buffer of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<BufferId> {
        self.names.get(name).copied().ok_or_else(|| Error::Missing {
            tensor: name.to_string(),
            place: "the program".to_string(),
        })
    }

    /// What is given to all members of an ensemble.
    pub fn inputs(&mut self) -> Inputs<'_> {
        Inputs { program: self, member: None, suffix: String::new() }
    }

    /// What is given to one member of an ensemble.
    ///
    /// # Errors
    /// There is no such member.
    pub fn member(&mut self, member: usize) -> Result<Inputs<'_>> {
        let members = self.members;
        if member >= members {
            return Err(Error::invalid(format!("there is no member {member} of {members}")));
        }
        Ok(Inputs { program: self, member: Some(member), suffix: String::new() })
    }

    /// Writes an input; in every member the same. The values aren't looked at, which would take as long as a copy: a NaN
    /// or an infinity is computed with, and comes out again where the recording lets it through.
    ///
    /// # Errors
    /// Not an input of 32-bit floats, or another length.
    pub fn write(&mut self, id: BufferId, values: &[f32]) -> Result<()> {
        self.inputs().write(id, values)
    }

    /// Writes an input of integers: token ids, targets, lengths; in every member the same.
    ///
    /// # Errors
    /// Not an input of 32-bit integers, another length, or a value beyond what the recording allows
    /// (the table's rows, the classes, the steps). A negative number that was cast is such a one.
    pub fn write_u32(&mut self, id: BufferId, values: &[u32]) -> Result<()> {
        self.inputs().write_u32(id, values)
    }

    /// Sets the control words, where the recording has them; in every member the same.
    pub fn set_control(&mut self, control: Control) {
        self.inputs().set_control(control);
    }

    /// Runs all launches. On a GPU this returns when they are submitted.
    ///
    /// # Errors
    /// The recording has an optimizer and no control words were set yet; a tensor of the store has
    /// another size than when the program was loaded (on the CPU); the device was lost, as far as it is known by now.
    pub fn run(&mut self) -> Result<()> {
        if !self.is_controlled {
            let what = "the program has no step, seed and learning rate yet: Program::set_control comes before a run";
            return Err(Error::invalid(what));
        }
        match &mut self.kind {
            ProgramKind::Cpu(programs) => {
                let start = Instant::now();
                programs.iter_mut().try_for_each(|program| program.run())?;
                if let Some((more, runs)) = &mut self.watched
                    && runs.len() < *more
                {
                    runs.push([start, Instant::now()]);
                }
                Ok(())
            }
            ProgramKind::Gpu(gpu) => gpu.run(),
        }
    }

    /// One run that notes when each launch was executed, in their order: on a GPU by the device's
    /// timestamps, each launch in a pass of its own (which takes longer than the run that is profiled),
    /// with what a product became there. Waits for the run.
    ///
    /// # Errors
    /// As [`Program::run`]; a GPU without timestamps.
    pub fn profile(&mut self) -> Result<Vec<Span>> {
        match &mut self.kind {
            ProgramKind::Gpu(gpu) => {
                let launches = gpu.profile()?;
                let times = since_first(launches.iter().map(|launch| launch.2).collect());
                let spans = launches.into_iter().zip(times);
                Ok(spans.map(|((kernel, cost, _), t)| Span::new(kernel, cost, t)).collect())
            }
            ProgramKind::Cpu(programs) => {
                let mut times = Vec::new();
                for program in programs {
                    let mut begins = Vec::with_capacity(self.kernels.len() + 1);
                    program.run_watched(Some(&mut begins))?;
                    times.extend(begins.windows(2).map(|pair| [pair[0], pair[1]]));
                }
                let times = times
                    .first()
                    .map_or(Vec::new(), |first| since(first[0], times.iter().copied()));
                let spans = self.kernels.iter().cycle().zip(times);
                Ok(spans.map(|(&(kernel, cost), times)| Span::new(kernel, cost, times)).collect())
            }
        }
    }

    /// Notes when the next `runs` runs begin and end on the device; see [`Program::watched`].
    ///
    /// # Errors
    /// More than 65,536 runs; a GPU without timestamps.
    pub fn watch(&mut self, runs: usize) -> Result<()> {
        if runs > MOST_WATCHED {
            return Err(Error::invalid(format!(
                "{runs} runs are too many to watch: {MOST_WATCHED} at most"
            )));
        }
        match &mut self.kind {
            ProgramKind::Gpu(gpu) => gpu.watch(runs),
            ProgramKind::Cpu(_) => {
                self.watched = Some((runs, Vec::with_capacity(runs)));
                Ok(())
            }
        }
    }

    /// When the runs since [`Program::watch`] began and ended: between them the device idled, or ran
    /// other programs. Waits for them.
    ///
    /// # Errors
    /// The device was lost.
    pub fn watched(&mut self) -> Result<Vec<Span>> {
        Ok(Span::runs(self.watched_since(Instant::now())?))
    }

    /// The same times from a zero that all programs of an engine share, on the CPU `zero` (negative before it).
    pub(crate) fn watched_since(&mut self, zero: Instant) -> Result<Vec<[f64; 2]>> {
        match &mut self.kind {
            ProgramKind::Gpu(gpu) => gpu.watched(),
            ProgramKind::Cpu(_) => {
                Ok(since(zero, self.watched.take().into_iter().flat_map(|watched| watched.1)))
            }
        }
    }

    /// Waits until all that was submitted is done; in a browser for nothing.
    ///
    /// # Errors
    /// The device was lost.
    pub fn wait(&self) -> Result<()> {
        match &self.kind {
            ProgramKind::Cpu(_) => Ok(()),
            ProgramKind::Gpu(gpu) => gpu.wait(),
        }
    }

    /// Copies an output to the host, the members' one after another; waits for the run.
    ///
    /// # Errors
    /// Not an output, or the device was lost.
    pub fn read(&self, id: BufferId) -> Result<Vec<f32>> {
        wait::here(self.read_async(id))
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`Program::read`].
    pub async fn read_async(&self, id: BufferId) -> Result<Vec<f32>> {
        let buffer = self.output(id)?;
        match &self.kind {
            ProgramKind::Cpu(programs) => {
                Ok(programs.iter().flat_map(|program| program.buffer(id)).copied().collect())
            }
            ProgramKind::Gpu(gpu) => gpu.read(id, buffer.len, None).await,
        }
    }

    /// Asks for an output as it is behind the runs so far, and returns at once on a GPU: more runs can be submitted
    /// before the values are waited for, so that the device has work while the host looks at them.
    ///
    /// # Errors
    /// As [`Program::read`].
    pub fn read_later(&self, id: BufferId) -> Result<Later> {
        let buffer = self.output(id)?;
        Ok(Later(match &self.kind {
            ProgramKind::Cpu(_) => LaterKind::Here(self.read(id)?),
            ProgramKind::Gpu(gpu) => LaterKind::Gpu(gpu.read_later(id, buffer.len)?),
        }))
    }

    /// As [`Program::read`], to where the caller says.
    ///
    /// # Errors
    /// As [`Program::read`], and another length.
    pub fn read_into(&self, id: BufferId, values: &mut [f32]) -> Result<()> {
        wait::here(self.read_into_async(id, values))
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`Program::read_into`].
    pub async fn read_into_async(&self, id: BufferId, values: &mut [f32]) -> Result<()> {
        let buffer = self.output(id)?;
        let words = buffer.len * self.members;
        if values.len() != words {
            return Err(Error::shape(buffer.name.as_str(), &[words], &[values.len()]));
        }
        match &self.kind {
            ProgramKind::Cpu(programs) => {
                for (values, program) in values.chunks_mut(buffer.len.max(1)).zip(programs) {
                    values.copy_from_slice(program.buffer(id));
                }
            }
            ProgramKind::Gpu(gpu) => values.copy_from_slice(&gpu.read(id, buffer.len, None).await?),
        }
        Ok(())
    }

    fn buffer(&self, id: BufferId) -> Result<&Buffer> {
        let stranger = || Error::invalid("that buffer is one of another recording");
        self.buffers.get(id.0).ok_or_else(stranger)
    }

    fn output(&self, id: BufferId) -> Result<&Buffer> {
        let buffer = self.buffer(id)?;
        match buffer.role {
            Role::Output => Ok(buffer),
            _ => Err(Error::invalid(format!("'{}' is no output", buffer.name))),
        }
    }

    /// Kernel launches of a run.
    pub fn launches(&self) -> usize {
        match &self.kind {
            ProgramKind::Cpu(programs) => self.kernels.len() * programs.len(),
            ProgramKind::Gpu(gpu) => gpu.launches(),
        }
    }

    /// How the recording's memory is laid out, for all members.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// The GPU side, to encode into a host's command encoder and to reach its buffers.
    pub fn gpu(&self) -> Option<&gpu::GpuProgram> {
        match &self.kind {
            ProgramKind::Cpu(_) => None,
            ProgramKind::Gpu(gpu) => Some(gpu),
        }
    }
}
