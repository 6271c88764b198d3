//! Engines run recordings: [`Engine`] chooses one, [`Store`] keeps named tensors on it, [`Program`]
//! is a recording loaded into it.

mod cpu;
mod gpu;
mod strategy;

pub use cpu::CpuEngine;
#[doc(hidden)]
pub use gpu::Cooperative;
pub use gpu::{DeviceInfo, GpuEngine, GpuProgram, Tuning};
pub use strategy::{Choice, Strategy};

use crate::error::{Error, Result};
use crate::kernel::{BufferId, Control, Cost};
use crate::recording::{Buffer, CONTROL, Launch, MemoryPlan, Recording, Role};
use crate::tensor::{DType, NamedTensors, Precision, WORD_BYTES, require_finite};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// Where recordings run: the CPU, or a wgpu device.
#[derive(Clone)]
pub enum Engine {
    /// The CPU twins.
    Cpu(CpuEngine),
    /// A wgpu device.
    Gpu(GpuEngine),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.name())
    }
}

impl Engine {
    /// A real GPU where there is one, else the CPU with all its cores. A software device is taken
    /// only when asked for by [`Engine::named`].
    ///
    /// # Errors
    /// The device refuses to open.
    pub fn best() -> Result<Self> {
        Self::named("auto", None)
    }

    /// The CPU engine with so many threads; none given, a thread a core.
    ///
    /// # Errors
    /// Zero threads, or the system refuses to start them.
    pub fn cpu(threads: Option<usize>) -> Result<Self> {
        Ok(Engine::Cpu(CpuEngine::new(threads)?))
    }

    /// Whether it can store activations so: the CPU engine has f32 alone.
    pub fn supports(&self, precision: Precision) -> bool {
        match (self, precision) {
            (_, Precision::F32) => true,
            (Engine::Cpu(_), Precision::F16) => false,
            (Engine::Gpu(gpu), Precision::F16) => gpu.has_f16(),
        }
    }

    /// The same engine with another way of launching the steps of recurrences. The CPU engine has steps
    /// alone.
    ///
    /// # Errors
    /// A strategy that the engine does not have.
    pub fn with_strategy(&self, strategy: Strategy) -> Result<Self> {
        match (self, strategy) {
            (Engine::Cpu(_), Strategy::Sequence) => {
                let name = strategy.name();
                Err(Error::invalid(format!("the CPU engine does not have the strategy {name}")))
            }
            (Engine::Cpu(_), _) => Ok(self.clone()),
            (Engine::Gpu(gpu), _) => Ok(Engine::Gpu(gpu.with_strategy(strategy))),
        }
    }

    /// The strategy that was asked for.
    pub fn strategy(&self) -> Strategy {
        match self {
            Engine::Cpu(_) => Strategy::Step,
            Engine::Gpu(gpu) => gpu.strategy(),
        }
    }

