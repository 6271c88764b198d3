//! The GPU engine: recordings on a wgpu device.
//!
//! Loading a recording compiles its pipelines, allocates its physical buffers and makes the bind groups.
//! A run then only encodes one compute pass: a launch's parameters go with it as immediates, or, where a
//! device has none, lie in one uniform buffer at a dynamic offset. Nothing is allocated or compiled anew.

mod beside;
mod context;
mod device;
mod grid;
mod pipeline;
mod products;
mod program;
mod rates;
mod sequences;
mod steps;
mod store;
mod subgroups;
mod timestamps;
mod trial;
mod trust;
mod tuning;
mod wavefront;

use context::Context;
pub use device::DeviceInfo;
use device::{Opened, Scratch};
pub use products::Cooperative;
pub use program::GpuProgram;
pub(super) use store::GpuStore;
use store::Tensor;
pub use tuning::Tuning;

use super::Strategy;
use crate::error::{Error, Result};
use crate::kernel::{Binding, BufferId, Cost, Op};
use crate::recording::{Recording, Role};
use crate::tensor::WORD_BYTES;
use crate::wait;
use pipeline::{Pipelines, Wanted};
pub(in crate::engine) use program::LaterTensors;
use program::{GpuLaunch, LaunchParams};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the host waits for the runs in flight before the device is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes of the largest parameter block, which are few enough for every device that has immediates.
const MOST_PARAMS: u32 = 128;

/// Runs of a program that the device may have before it.
const IN_FLIGHT: usize = 3;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs recordings on a wgpu device.
#[derive(Clone)]
pub struct GpuEngine {
    context: Arc<Context>,
}

impl GpuEngine {
    /// What every adapter of this machine is and offers, the preferred ones first. In a browser none: see
    /// [`GpuEngine::open_async`].
    pub fn devices() -> Vec<DeviceInfo> {
        wait::here(async { Ok(Self::devices_async().await) }).unwrap_or_default()
    }

    /// The same in a browser.
    pub async fn devices_async() -> Vec<DeviceInfo> {
        device::adapters().await.iter().map(DeviceInfo::new).collect()
    }

    /// Opens the adapter that `choose` picks from the list of [`GpuEngine::devices`]. `None` where it
    /// picks none.
    ///
    /// # Errors
    /// The device refuses to open.
    pub fn open(choose: impl FnOnce(&[DeviceInfo]) -> Option<usize>) -> Result<Option<Self>> {
        wait::here(Self::open_async(choose))
    }

    /// The same where nothing may wait: in a browser, which has one adapter or none.
    ///
    /// # Errors
    /// As [`GpuEngine::open`].
    pub async fn open_async(
        choose: impl FnOnce(&[DeviceInfo]) -> Option<usize>,
    ) -> Result<Option<Self>> {
        let adapters = device::adapters().await;
        let infos: Vec<_> = adapters.iter().map(DeviceInfo::new).collect();
        let Some(adapter) = choose(&infos).and_then(|index| adapters.get(index)) else {
            return Ok(None);
        };
        let opened = device::open(adapter).await?;
        Ok(Some(Self::new(DeviceInfo::new(adapter), opened, Some(Scratch::new(adapter)))))
    }

