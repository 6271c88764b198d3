//! The GPU engine: recordings on a wgpu device.
//!
//! Loading a recording compiles its pipelines, allocates its physical buffers and makes the bind groups.
//! A run then only encodes one compute pass: a launch's parameters go with it as immediates, or, where a
//! device has none, lie in one uniform buffer at a dynamic offset. Nothing is allocated or compiled anew.

mod device;
mod experimental;
mod pipeline;
mod products;
mod timestamps;

pub use device::DeviceInfo;
pub use products::{Cooperative, Tuning};

use super::Span;
use crate::error::{Error, Result};
use crate::kernel::{BufferId, Cost};
use crate::recording::{MemoryPlan, Recording, Role};
use crate::tensor::WORD_BYTES;
use pipeline::{Pipeline, Pipelines};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use timestamps::Timestamps;

/// How long the host waits for the runs in flight before the device is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bytes of the largest parameter block, which are few enough for every device that has immediates.
const MOST_PARAMS: u32 = 128;

/// Runs of a program that the device may have before it.
const IN_FLIGHT: usize = 3;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Context {
    info: DeviceInfo,
    device: wgpu::Device,
    queue: wgpu::Queue,
    limits: wgpu::Limits,
    pipelines: Pipelines,
    /// This crate opened the device.
    own: bool,
    /// All products take this tile.
    tile: Option<usize>,
    /// Tiles of cooperative matrices that the device takes, and whether products of f16 take one.
    offered: Vec<usize>,
    cooperative: Cooperative,
    /// Rows that a thread of the step kernels computes.
    thread_rows: usize,
    /// The first error that no scope caught; only for devices that this crate opened itself.
    failure: Arc<Mutex<Option<String>>>,
}

/// Runs recordings on a wgpu device.
#[derive(Clone)]
pub struct GpuEngine {
    context: Arc<Context>,
}

impl GpuEngine {
    /// What every adapter of this machine is and offers, the preferred ones first.
    pub fn devices() -> Vec<DeviceInfo> {
        device::adapters().iter().map(DeviceInfo::new).collect()
    }