    /// A recording as this engine runs it: a GPU may put the steps of a recurrence together. Nothing is
    /// measured: before [`Engine::load`] or [`Engine::choices`] did, it is what would be assumed.
    pub fn arranged<'a>(&self, recording: &'a Recording) -> Cow<'a, Recording> {
        match self {
            Engine::Cpu(_) => Cow::Borrowed(recording),
            Engine::Gpu(gpu) => gpu.arranged(recording),
        }
    }

    /// How the steps of a recording are launched and why, each way once. Of the CPU engine nothing: it has
    /// one way. Measures where [`Engine::load`] would.
    ///
    /// # Errors
    /// The device failed.
    pub fn choices(&self, recording: &Recording) -> Result<Vec<Choice>> {
        match self {
            Engine::Cpu(_) => Ok(Vec::new()),
            Engine::Gpu(gpu) => gpu.choices(recording),
        }
    }

    /// The best wgpu adapter there is, a software one if there is no other.
    ///
    /// # Errors
    /// There is none, or it refuses to open.
    pub fn gpu() -> Result<Self> {
        Self::named("gpu", None)
    }

    /// `auto` ([`Engine::best`]), `cpu`, `gpu` ([`Engine::gpu`]), or a device of
    /// [`GpuEngine::devices`]: `#N` counted from 1, its name, `name (backend)`, or a part of either. `threads` counts where the CPU is taken.
    ///
    /// # Errors
    /// No device of that name: the error lists those that exist.
    pub fn named(name: &str, threads: Option<usize>) -> Result<Self> {
        let wanted = name.to_lowercase();
        let found = match wanted.as_str() {
            "cpu" => return Self::cpu(threads),
            "auto" => match GpuEngine::open(|all| all.iter().position(|info| !info.software))? {
                Some(gpu) => Some(gpu),
                None => return Self::cpu(threads),
            },
            "gpu" => GpuEngine::open(|all| (!all.is_empty()).then_some(0))?,
            _ => GpuEngine::open(|all| find_device(all, &wanted))?,
        };
        found.map(Engine::Gpu).ok_or_else(|| {
            let mut known = vec!["auto".to_string(), "cpu".to_string()];
            let devices = GpuEngine::devices();
            if !devices.is_empty() {
                known.push("gpu".to_string());
            }
            known.extend(
                devices.iter().enumerate().map(|(i, d)| format!("#{} '{}'", i + 1, d.name)),
            );
            let hint =
                if wanted == "gpu" { " (no Vulkan, Metal or DX12 driver was found)" } else { "" };
            Error::Device(format!("no device '{name}'{hint}; there are: {}", known.join(", ")))
        })
    }

    /// Runs in a host program's device, beside the host's own work.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Engine::Gpu(GpuEngine::from_wgpu(adapter, device, queue))
    }

    /// `cpu` or `gpu`.
    pub fn kind(&self) -> &'static str {
        match self {
            Engine::Cpu(_) => "cpu",
            Engine::Gpu(_) => "gpu",
        }
    }

    /// The device's name: `cpu (2 threads)` or the adapter's.
    pub fn name(&self) -> String {
        match self {
            Engine::Cpu(cpu) if cpu.threads() == 1 => "cpu (1 thread)".to_string(),
            Engine::Cpu(cpu) => format!("cpu ({} threads)", cpu.threads()),
            Engine::Gpu(gpu) => gpu.info().name.clone(),
        }
    }

    /// The driver and its version; of the CPU engine, the instruction set that it computes with.
    pub fn driver(&self) -> String {
        match self {
            Engine::Cpu(_) => CpuEngine::instruction_set().to_string(),
            Engine::Gpu(gpu) => gpu.info().driver.clone(),
        }
    }

    /// Threads of the CPU engine; 0 on a GPU.
    pub fn threads(&self) -> usize {
        match self {
            Engine::Cpu(cpu) => cpu.threads(),
            Engine::Gpu(_) => 0,
        }
    }

    /// An empty store on this engine.
    pub fn store(&self) -> Store {
        Store(match self {
            Engine::Cpu(_) => StoreKind::Cpu(Default::default()),
            Engine::Gpu(gpu) => StoreKind::Gpu(gpu.store()),
        })
    }

    /// Whether a recording fits the engine: its limits, or the memory that is free. What
    /// [`Engine::load`] checks too, before anything is made.
    ///
    /// # Errors
    /// The limit that is exceeded, what is allowed and what would be needed.
    pub fn check(&self, recording: &Recording) -> Result<()> {
        match self {
            Engine::Cpu(cpu) => cpu.check(recording),
            Engine::Gpu(gpu) => gpu.check(recording),
        }
    }

    /// Makes a recording ready to run. Parameters and states are those of `store`.
    ///
    /// # Errors
    /// A parameter that the store lacks or holds in another size, a limit of the device, too little
    /// memory, or a store of another engine.
    pub fn load(&self, recording: &Recording, store: &Store) -> Result<Program> {
        self.load_with(recording, store, &[])
    }

    /// Like [`Engine::load`], with buffers of the host program (of the same wgpu device, with
    /// `STORAGE` usage) in the place of some of the recording's.
    ///
    /// # Errors
    /// As [`Engine::load`]; a buffer that is too small or lacks the usage; the CPU engine.
    pub fn load_with(
        &self,
        recording: &Recording,
        store: &Store,
        external: &[(BufferId, wgpu::Buffer)],
    ) -> Result<Program> {
        let kind = match (self, &store.0) {
            (Engine::Cpu(cpu), StoreKind::Cpu(store)) if external.is_empty() => {
                ProgramKind::Cpu(cpu.load(recording, store)?)
            }
            (Engine::Cpu(_), StoreKind::Cpu(_)) => {
                return Err(Error::invalid("the CPU engine takes no wgpu buffers"));
            }
            (Engine::Gpu(gpu), StoreKind::Gpu(store)) => {
                ProgramKind::Gpu(gpu.load(recording, store, external)?)
            }
            _ => return Err(Error::invalid("the store belongs to another engine")),
        };
        let buffers = recording.buffers().to_vec();
        let names = recording.iter().map(|(id, buffer)| (buffer.name.clone(), id)).collect();
        let control = recording.find(CONTROL);
        let kernel = |l| (Launch::kernel(l).name(), recording.launch_cost(l));
        let kernels = recording.launches().iter().map(kernel).collect();
        Ok(Program { kind, buffers, names, control, kernels, watched: None })
    }
}