    /// Runs in a host program's device. Its error handlers stay as they are.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let (failure, slots) = Default::default();
        let opened = Opened { device, queue, failure, slots };
        Self::new(DeviceInfo::new(adapter), opened, None)
    }

    /// `scratch`: of a device that this crate opened.
    fn new(info: DeviceInfo, opened: Opened, scratch: Option<Scratch>) -> Self {
        let Opened { device, queue, failure, slots } = opened;
        let limits = device.limits();
        let immediates = device.features().contains(wgpu::Features::IMMEDIATES)
            && limits.max_immediate_size >= MOST_PARAMS;
        let pipelines = Pipelines::new(immediates, slots);
        // A driver on the CPU has few workgroups at once, and loads cost it more than registers.
        let (tile, thread_rows) = (None, if info.software { 4 } else { 1 });
        let group_limits = sequences::group_limits(&limits, info.software);
        let measures = scratch.is_some() && !info.software && wait::WAITS;
        let context = Context {
            info,
            device,
            queue,
            limits,
            pipelines,
            scratch,
            tile,
            lanes: None,
            cooperative: Cooperative::Measured,
            thread_rows,
            strategy: Strategy::Auto,
            group_limits,
            beside: true,
            measures,
            cache: None,
            failure,
            zero_tick: Arc::default(),
        };
        GpuEngine { context: Arc::new(context) }
    }

    /// The same device with a fault in one of its shaders: for tests of tests.
    #[doc(hidden)]
    pub fn with_fault(&self, fault: crate::kernel::shader::Fault) -> Self {
        self.copy(|context| context.pipelines.fault = Some(fault))
    }

    /// The same device with parameters in a uniform buffer: for tests and measurements.
    #[doc(hidden)]
    pub fn without_immediates(&self) -> Self {
        self.copy(|context| context.pipelines.immediates = false)
    }

    /// The same device with so many rows a thread in the step kernels: for tests and measurements.
    #[doc(hidden)]
    pub fn with_thread_rows(&self, rows: usize) -> Self {
        self.copy(|context| context.thread_rows = rows)
    }

    /// The same device, with what it has compiled.
    fn copy(&self, change: impl FnOnce(&mut Context)) -> Self {
        let from = &*self.context;
        let mut context = Context {
            info: from.info.clone(),
            device: from.device.clone(),
            queue: from.queue.clone(),
            limits: from.limits.clone(),
            pipelines: from.pipelines.clone(),
            failure: from.failure.clone(),
            zero_tick: from.zero_tick.clone(),
            scratch: from.scratch.clone(),
            cache: from.cache.clone(),
            ..*from
        };
        change(&mut context);
        GpuEngine { context: Arc::new(context) }
    }

    /// Whether the device was opened with the feature shader-f16.
    pub fn has_f16(&self) -> bool {
        self.context.has_f16()
    }

    /// What the adapter is and offers.
    pub fn info(&self) -> &DeviceInfo {
        &self.context.info
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.context.device
    }

    /// The wgpu queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.context.queue
    }

    pub(super) fn check(&self, recording: &Recording) -> Result<()> {
        self.context.check_limits(recording)
    }

    pub(super) fn store(&self) -> GpuStore {
        GpuStore { context: self.context.clone(), values: Arc::default() }
    }

    /// The same device, over which each recording runs for so many members at once.
    pub(super) fn ensemble(&self, members: usize) -> Result<Self> {
        let most = self.context.limits.max_compute_workgroups_per_dimension as usize;
        if members > most {
            let device = self.context.info.name.clone();
            let (limit, what) = ("maxComputeWorkgroupsPerDimension", "an ensemble".to_string());
            let (allowed, needed) = (most as u64, members as u64);
            return Err(Error::Limit { device, limit, allowed, needed, what });
        }
        Ok(self.copy(|context| context.pipelines.members = members as u32))
    }

    /// The same without an ensemble, on the device for trials: for what is measured.
    fn alone(&self) -> Self {
        self.copy(|context| {
            context.pipelines.members = 1;
            if let Some(opened) = context.scratch.as_ref().and_then(Scratch::device) {
                let Opened { device, queue, failure, slots } = opened;
                (context.device, context.queue, context.failure) = (device, queue, failure);
                context.pipelines.slots = slots;
                context.zero_tick = Arc::default();
            }
        })
    }

    pub(super) fn members(&self) -> usize {
        self.context.pipelines.members as usize
    }

    pub(super) fn load(
        &self,
        recording: &Recording,
        store: &GpuStore,
        external: &[(BufferId, wgpu::Buffer)],
    ) -> Result<GpuProgram> {
        self.check(recording)?;
        self.count_subgroups_for(recording);
        self.tune_for(recording)?;
        self.measure_strategies(recording)?;
        let mut foreign: Vec<BufferId> = external.iter().map(|given| given.0).collect();
        if !external.is_empty() {
            // The host may hand in one of the store's.
            let values = lock(&store.values);
            let given = |buffer: &wgpu::Buffer| external.iter().any(|given| given.1 == *buffer);
            let shared = recording.iter().filter(|(_, buffer)| {
                matches!(buffer.role, Role::Parameter | Role::State)
                    && values.get(&buffer.name).is_some_and(|tensor| given(&tensor.buffer))
            });
            foreign.extend(shared.map(|(id, _)| id));
        }
        self.load_arranged(&self.arranged_around(recording, &foreign), store, external)
    }

    /// Compiles what a recording takes on this device, one kernel after another, and runs nothing: for what reads a
    /// driver's account of them. `before` hears of each kernel first.
    ///
    /// # Errors
    /// The device refuses one.
    #[doc(hidden)]
    pub fn compile_one_by_one(
        &self,
        recording: &Recording,
        mut before: impl FnMut(&Op, &[Binding]),
    ) -> Result<()> {
        let arranged = self.arranged_around(recording, &[]);
        for launch in self.arrange(&arranged).0 {
            let bindings = arranged.bindings(&launch);
            let slot = self.context.pipelines.slot(launch.op.kernel(), &bindings);
            if !slot.is_made() {
                before(&launch.op, &bindings);
                slot.get(&self.context, launch.op.kernel(), || bindings.clone())?;
            }
        }
        Ok(())
    }

    /// Loads a recording as it is.
    fn load_arranged(
        &self,
        recording: &Recording,
        store: &GpuStore,
        external: &[(BufferId, wgpu::Buffer)],
    ) -> Result<GpuProgram> {
        let context = &self.context;
        let mut states = Vec::new();
        let load = || self.load_unchecked(recording, store, external, &mut states);
        let program = context.caught(load);
        if program.is_err() {
            // What was made may be none: it is made anew when it is asked for again.
            let mut values = lock(&store.values);
            states.iter().for_each(|name| drop(values.remove(name)));
        }
        program
    }

    /// `states`: the tensors that it puts into the store.
    fn load_unchecked(
        &self,
        recording: &Recording,
        store: &GpuStore,
        external: &[(BufferId, wgpu::Buffer)],
        states: &mut Vec<String>,
    ) -> Result<GpuProgram> {
        let context = &self.context;
        let plan = recording.plan()?;
        let slots: Vec<_> = plan
            .slots
            .iter()
            .enumerate()
            .map(|(i, &words)| context.tensors(&format!("slot {i}"), words))
            .collect();
        let mut buffers = Vec::new();
        let mut staging = HashMap::new();
        let mut values = lock(&store.values);
        for (id, buffer) in recording.iter() {
            if let Some(given) = external.iter().find(|e| e.0 == id) {
                if self.members() > 1 {
                    return Err(Error::invalid("an ensemble takes no buffers of the host's"));
                }
                buffers.push(check_external(buffer.name.as_str(), buffer.len, &given.1)?);
                continue;
            }
            buffers.push(match (plan.slot_of[id.0], buffer.role) {
                (Some(slot), _) => slots[slot].clone(),
                // No launch uses it.
                (None, Role::Temporary) => context.tensors(&buffer.name, 1),
                (None, Role::Input) => context.tensors(&buffer.name, buffer.len),
                (None, Role::Output) => {
                    let tensors = context.tensors(&buffer.name, buffer.len);
                    staging.insert(id, context.staging(tensors.size()));
                    tensors
                }
                (None, Role::Parameter | Role::State) => {
                    // A parameter must be there in every member.
                    let whole = |t: &&Tensor| buffer.role == Role::State || !t.set.contains(&false);
                    let found = values.get(&buffer.name).filter(whole);
                    super::check_shared(found.map(|tensor| tensor.len), buffer)?;
                    let make = || {
                        states.push(buffer.name.clone());
                        Tensor::new(context, &buffer.name, buffer.len)
                    };
                    values.entry(buffer.name.clone()).or_insert_with(make).buffer.clone()
                }
            });
        }
        drop(values);
        let (arranged, scratch) = self.arrange(recording);
        buffers.extend(scratch.map(|words| context.tensors("partial sums", words.max(1))));

        let stride = (context.limits.min_uniform_buffer_offset_alignment as usize).max(64);
        let mut blocks: Vec<u8> = Vec::new();
        let mut offsets: HashMap<Vec<u8>, u32> = HashMap::new();
        let (mut planned, mut wanted) = (Vec::new(), Vec::<Wanted>::new());
        for launch in &arranged {
            let (kernel, bindings) = (launch.op.kernel(), recording.bindings(launch));
            let params = match context.pipelines.immediates && kernel.items() == 1 {
                true => LaunchParams::Immediate(kernel.params().into()),
                false => {
                    let offset = offsets.entry(kernel.params().to_vec()).or_insert_with(|| {
                        let offset = blocks.len();
                        blocks.extend_from_slice(kernel.params());
                        blocks.resize(blocks.len().next_multiple_of(stride), 0);
                        offset as u32
                    });
                    LaunchParams::Offset(*offset)
                }
            };
            let slot = context.pipelines.slot(kernel, &bindings);
            let cost = Cost::new(kernel, &bindings).times(self.members() as u64);
            if !slot.is_made() && !wanted.iter().any(|other| Arc::ptr_eq(&other.0, &slot)) {
                wanted.push((slot.clone(), &launch.op, bindings));
            }
            planned.push((slot, params, cost));
        }
        pipeline::make(context, &wanted)?;
        // A block is bound in whole vectors, the last one too.
        blocks.resize(blocks.len().next_multiple_of(stride), 0);
        let params = (!blocks.is_empty()).then(|| {
            let params = context.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("parameters"),
                size: blocks.len() as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            context.queue.write_buffer(&params, 0, &blocks);
            params
        });

        type Key = (usize, Vec<BufferId>);
        let mut groups: HashMap<Key, (usize, wgpu::BindGroup)> = HashMap::new();
        let mut launches = Vec::new();
        for (launch, (slot, launch_params, cost)) in arranged.iter().zip(planned) {
            let kernel = launch.op.kernel();
            let pipeline = slot.get(context, kernel, || recording.bindings(launch))?;
            let key = (Arc::as_ptr(&pipeline) as usize, launch.buffers.clone());
            let bound = launch.buffers.iter().map(|id| &buffers[id.0]).collect::<Vec<_>>();
            let number = groups.len();
            let make = || (number, pipeline.bind(&context.device, params.as_ref(), &bound));
            let group = groups.entry(key).or_insert_with(make).clone();
            // No kernel has workgroups in z of its own: they are launches side by side, and the members.
            let [x, y, z] = kernel.groups();
            let (kernel, size) = (kernel.name(), [x, y, z * context.pipelines.members]);
            let params = launch_params;
            launches.push(GpuLaunch { kernel, cost, pipeline, group, params, size });
        }
        let in_flight = VecDeque::with_capacity(IN_FLIGHT + 1);
        let context = context.clone();
        Ok(GpuProgram { context, launches, buffers, staging, in_flight, plan, watch: None })
    }
}

/// A host's buffer must be large enough and usable as storage.
fn check_external(name: &str, len: usize, buffer: &wgpu::Buffer) -> Result<wgpu::Buffer> {
    let needed = (len * WORD_BYTES) as u64;
    if buffer.size() < needed {
        return Err(Error::invalid(format!(
            "the host's buffer for '{name}' has {} bytes, {needed} are needed",
            buffer.size()
        )));
    }
    if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        return Err(Error::invalid(format!("the host's buffer for '{name}' lacks STORAGE usage")));
    }
    Ok(buffer.clone())
}
