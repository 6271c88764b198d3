//! Compiled kernels, one a permutation, kept for the life of the engine.

use super::lock;
use crate::error::Result;
use crate::kernel::{Access, Binding, Kernel, shader};
use crate::tensor::DType;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

/// A kernel's name, its defines and the element types of its buffers.
pub type Key = (&'static str, Vec<(&'static str, String)>, Vec<DType>);

/// A compute pipeline with the layout of its bind group.
pub struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// Of the block in a uniform buffer; none where parameters are immediates.
    params_size: Option<NonZeroU64>,
}

impl Pipeline {
    fn new(
        device: &wgpu::Device,
        kernel: &dyn Kernel,
        bindings: &[Binding],
        all: &Pipelines,
    ) -> Result<Self> {
        // The blocks of launches side by side are too large.
        let immediates = all.immediates && kernel.items() == 1;
        let mut source = shader::source_with(kernel, bindings, all.members, all.fault.as_ref())?;
        if immediates {
            source = shader::with_immediates(&source);
        }
        let label = Some(kernel.name());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
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

/// All pipelines of an engine.
pub struct Pipelines {
    /// Planted by a test.
    pub fault: Option<shader::Fault>,
    /// Parameters are immediates.
    pub immediates: bool,
    /// Members of an ensemble; 1 without one.
    pub members: u32,
    made: Mutex<HashMap<Key, Arc<Pipeline>>>,
}

impl Pipelines {
    pub fn new(immediates: bool) -> Self {
        Pipelines { fault: None, immediates, members: 1, made: Mutex::default() }
    }

    /// None made yet, of the same kind.
    pub fn fresh(&self) -> Self {
        Pipelines { fault: self.fault.clone(), members: self.members, ..Self::new(self.immediates) }
    }

    /// All are compiled anew from now on: one that could not be is not kept. Programs keep their own.
    pub fn forget(&self) {
        lock(&self.made).clear();
    }

    /// The pipeline of the kernel's permutation over buffers of such types, compiled on first use.
    pub fn get(
        &self,
        device: &wgpu::Device,
        kernel: &dyn Kernel,
        bindings: &[Binding],
    ) -> Result<Arc<Pipeline>> {
        let types = bindings.iter().map(|binding| binding.dtype).collect();
        let key = (kernel.name(), kernel.defines(), types);
        let mut made = lock(&self.made);
        if let Some(pipeline) = made.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(Pipeline::new(device, kernel, bindings, self)?);
        made.insert(key, pipeline.clone());
        Ok(pipeline)
    }
}