/// The place of a device in the list: by number, by its whole name, by a part of it.
fn find_device(devices: &[DeviceInfo], wanted: &str) -> Option<usize> {
    if let Some(number) = wanted.strip_prefix('#') {
        let index = number.parse::<usize>().ok()?.checked_sub(1)?;
        return (index < devices.len()).then_some(index);
    }
    let name = |d: &DeviceInfo| d.name.to_lowercase();
    let full = |d: &DeviceInfo| format!("{} ({})", d.name, d.backend).to_lowercase();
    devices
        .iter()
        .position(|d| name(d) == wanted || full(d) == wanted)
        .or_else(|| devices.iter().position(|d| !wanted.is_empty() && full(d).contains(wanted)))
}

/// Microseconds after the first beginning.
fn since_first(spans: impl Iterator<Item = [Instant; 2]>) -> Vec<[f64; 2]> {
    let mut zero = None;
    let mut list = Vec::new();
    for span in spans {
        let zero = *zero.get_or_insert(span[0]);
        list.push(span.map(|t| t.duration_since(zero).as_secs_f64() * 1e6));
    }
    list
}

/// The size a store's tensor must have; an absent one may only be a state.
fn check_shared(words: Option<usize>, buffer: &Buffer) -> Result<()> {
    match words {
        Some(words) if words == buffer.len => Ok(()),
        Some(words) => Err(Error::shape(buffer.name.as_str(), &[buffer.len], &[words])),
        None if buffer.role == Role::State => Ok(()),
        None => Err(Error::Missing { tensor: buffer.name.clone(), place: "the store".to_string() }),
    }
}

/// Named tensors that live on an engine, shared by the programs loaded with them: parameters,
/// optimizer moments, recurrent states.
#[derive(Clone)]
pub struct Store(StoreKind);

#[derive(Clone)]
enum StoreKind {
    Cpu(cpu::CpuStore),
    Gpu(gpu::GpuStore),
}

impl Store {
    /// Sets a tensor. Programs that are loaded see the new values if the size stayed the same.
    ///
    /// # Errors
    /// A value that is NaN or infinite; too large for the device.
    pub fn set(&self, name: &str, value: &[f32]) -> Result<()> {
        require_finite(name, ndarray::ArrayView1::from(value).into_dyn())?;
        self.put(name, value)
    }

