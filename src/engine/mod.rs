//! Engines run recordings: [`Engine`] chooses one, [`Store`] keeps named tensors on it, [`Program`]
//! is a recording loaded into it.

mod cpu;
mod gpu;
mod program;
mod store;
mod strategy;
mod touches;
mod wavefront;
mod weights;

pub use cpu::CpuEngine;
#[doc(hidden)]
pub use gpu::Cooperative;
pub use gpu::{DeviceInfo, GpuEngine, GpuProgram, Tuning};
pub use program::{Inputs, Later, Program, Span};
pub use store::Store;
pub use strategy::{Choice, Strategy};
pub use weights::{KeptWeights, WeightFormat};

use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::recording::{Buffer, Recording, Role};
use crate::tensor::Precision;
use crate::wait;
use program::ProgramKind;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use store::StoreKind;

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
    /// Zero threads, more than 1,024, or the system refuses to start them.
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

    /// The same engine with another way of launching the steps of recurrences. The CPU engine makes
    /// all steps of a layer and direction together in any case; runs that don't depend on one
    /// another go beside one another where that is taken to be faster: with [`Strategy::Step`] each
    /// has all threads, with [`Strategy::Wavefront`] they do wherever they can.
    ///
    /// # Errors
    /// A strategy that the engine does not have.
    pub fn with_strategy(&self, strategy: Strategy) -> Result<Self> {
        match (self, strategy) {
            (Engine::Cpu(_), Strategy::Sequence | Strategy::Grid) => {
                let name = strategy.name();
                Err(Error::invalid(format!("the CPU engine does not have the strategy {name}")))
            }
            (Engine::Cpu(cpu), _) => Ok(Engine::Cpu(cpu.with_strategy(strategy))),
            (Engine::Gpu(gpu), _) => Ok(Engine::Gpu(gpu.with_strategy(strategy)?)),
        }
    }

    /// The same engine with another way of keeping weights that last from run to run: inference
    /// with fewer bits a weight. It holds for every recording that it loads from then on, the
    /// products of which [`Engine::kept_weights`] lists. The store keeps its f32; what is packed
    /// comes on top, once a program (1, 2 or 4 bytes a weight).
    ///
    /// # Errors
    /// A GPU, other than with f32. Loading a recording with gradients is one too, as their weights
    /// change with every run.
    pub fn with_weights(&self, format: WeightFormat) -> Result<Self> {
        match self {
            Engine::Cpu(cpu) => Ok(Engine::Cpu(cpu.with_weights(format))),
            Engine::Gpu(_) if format == WeightFormat::F32 => Ok(self.clone()),
            Engine::Gpu(_) => Err(Error::invalid(format!(
                "weights in {} are the CPU engine's: a GPU keeps them in f32",
                format.name()
            ))),
        }
    }

    /// How weights that last from run to run are kept.
    pub fn weights(&self) -> WeightFormat {
        match self {
            Engine::Cpu(cpu) => cpu.weights,
            Engine::Gpu(_) => WeightFormat::F32,
        }
    }

    /// How the weights of a recording's products are kept on the CPU engine, each tensor and kernel
    /// once, and why where it is not [`Engine::weights`]. An embedding's rows are looked up in the
    /// store's f32. On a GPU nothing: products read the store's.
    pub fn kept_weights(&self, recording: &Recording) -> Vec<KeptWeights> {
        match self {
            Engine::Cpu(cpu) => cpu.kept_weights(&recording.apart()),
            Engine::Gpu(_) => Vec::new(),
        }
    }

    /// The same engine, for which a folder of the host's keeps what is measured of its device from process to
    /// process; see [`GpuEngine::cached_in`]. Of the CPU engine nothing is measured.
    pub fn cached_in(&self, folder: &Path) -> Self {
        match self {
            Engine::Cpu(_) => self.clone(),
            Engine::Gpu(gpu) => Engine::Gpu(gpu.cached_in(folder)),
        }
    }

    /// The strategy that was asked for.
    pub fn strategy(&self) -> Strategy {
        match self {
            Engine::Cpu(cpu) => cpu.strategy,
            Engine::Gpu(gpu) => gpu.strategy(),
        }
    }

    /// A recording as this engine runs it: a GPU may put the steps of a recurrence together, and
    /// either engine puts launches in another order. Nothing is measured: before [`Engine::load`]
    /// or [`Engine::choices`] did, it is what would be assumed.
    pub fn arranged<'a>(&self, recording: &'a Recording) -> Cow<'a, Recording> {
        match self {
            // What is no recording is not run.
            Engine::Cpu(cpu) => {
                cpu.arrange(recording).map_or(Cow::Borrowed(recording), |a| a.recording)
            }
            Engine::Gpu(gpu) => gpu.arranged(recording),
        }
    }

    /// How the steps of a recording are launched and why, each way once; of the CPU engine, how its threads share
    /// them. Measures where [`Engine::load`] would.
    ///
    /// # Errors
    /// The device failed.
    pub fn choices(&self, recording: &Recording) -> Result<Vec<Choice>> {
        match self {
            Engine::Cpu(cpu) => cpu.choices(recording),
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
    /// [`GpuEngine::devices`]: `#N` counted from 1, its name, `name (backend)`, or a part of
    /// either. `threads` counts where the CPU is taken.
    ///
    /// # Errors
    /// No device of that name: the error lists those that exist.
    pub fn named(name: &str, threads: Option<usize>) -> Result<Self> {
        wait::here(Self::named_async(name, threads))
    }

    /// The same where nothing may wait: in a browser, which has one adapter or none (`auto`, `gpu`), and the CPU engine
    /// with one thread. What is read there is awaited, too ([`Program::read_async`], [`Store::get_async`]). Nothing is
    /// measured, and an error of the driver comes with the first reading behind it.
    ///
    /// # Errors
    /// As [`Engine::named`].
    pub async fn named_async(name: &str, threads: Option<usize>) -> Result<Self> {
        let wanted = name.to_lowercase();
        let real = |all: &[DeviceInfo]| all.iter().position(|info| !info.software);
        let found = match wanted.as_str() {
            "cpu" => return Self::cpu(threads),
            "auto" => match GpuEngine::open_async(real).await? {
                Some(gpu) => Some(gpu),
                None => return Self::cpu(threads),
            },
            "gpu" => GpuEngine::open_async(|all| (!all.is_empty()).then_some(0)).await?,
            _ => GpuEngine::open_async(|all| find_device(all, &wanted)).await?,
        };
        let devices = match found {
            Some(gpu) => return Ok(Engine::Gpu(gpu)),
            None => GpuEngine::devices_async().await,
        };
        Err({
            let mut known = vec!["auto".to_string(), "cpu".to_string()];
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
    ///
    /// What the device was opened with is what there is: its limits (a recording that needs more is refused by
    /// [`Engine::check`] and [`Engine::load`]), and its features, without which f16, profiles by timestamps and
    /// cooperative matrices are refused or left out. `adapter` has to be the one that the device is of, as it tells the
    /// device's name and kind, and `queue` the device's own: nothing can compare them here. The handlers of errors stay the
    /// host's: without any, wgpu panics on an error that nobody waited for, a lost device among them. Nothing is tried out
    /// on the host's device to find the fastest way.
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

    /// The same engine for an ensemble: every recording that it loads runs for so many members side by side,
    /// each with its own tensors, inputs and outputs, and computes for each what it would alone. On a
    /// GPU a launch serves all members; on the CPU they take turns.
    ///
    /// # Errors
    /// No members, or more than the device has workgroups in a dimension.
    pub fn ensemble(&self, members: usize) -> Result<Self> {
        match self {
            _ if members == 0 => Err(Error::invalid("an ensemble needs a member at least")),
            Engine::Cpu(cpu) => Ok(Engine::Cpu(cpu.ensemble(members))),
            Engine::Gpu(gpu) => Ok(Engine::Gpu(gpu.ensemble(members)?)),
        }
    }

    /// Members of the ensemble; 1 without one.
    pub fn members(&self) -> usize {
        match self {
            Engine::Cpu(cpu) => cpu.members,
            Engine::Gpu(gpu) => gpu.members(),
        }
    }

    /// An empty store on this engine.
    pub fn store(&self) -> Store {
        Store::new(match self {
            Engine::Cpu(cpu) => {
                StoreKind::Cpu((0..cpu.members).map(|_| Default::default()).collect())
            }
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
            Engine::Cpu(cpu) => cpu.arranged(recording).map(drop),
            Engine::Gpu(gpu) => gpu.check(recording),
        }
    }

    /// Makes a recording ready to run. Parameters and states are those of `store`.
    ///
    /// # Errors
    /// A parameter that the store lacks or holds in another size, a limit of the device, too little
    /// memory, or a store of another device or number of members.
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
        if !store.is_of(self.members()) {
            let members = self.members();
            return Err(Error::invalid(format!(
                "the store is not one of {members} members: take the whole store of this engine"
            )));
        }
        // The CPU engine takes launches one after another.
        let recording = &*match self {
            Engine::Cpu(_) => recording.apart(),
            Engine::Gpu(_) => Cow::Borrowed(recording),
        };
        let kind = match (self, &store.kind) {
            (Engine::Cpu(cpu), StoreKind::Cpu(stores)) if external.is_empty() => {
                let arranged = cpu.arranged(recording)?;
                let programs = stores.iter().map(|store| cpu.load(&arranged, store));
                let kind = ProgramKind::Cpu(programs.collect::<Result<_>>()?);
                return Ok(Program::new(kind, &arranged.recording, self.members()));
            }
            (Engine::Cpu(_), StoreKind::Cpu(_)) => {
                return Err(Error::invalid("the CPU engine takes no wgpu buffers"));
            }
            (Engine::Gpu(gpu), StoreKind::Gpu(store)) => {
                ProgramKind::Gpu(Box::new(gpu.load(recording, store, external)?))
            }
            _ => return Err(Error::invalid("the store belongs to another engine")),
        };
        Ok(Program::new(kind, recording, self.members()))
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

/// The size a store's tensor must have; an absent one may only be a state.
fn check_shared(words: Option<usize>, buffer: &Buffer) -> Result<()> {
    match words {
        Some(words) if words == buffer.len => Ok(()),
        Some(words) => Err(Error::shape(buffer.name.as_str(), &[buffer.len], &[words])),
        None if buffer.role == Role::State => Ok(()),
        None => Err(Error::Missing { tensor: buffer.name.clone(), place: "the store".to_string() }),
    }
}
