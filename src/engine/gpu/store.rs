//! Named buffers on a device.

use super::{Context, lock};
use crate::error::{Error, Result};
use crate::tensor::WORD_BYTES;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Buffers by name, shared by programs.
#[derive(Clone)]
pub struct GpuStore {
    pub(super) context: Arc<Context>,
    pub(super) values: Arc<Mutex<HashMap<String, wgpu::Buffer>>>,
}

impl GpuStore {
    pub fn set(&self, name: &str, value: &[f32]) -> Result<()> {
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

    pub fn get(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(buffer) = lock(&self.values).get(name).cloned() else { return Ok(None) };
        let staging = self.context.staging(buffer.size() as usize / WORD_BYTES);
        self.context.read(&buffer, &staging).map(Some)
    }

    pub fn names(&self) -> Vec<String> {
        lock(&self.values).keys().cloned().collect()
    }

    pub fn buffer(&self, name: &str) -> Option<wgpu::Buffer> {
        lock(&self.values).get(name).cloned()
    }
}