    fn put(&self, name: &str, value: &[f32]) -> Result<()> {
        match &self.0 {
            StoreKind::Cpu(store) => {
                store.lock().insert(name.to_string(), value.to_vec());
                Ok(())
            }
            StoreKind::Gpu(store) => store.set(name, value),
        }
    }

    /// Sets every tensor of a map; none of them where one can't be.
    ///
    /// # Errors
    /// A value that is NaN or infinite, by its tensor and place; too large for the device.
    pub fn set_all(&self, tensors: &NamedTensors) -> Result<()> {
        for (name, tensor) in tensors {
            require_finite(name, tensor.view())?;
        }
        for (name, tensor) in tensors {
            match tensor.as_slice() {
                Some(values) => self.put(name, values)?,
                None => self.put(name, &tensor.iter().copied().collect::<Vec<_>>())?,
            }
        }
        Ok(())
    }

    /// Copies a tensor to the host.
    ///
    /// # Errors
    /// There is none of that name, or the device failed.
    pub fn get(&self, name: &str) -> Result<Vec<f32>> {
        let found = match &self.0 {
            StoreKind::Cpu(store) => store.lock().get(name).cloned(),
            StoreKind::Gpu(store) => store.get(name)?,
        };
        found.ok_or_else(|| Error::Missing {
            tensor: name.to_string(),
            place: "the store".to_string(),
        })
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = match &self.0 {
            StoreKind::Cpu(store) => store.lock().keys().cloned().collect(),
            StoreKind::Gpu(store) => store.names(),
        };
        names.sort();
        names
    }

    /// The wgpu buffer of a tensor, on a GPU engine.
    pub fn wgpu_buffer(&self, name: &str) -> Option<wgpu::Buffer> {
        match &self.0 {
            StoreKind::Cpu(_) => None,
            StoreKind::Gpu(store) => store.buffer(name),
        }
    }
}

/// A recording that is ready to run.
pub struct Program {
    kind: ProgramKind,
    buffers: Vec<Buffer>,
    names: BTreeMap<String, BufferId>,
    control: Option<BufferId>,
    /// Each launch's kernel and cost.
    kernels: Vec<(&'static str, Cost)>,
    /// Runs on the CPU that are watched: how many more, and those so far.
    watched: Option<(usize, Vec<[Instant; 2]>)>,
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
    fn new(kernel: &'static str, cost: Cost, [start_us, end_us]: [f64; 2]) -> Self {
        Span { kernel, cost, start_us, end_us }
    }
}

enum ProgramKind {
    Cpu(cpu::CpuProgram),
    Gpu(gpu::GpuProgram),
}

impl Program {
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

    /// Writes an input.
    ///
    /// # Errors
    /// Not an input of 32-bit floats, or another length.
    pub fn write(&mut self, id: BufferId, values: &[f32]) -> Result<()> {
        self.write_words(id, DType::F32, bytemuck::cast_slice(values))
    }

    /// Writes an input of integers: token ids, targets, lengths.
    ///
    /// # Errors
    /// Not an input of 32-bit integers, another length, or a value beyond what the recording allows
    /// (the table's rows, the classes, the steps). A negative number that was cast is such a one.
    pub fn write_u32(&mut self, id: BufferId, values: &[u32]) -> Result<()> {
        let Buffer { name, most, .. } = &self.buffers[id.0];
        if let Some(place) = values.iter().position(|value| value > most) {
            let value = values[place];
            let negative = match value as i32 {
                ..0 => format!(" ({} as a signed number)", value as i32),
                _ => String::new(),
            };
            return Err(Error::invalid(format!(
                "'{name}': element {place} is {value}{negative}; it must be {most} at most"
            )));
        }
        self.write_words(id, DType::U32, bytemuck::cast_slice(values))
    }

    /// Sets the control words, where the recording has them.
    pub fn set_control(&mut self, control: Control) {
        if let Some(id) = self.control {
            // The control buffer is the program's own: only a lost device could fail, and the next
            // run says so.
            let _ = self.put(id, bytemuck::bytes_of(&control));
        }
    }

