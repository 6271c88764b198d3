//! Finding adapters and opening devices.

use super::pipeline::Slots;
use super::{lock, trust};
use crate::error::{Error, Result};
use crate::wait;
use serde::Serialize;
use std::sync::{Arc, Mutex};
use wgpu::{Adapter, DeviceType, Instance, InstanceDescriptor};

/// What products of cooperative matrices need.
pub(super) const COOPERATIVE: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::SHADER_F16);

/// What an adapter is and offers.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInfo {
    /// The adapter's name, as `--device` takes it.
    pub name: String,
    /// The graphics interface: Vulkan, Metal, Dx12 …
    pub backend: String,
    /// Discrete, integrated, virtual, CPU (a software device) or other.
    pub kind: String,
    /// The driver and its version.
    pub driver: String,
    /// A driver that computes on the CPU, such as lavapipe.
    pub software: bool,
    /// Features that matter to the kernels and are there.
    pub features: Vec<String>,
    /// Largest storage binding in bytes.
    pub max_storage_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Workgroup memory in bytes.
    pub max_workgroup_memory: u32,
    /// Threads in a workgroup.
    pub max_workgroup_threads: u32,
    /// Storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Smallest and largest subgroup.
    pub subgroup_sizes: [u32; 2],
    /// Sizes of the square matrices of f16 that a subgroup multiplies into f32.
    pub cooperative_matrices: Vec<u32>,
}

impl DeviceInfo {
    pub(super) fn new(adapter: &Adapter) -> Self {
        let info = adapter.get_info();
        let limits = adapter.limits();
        let available = adapter.features();
        let features = [
            ("shader-f16", wgpu::Features::SHADER_F16),
            ("subgroup", wgpu::Features::SUBGROUP),
            ("timestamp-query", wgpu::Features::TIMESTAMP_QUERY),
            ("immediates", wgpu::Features::IMMEDIATES),
            ("cooperative-matrix", wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
            ("memory-coherent", wgpu::Features::MEMORY_DECORATION_COHERENT),
        ];
        let features = features.into_iter().filter(|f| available.contains(f.1));
        DeviceInfo {
            name: name(&info),
            backend: format!("{:?}", info.backend),
            kind: format!("{:?}", info.device_type),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            software: info.device_type == DeviceType::Cpu,
            features: features.map(|f| f.0.to_string()).collect(),
            max_storage_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_workgroup_threads: limits.max_compute_invocations_per_workgroup,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
            cooperative_matrices: cooperative_sizes(adapter),
        }
    }
}

/// An adapter's name. A browser tells little of it.
fn name(info: &wgpu::AdapterInfo) -> String {
    match info.name.as_str() {
        "" => format!("{:?}", info.backend),
        name => name.to_string(),
    }
}

fn cooperative_sizes(adapter: &Adapter) -> Vec<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let offered = adapter.cooperative_matrix_properties();
    let square = offered.iter().filter(|p| p.m_size == p.n_size && p.n_size == p.k_size);
    let mut sizes: Vec<u32> =
        square.filter(|p| (p.ab_type, p.cr_type) == (F16, F32)).map(|p| p.m_size).collect();
    sizes.sort();
    sizes.dedup();
    sizes
}

/// How much a kind of device is preferred; software devices are last.
fn rank(kind: DeviceType) -> u32 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// Every adapter that can compute, the preferred ones first.
pub(super) async fn adapters() -> Vec<Adapter> {
    let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
    let mut list = instance.enumerate_adapters(wgpu::Backends::all()).await;
    list.retain(|adapter| adapter.get_downlevel_capabilities().is_webgpu_compliant());
    list.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    list
}

/// A device that this crate opened.
#[derive(Clone)]
pub(super) struct Opened {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// The first error that no scope caught, or why the device was lost.
    pub failure: Arc<Mutex<Option<String>>>,
    /// Its pipelines.
    pub slots: Slots,
}

impl Opened {
    fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let failure = Arc::new(Mutex::new(None));
        let heard = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&heard).get_or_insert_with(|| error.to_string());
        }));
        let heard = failure.clone();
        // One that was destroyed, which its handle allows, computes nothing any more and says so nowhere else.
        device.set_device_lost_callback(move |reason, message| {
            lock(&heard).get_or_insert_with(|| format!("device lost ({reason:?}): {message}"));
        });
        Opened { device, queue, failure, slots: Slots::default() }
    }
}

/// Where kernels are tried that a driver may refuse: a second device of the same adapter, opened when something is tried
/// first. wgpu gives a whole device up for lost where its driver refuses a pipeline (wgpu issue 10027), and
/// what runs on the first one must not be lost with it.
#[derive(Clone)]
pub(super) struct Scratch {
    adapter: Adapter,
    opened: Arc<Mutex<Option<Opened>>>,
}

impl Scratch {
    pub fn new(adapter: &Adapter) -> Self {
        Scratch { adapter: adapter.clone(), opened: Arc::default() }
    }

    /// The device, another one if it was lost; none where the adapter gives no further one.
    pub fn device(&self) -> Option<Opened> {
        let mut kept = lock(&self.opened);
        if kept.as_ref().is_some_and(|opened| lock(&opened.failure).is_some()) {
            *kept = None;
        }
        if kept.is_none() {
            *kept = wait::here(open(&self.adapter)).ok();
        }
        kept.clone()
    }
}

/// Opens an adapter with all its limits.
pub(super) async fn open(adapter: &Adapter) -> Result<Opened> {
    let available = adapter.features();
    // What profiling, 16-bit storage and launches without a buffer of parameters need, where it is there.
    // Workgroups of a grid hand over what they compute.
    let wanted = wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::SHADER_F16
        | wgpu::Features::IMMEDIATES
        | wgpu::Features::MEMORY_DECORATION_COHERENT;
    let mut features = available & wanted;
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    if available.contains(COOPERATIVE) {
        features |= COOPERATIVE;
        experimental_features = trust::experimental_features();
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("recurra"),
        required_features: features,
        experimental_features,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::Performance,
        ..Default::default()
    };
    let opened = adapter.request_device(&descriptor).await.map_err(|e| {
        Error::Device(format!(
            "the device '{}' could not be opened: {e}",
            name(&adapter.get_info())
        ))
    });
    opened.map(|(device, queue)| Opened::new(device, queue))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One device serves all trials until it is lost; then there is another one, and the engine's own goes on.
    #[test]
    fn a_lost_device_for_trials_is_replaced() {
        let Some(adapter) = pollster::block_on(adapters()).into_iter().next() else {
            println!("SKIPPED: no GPU adapter was found");
            return;
        };
        let scratch = Scratch::new(&adapter);
        let first = scratch.device().unwrap();
        assert!(first.device == scratch.clone().device().unwrap().device);
        lock(&first.failure).get_or_insert_with(|| "device lost".to_string());
        let second = scratch.device().unwrap();
        assert!(second.device != first.device && lock(&second.failure).is_none());
        let engine = super::super::GpuEngine::open(|_| Some(0)).unwrap().unwrap();
        assert!(engine.alone().device() != engine.device());
        assert!(engine.alone().device() == engine.copy(|_| ()).alone().device());
    }
}
