//! Compiled kernels, one a permutation, kept for the life of the device's engines.

use super::{Context, lock, trust};
use crate::error::Result;
use crate::kernel::{Access, Binding, Kernel, Op, shader};
use crate::tensor::DType;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// What a pipeline depends on besides the device.
#[derive(PartialEq, Eq, Hash)]
pub struct Key {
    fault: Option<shader::Fault>,
    immediates: bool,
    members: u32,
    kernel: &'static str,
    defines: Vec<(&'static str, String)>,
    types: Vec<DType>,
}

/// A compute pipeline with the layout of its bind group.
pub struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// Of the block in a uniform buffer; none where parameters are immediates.
    params_size: Option<NonZeroU64>,
}

impl Pipeline {
    fn new(context: &Context, kernel: &dyn Kernel, bindings: &[Binding]) -> Result<Self> {
        let (device, all) = (&context.device, &context.pipelines);
        // The blocks of launches side by side are too large.
        let immediates = all.immediates && kernel.items() == 1;
        let mut source = shader::source_with(kernel, bindings, all.members, all.fault.as_ref())?;
        if immediates {
            source = shader::with_immediates(&source);
        }
        let label = Some(kernel.name());
        let source = wgpu::ShaderSource::Wgsl(source.into());
        let shader = wgpu::ShaderModuleDescriptor { label, source };
        let module = if shader::is_own(kernel) && all.fault.is_none() {
            trust::own_shader(device, shader)
        } else {
            device.create_shader_module(shader)
        };
        // Uniform blocks are bound in whole vectors.
        let size = kernel.params().len().next_multiple_of(16).max(16) as u64;
        let params_size = NonZeroU64::new(size).filter(|_| !immediates);
        let entry = |binding: u32, ty, has_dynamic_offset, min_binding_size| {
            let ty = wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size };
            let visibility = wgpu::ShaderStages::COMPUTE;
            wgpu::BindGroupLayoutEntry { binding, visibility, ty, count: None }
        };
        let mut entries = Vec::new();
        if params_size.is_some() {
            entries.push(entry(0, wgpu::BufferBindingType::Uniform, true, params_size));
        }
        for (i, binding) in bindings.iter().enumerate() {
            let read_only = binding.access == Access::Read;
            let ty = wgpu::BufferBindingType::Storage { read_only };
            entries.push(entry(i as u32 + 1, ty, false, None));
        }
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: if immediates { kernel.params().len() as u32 } else { 0 },
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its tiles before it reads them.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Ok(Pipeline { pipeline, layout, params_size })
    }

    /// The bind group of `buffers`, with the parameters at a dynamic offset where there is a buffer of them.
    pub fn bind(
        &self,
        device: &wgpu::Device,
        params: Option<&wgpu::Buffer>,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let params = params.filter(|_| self.params_size.is_some());
        let params = params.map(|buffer| wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: 0,
                size: self.params_size,
            }),
        });
        let mut entries: Vec<_> = params.into_iter().collect();
        for (i, buffer) in buffers.iter().enumerate() {
            let resource = buffer.as_entire_binding();
            entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource });
        }
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &entries,
        })
    }
}

/// The place of a pipeline, made or not yet.
#[derive(Default)]
pub struct Slot {
    made: OnceLock<Arc<Pipeline>>,
    /// Held by the thread that makes it: others wait for this one alone.
    making: Mutex<()>,
}

impl Slot {
    pub fn is_made(&self) -> bool {
        self.made.get().is_some()
    }

    /// The pipeline, compiled on first use. One that the device refuses is not kept, so it is refused each time:
    /// errors are heard where it is made, as the device's scopes are those of a thread.
    pub fn get(
        &self,
        context: &Context,
        kernel: &dyn Kernel,
        bindings: impl FnOnce() -> Vec<Binding>,
    ) -> Result<Arc<Pipeline>> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        let _making = lock(&self.making);
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        let made = Arc::new(context.caught(|| Pipeline::new(context, kernel, &bindings()))?);
        Ok(self.made.get_or_init(|| made).clone())
    }
}

/// A pipeline that is wanted: its place, and what it is made of.
pub type Wanted<'a> = (Arc<Slot>, &'a Op, Vec<Binding>);

/// Makes pipelines, several at once: a driver compiles each on the thread that asks for it. The threads are their own
/// and not a pool's, where other work might go on between the scopes that hear errors.
///
/// # Errors
/// The first of the list that the device refuses.
pub fn make(context: &Context, wanted: &[Wanted]) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(wanted.len());
    let next = AtomicUsize::new(0);
    let first_failure = Mutex::new(None);
    let work = || {
        while let Some((slot, op, bindings)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = slot.get(context, op.kernel(), || bindings.clone()) {
                let place = wanted.iter().position(|other| Arc::ptr_eq(&other.0, slot));
                let mut failure = lock(&first_failure);
                if failure.as_ref().is_none_or(|(first, _)| place < *first) {
                    *failure = Some((place, error));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let failure = lock(&first_failure).take();
    failure.map_or(Ok(()), |(_, error)| Err(error))
}

/// What was made on a device.
pub type Slots = Arc<Mutex<HashMap<Key, Arc<Slot>>>>;

/// All pipelines of a device. Copies share what is made.
#[derive(Clone)]
pub struct Pipelines {
    /// Planted by a test.
    pub fault: Option<shader::Fault>,
    /// Parameters are immediates.
    pub immediates: bool,
    /// Members of an ensemble; 1 without one.
    pub members: u32,
    pub slots: Slots,
}

impl Pipelines {
    pub fn new(immediates: bool, slots: Slots) -> Self {
        Pipelines { fault: None, immediates, members: 1, slots }
    }

    /// The place of the pipeline for a kernel's permutation over buffers of such types.
    pub fn slot(&self, kernel: &dyn Kernel, bindings: &[Binding]) -> Arc<Slot> {
        let key = Key {
            fault: self.fault.clone(),
            immediates: self.immediates,
            members: self.members,
            kernel: kernel.name(),
            defines: kernel.defines(),
            types: bindings.iter().map(|binding| binding.dtype).collect(),
        };
        lock(&self.slots).entry(key).or_default().clone()
    }
}