    /// Opens the adapter that `choose` picks from the list of [`GpuEngine::devices`]. `None` where it
    /// picks none.
    ///
    /// # Errors
    /// The device refuses to open.
    pub fn open(choose: impl FnOnce(&[DeviceInfo]) -> Option<usize>) -> Result<Option<Self>> {
        let adapters = device::adapters();
        let infos: Vec<_> = adapters.iter().map(DeviceInfo::new).collect();
        let Some(adapter) = choose(&infos).and_then(|index| adapters.get(index)) else {
            return Ok(None);
        };
        let (device, queue) = device::open(adapter)?;
        let failure = Arc::new(Mutex::new(None));
        let heard = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&heard).get_or_insert_with(|| error.to_string());
        }));
        let heard = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                lock(&heard).get_or_insert_with(|| format!("device lost: {message}"));
            }
        });
        Ok(Some(Self::new(DeviceInfo::new(adapter), device, queue, true, failure)))
    }

    /// Runs in a host program's device. Its error handlers stay as they are.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self::new(DeviceInfo::new(adapter), device, queue, false, Arc::default())
    }

    fn new(
        info: DeviceInfo,
        device: wgpu::Device,
        queue: wgpu::Queue,
        own: bool,
        failure: Arc<Mutex<Option<String>>>,
    ) -> Self {
        let limits = device.limits();
        let immediates = device.features().contains(wgpu::Features::IMMEDIATES)
            && limits.max_immediate_size >= MOST_PARAMS;
        let pipelines = Pipelines { immediates, ..Pipelines::default() };
        // A driver on the CPU has few workgroups at once, and loads cost it more than registers.
        let (tile, thread_rows) = (None, if info.software { 4 } else { 1 });
        let offered = products::offered(&info, device.features(), &limits);
        let context = Context {
            info,
            device,
            queue,
            limits,
            pipelines,
            own,
            tile,
            offered,
            cooperative: Cooperative::Measured,
            thread_rows,
            failure,
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

    /// The same device with pipelines of its own.
    fn copy(&self, change: impl FnOnce(&mut Context)) -> Self {
        let from = &*self.context;
        let mut context = Context {
            info: from.info.clone(),
            device: from.device.clone(),
            queue: from.queue.clone(),
            limits: from.limits.clone(),
            pipelines: Pipelines {
                fault: from.pipelines.fault.clone(),
                immediates: from.pipelines.immediates,
                ..Pipelines::default()
            },
            failure: from.failure.clone(),
            offered: from.offered.clone(),
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

    pub(super) fn load(
        &self,
        recording: &Recording,
        store: &GpuStore,
        external: &[(BufferId, wgpu::Buffer)],
    ) -> Result<GpuProgram> {
        let context = &self.context;
        self.check(recording)?;
        self.tune_for(recording)?;
        let scopes = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
            .map(|filter| context.device.push_error_scope(filter));
        let program = self.load_unchecked(recording, store, external);
        // Scopes are popped in the reverse order.
        for scope in scopes.into_iter().rev() {
            if let Some(error) = pollster::block_on(scope.pop()) {
                return Err(context.failed(error.to_string()));
            }
        }
        program
    }

    fn load_unchecked(
        &self,
        recording: &Recording,
        store: &GpuStore,
        external: &[(BufferId, wgpu::Buffer)],
    ) -> Result<GpuProgram> {
        let context = &self.context;
        let plan = recording.plan()?;
        let slots: Vec<_> = plan
            .slots
            .iter()
            .enumerate()
            .map(|(i, &words)| context.buffer(&format!("slot {i}"), words))
            .collect();
        let mut buffers = Vec::new();
        let mut staging = HashMap::new();
        let mut values = lock(&store.values);
        for (id, buffer) in recording.iter() {
            if let Some(given) = external.iter().find(|e| e.0 == id) {
                buffers.push(check_external(buffer.name.as_str(), buffer.len, &given.1)?);
                continue;
            }
            buffers.push(match (plan.slot_of[id.0], buffer.role) {
                (Some(slot), _) => slots[slot].clone(),
                // No launch uses it.
                (None, Role::Temporary) => context.buffer(&buffer.name, 1),
                (None, Role::Input) => context.buffer(&buffer.name, buffer.len),
                (None, Role::Output) => {
                    staging.insert(id, context.staging(buffer.len));
                    context.buffer(&buffer.name, buffer.len)
                }
                (None, Role::Parameter | Role::State) => {
                    let words = values.get(&buffer.name).map(|b| b.size() as usize / WORD_BYTES);
                    super::check_shared(words, buffer)?;
                    let make = || context.buffer(&buffer.name, buffer.len);
                    values.entry(buffer.name.clone()).or_insert_with(make).clone()
                }
            });
        }
        drop(values);
        let (arranged, scratch) = self.arrange(recording);
        buffers.extend(scratch.map(|words| context.buffer("partial sums", words.max(1))));

        let stride = (context.limits.min_uniform_buffer_offset_alignment as usize).max(64);
        let mut blocks: Vec<u8> = Vec::new();
        let mut offsets: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut planned = Vec::new();
        for launch in &arranged {
            let (kernel, bindings) = (launch.op.kernel(), recording.bindings(launch));
            let params = match context.pipelines.immediates {
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
            let pipeline = context.pipelines.get(&context.device, kernel, &bindings)?;
            planned.push((pipeline, params, Cost::new(kernel, &bindings)));
        }
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
        for (launch, (pipeline, launch_params, cost)) in arranged.iter().zip(planned) {
            let key = (Arc::as_ptr(&pipeline) as usize, launch.buffers.clone());
            let bound = launch.buffers.iter().map(|id| &buffers[id.0]).collect::<Vec<_>>();
            let number = groups.len();
            let make = || (number, pipeline.bind(&context.device, params.as_ref(), &bound));
            let group = groups.entry(key).or_insert_with(make).clone();
            let (kernel, size) = (launch.op.kernel().name(), launch.op.kernel().groups());
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

impl Context {
    fn failed(&self, reason: String) -> Error {
        Error::DeviceFailed { device: self.info.name.clone(), reason }
    }

    /// Reports an error that came outside any scope.
    fn check_failure(&self) -> Result<()> {
        match lock(&self.failure).as_ref() {
            Some(reason) => Err(self.failed(reason.clone())),
            None => Ok(()),
        }
    }

    fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    fn check_limits(&self, recording: &Recording) -> Result<()> {
        if let Some(buffer) = recording.find_half()
            && !self.has_f16()
        {
            let (device, name) = (&self.info.name, &buffer.name);
            return Err(Error::Device(format!(
                "'{device}' lacks the feature shader-f16, which buffer '{name}' needs: use precision f32"
            )));
        }
        let fail = |limit, allowed: u64, needed: u64, what: String| {
            let device = self.info.name.clone();
            Err(Error::Limit { device, limit, allowed, needed, what })
        };
        let binding = self.limits.max_storage_buffer_binding_size;
        let whole = self.limits.max_buffer_size;
        for buffer in recording.buffers() {
            let needed = (buffer.words() * WORD_BYTES) as u64;
            let what = || format!("buffer '{}'", buffer.name);
            if needed > binding {
                return fail("maxStorageBufferBindingSize", binding, needed, what());
            }
            if needed > whole {
                return fail("maxBufferSize", whole, needed, what());
            }
        }
        let dimension = self.limits.max_compute_workgroups_per_dimension;
        let storage = self.limits.max_storage_buffers_per_shader_stage;
        for launch in recording.launches() {
            let kernel = launch.op.kernel();
            let what = || format!("kernel {}", kernel.name());
            let most = kernel.groups().into_iter().max().unwrap_or(0);
            if most > dimension {
                let limit = "maxComputeWorkgroupsPerDimension";
                return fail(limit, dimension.into(), most.into(), what());
            }
            let bound = launch.buffers.len() as u32;
            if bound > storage {
                let limit = "maxStorageBuffersPerShaderStage";
                return fail(limit, storage.into(), bound.into(), what());
            }
        }
        Ok(())
    }

    fn buffer(&self, label: &str, words: usize) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: (words * WORD_BYTES) as u64,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    fn staging(&self, words: usize) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: (words * WORD_BYTES) as u64,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Copies a device buffer through `staging` to the host.
    fn read<T: bytemuck::Pod>(
        &self,
        buffer: &wgpu::Buffer,
        staging: &wgpu::Buffer,
    ) -> Result<Vec<T>> {
        let size = staging.size();
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, staging, 0, size);
        self.queue.submit([encoder.finish()]);
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result);
        });
        self.wait()?;
        let mapped = receiver.recv_timeout(PATIENCE);
        mapped
            .map_err(|_| self.failed("no answer to a read".to_string()))?
            .map_err(|e| self.failed(format!("reading back failed: {e}")))?;
        let view = staging.get_mapped_range(..);
        let view = view.map_err(|e| self.failed(format!("reading back failed: {e}")))?;
        let values = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        staging.unmap();
        self.check_failure()?;
        Ok(values)
    }

    fn wait(&self) -> Result<()> {
        self.wait_for(None)
    }

    /// Waits for a submission, or for all.
    fn wait_for(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index, timeout: Some(PATIENCE) };
        self.device.poll(poll).map_err(|e| self.failed(e.to_string()))?;
        self.check_failure()
    }
}

/// Buffers by name, shared by programs.
#[derive(Clone)]
pub(super) struct GpuStore {
    context: Arc<Context>,
    values: Arc<Mutex<HashMap<String, wgpu::Buffer>>>,
}

impl GpuStore {
    pub(super) fn set(&self, name: &str, value: &[f32]) -> Result<()> {
        let context = &self.context;
        let needed = std::mem::size_of_val(value) as u64;
        let allowed = context.limits.max_buffer_size;
        if needed > allowed {
            return Err(Error::Limit {
                device: context.info.name.clone(),
                limit: "maxBufferSize",
                allowed,
                needed,
                what: format!("tensor '{name}'"),
            });
        }
        let mut values = lock(&self.values);
        let fits = values.get(name).is_some_and(|buffer| buffer.size() == needed);
        if !fits {
            let scope = context.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let buffer = context.buffer(name, value.len());
            if let Some(error) = pollster::block_on(scope.pop()) {
                return Err(context.failed(error.to_string()));
            }
            values.insert(name.to_string(), buffer);
        }
        context.queue.write_buffer(&values[name], 0, bytemuck::cast_slice(value));
        context.check_failure()
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(buffer) = lock(&self.values).get(name).cloned() else { return Ok(None) };
        let staging = self.context.staging(buffer.size() as usize / WORD_BYTES);
        self.context.read(&buffer, &staging).map(Some)
    }

    pub(super) fn names(&self) -> Vec<String> {
        lock(&self.values).keys().cloned().collect()
    }

    pub(super) fn buffer(&self, name: &str) -> Option<wgpu::Buffer> {
        lock(&self.values).get(name).cloned()
    }
}

struct GpuLaunch {
    kernel: &'static str,
    cost: Cost,
    pipeline: Arc<Pipeline>,
    /// Numbered in the program: equal numbers are equal groups of one pipeline.
    group: (usize, wgpu::BindGroup),
    params: LaunchParams,
    size: [u32; 3],
}

/// How a launch gets its parameter block.
enum LaunchParams {
    /// With the launch.
    Immediate(Box<[u8]>),
    /// At an offset in the program's buffer of them.
    Offset(u32),
}

/// A recording with its buffers and bind groups, ready to run.
pub struct GpuProgram {
    context: Arc<Context>,
    launches: Vec<GpuLaunch>,
    buffers: Vec<wgpu::Buffer>,
    staging: HashMap<BufferId, wgpu::Buffer>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    plan: MemoryPlan,
    /// Runs that are watched.
    watch: Option<Timestamps>,
}

/// Encodes launches as one compute pass.
fn encode_pass(
    launches: &[GpuLaunch],
    encoder: &mut wgpu::CommandEncoder,
    timestamps: Option<wgpu::ComputePassTimestampWrites>,
) {
    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: timestamps };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    let mut pipeline: *const Pipeline = std::ptr::null();
    let mut bound = usize::MAX;
    for launch in launches {
        if Arc::as_ptr(&launch.pipeline) != pipeline {
            pipeline = Arc::as_ptr(&launch.pipeline);
            pass.set_pipeline(&launch.pipeline.pipeline);
        }
        let (number, group) = &launch.group;
        match &launch.params {
            LaunchParams::Offset(offset) => pass.set_bind_group(0, group, &[*offset]),
            LaunchParams::Immediate(params) => {
                if bound != *number {
                    bound = *number;
                    pass.set_bind_group(0, group, &[]);
                }
                pass.set_immediates(0, params);
            }
        }
        let [x, y, z] = launch.size;
        pass.dispatch_workgroups(x, y, z);
    }
}

impl GpuProgram {
    /// Appends the whole recording to a host's encoder, as one compute pass.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        encode_pass(&self.launches, encoder, None);
    }

    /// One run with a pass a launch.
    pub(super) fn profile(&mut self) -> Result<Vec<Span>> {
        let mut timestamps = Timestamps::new(&self.context, self.launches.len())?;
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        for launch in &self.launches {
            encode_pass(std::slice::from_ref(launch), &mut encoder, timestamps.next());
        }
        self.context.queue.submit([encoder.finish()]);
        let times = timestamps.read(&self.context)?;
        let spans = self.launches.iter().zip(times);
        Ok(spans.map(|(launch, times)| Span::new(launch.kernel, launch.cost, times)).collect())
    }

    /// Notes beginning and end of the next runs.
    pub(super) fn watch(&mut self, runs: usize) -> Result<()> {
        self.watch = Some(Timestamps::new(&self.context, runs)?);
        Ok(())
    }

    /// What was noted since.
    pub(super) fn watched(&mut self) -> Result<Vec<[f64; 2]>> {
        self.watch.take().map_or(Ok(Vec::new()), |watch| watch.read(&self.context))
    }

    /// The device buffer behind an input, output, parameter or state.
    pub fn buffer(&self, id: BufferId) -> &wgpu::Buffer {
        &self.buffers[id.0]
    }

    /// Submits the launches. At most [`IN_FLIGHT`] runs wait on the device: a host that is faster
    /// waits for the oldest.
    pub(super) fn run(&mut self) -> Result<()> {
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let timestamps = self.watch.as_mut().and_then(Timestamps::next);
        encode_pass(&self.launches, &mut encoder, timestamps);
        self.in_flight.push_back(self.context.queue.submit([encoder.finish()]));
        if self.in_flight.len() > IN_FLIGHT {
            self.context.wait_for(self.in_flight.pop_front())?;
        }
        self.context.check_failure()
    }

    pub(super) fn write(&self, id: BufferId, words: &[u8]) -> Result<()> {
        let buffer = &self.buffers[id.0];
        self.check_usage(buffer, wgpu::BufferUsages::COPY_DST, "COPY_DST")?;
        self.context.queue.write_buffer(buffer, 0, words);
        Ok(())
    }

    pub(super) fn read(&self, id: BufferId, len: usize) -> Result<Vec<f32>> {
        let buffer = &self.buffers[id.0];
        self.check_usage(buffer, wgpu::BufferUsages::COPY_SRC, "COPY_SRC")?;
        match self.staging.get(&id) {
            Some(staging) => self.context.read(buffer, staging),
            None => self.context.read(buffer, &self.context.staging(len)),
        }
    }

    /// A host's buffer may lack what the program's own all have.
    fn check_usage(
        &self,
        buffer: &wgpu::Buffer,
        usage: wgpu::BufferUsages,
        name: &str,
    ) -> Result<()> {
        if buffer.usage().contains(usage) {
            return Ok(());
        }
        Err(Error::invalid(format!("the host's buffer lacks {name} usage for this")))
    }

    pub(super) fn wait(&self) -> Result<()> {
        self.context.wait()
    }

    pub(super) fn plan(&self) -> &MemoryPlan {
        &self.plan
    }
}