    fn write_words(&mut self, id: BufferId, dtype: DType, bytes: &[u8]) -> Result<()> {
        let buffer = &self.buffers[id.0];
        if buffer.role != Role::Input || buffer.dtype != dtype {
            return Err(Error::invalid(format!("'{}' is no input of type {dtype:?}", buffer.name)));
        }
        let words = bytes.len() / WORD_BYTES;
        if words != buffer.len {
            return Err(Error::shape(buffer.name.as_str(), &[buffer.len], &[words]));
        }
        self.put(id, bytes)
    }

    fn put(&mut self, id: BufferId, bytes: &[u8]) -> Result<()> {
        match &mut self.kind {
            ProgramKind::Cpu(cpu) => {
                bytemuck::cast_slice_mut(cpu.buffer_mut(id)).copy_from_slice(bytes);
                Ok(())
            }
            ProgramKind::Gpu(gpu) => gpu.write(id, bytes),
        }
    }

    /// Runs all launches. On a GPU this returns when they are submitted.
    ///
    /// # Errors
    /// A tensor of the store has another size than when the program was loaded (on the CPU); the
    /// device was lost.
    pub fn run(&mut self) -> Result<()> {
        match &mut self.kind {
            ProgramKind::Cpu(cpu) => {
                let start = Instant::now();
                cpu.run()?;
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
            ProgramKind::Gpu(gpu) => gpu.profile(),
            ProgramKind::Cpu(cpu) => {
                let mut begins = Vec::with_capacity(self.kernels.len() + 1);
                cpu.run_each(|_| begins.push(Instant::now()))?;
                let times = since_first(begins.windows(2).map(|pair| [pair[0], pair[1]]));
                let spans = self.kernels.iter().zip(times);
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
        let runs = match &mut self.kind {
            ProgramKind::Gpu(gpu) => gpu.watched()?,
            ProgramKind::Cpu(_) => {
                since_first(self.watched.take().into_iter().flat_map(|watched| watched.1))
            }
        };
        Ok(runs.into_iter().map(|times| Span::new("run", Cost::default(), times)).collect())
    }

    /// Waits until all that was submitted is done.
    ///
    /// # Errors
    /// The device was lost.
    pub fn wait(&self) -> Result<()> {
        match &self.kind {
            ProgramKind::Cpu(_) => Ok(()),
            ProgramKind::Gpu(gpu) => gpu.wait(),
        }
    }

    /// Copies an output to the host; waits for the run.
    ///
    /// # Errors
    /// Not an output, or the device was lost.
    pub fn read(&self, id: BufferId) -> Result<Vec<f32>> {
        let buffer = &self.buffers[id.0];
        if buffer.role != Role::Output {
            return Err(Error::invalid(format!("'{}' is no output", buffer.name)));
        }
        match &self.kind {
            ProgramKind::Cpu(cpu) => Ok(cpu.buffer(id).to_vec()),
            ProgramKind::Gpu(gpu) => gpu.read(id, buffer.len),
        }
    }

    /// Kernel launches of a run.
    pub fn launches(&self) -> usize {
        match &self.kind {
            ProgramKind::Cpu(_) => self.kernels.len(),
            ProgramKind::Gpu(gpu) => gpu.launches(),
        }
    }

    /// How the recording's memory is laid out.
    pub fn plan(&self) -> &MemoryPlan {
        match &self.kind {
            ProgramKind::Cpu(cpu) => cpu.plan(),
            ProgramKind::Gpu(gpu) => gpu.plan(),
        }
    }

    /// The GPU side, to encode into a host's command encoder and to reach its buffers.
    pub fn gpu(&self) -> Option<&GpuProgram> {
        match &self.kind {
            ProgramKind::Cpu(_) => None,
            ProgramKind::Gpu(gpu) => Some(gpu),
        }
    }
}
