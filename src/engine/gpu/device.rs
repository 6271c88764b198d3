//! Finding adapters and opening devices.

use super::experimental;
use crate::error::{Error, Result};
use serde::Serialize;
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
            name: info.name,
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
pub(super) fn adapters() -> Vec<Adapter> {
    let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
    let mut list = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    list.retain(|adapter| adapter.get_downlevel_capabilities().is_webgpu_compliant());
    list.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    list
}

/// Opens an adapter with all its limits.
pub(super) fn open(adapter: &Adapter) -> Result<(wgpu::Device, wgpu::Queue)> {
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
        experimental_features = experimental::enabled();
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("recurra"),
        required_features: features,
        experimental_features,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::Performance,
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).map_err(|e| {
        Error::Device(format!("the device '{}' could not be opened: {e}", adapter.get_info().name))
    })
}
