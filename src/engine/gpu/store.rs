//! Named buffers on a device.

use super::{Context, lock};
use crate::error::{Error, Result};
use crate::tensor::WORD_BYTES;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A tensor of each member.
#[derive(Clone)]
pub struct Tensor {
    /// Elements of one.
    pub len: usize,
    /// Members whose tensor was set.
    pub set: Vec<bool>,
    pub buffer: wgpu::Buffer,
}

impl Tensor {
    /// Zeros that nobody has set.
    pub fn new(context: &Context, name: &str, len: usize) -> Self {
        Tensor { len, set: vec![false; context.members()], buffer: context.tensors(name, len) }
    }
}

/// Buffers by name, shared by programs.
#[derive(Clone)]
pub struct GpuStore {
    pub(super) context: Arc<Context>,
    pub(super) values: Arc<Mutex<HashMap<String, Tensor>>>,
}

impl GpuStore {
    /// Sets the tensor of a member, or of all.
    pub fn set(&self, name: &str, value: &[f32], member: Option<usize>) -> Result<()> {
        let context = &self.context;
        let len = value.len();
        let needed = (context.stride(len) * context.members() * WORD_BYTES) as u64;
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
        let found = values.get(name).map(|tensor| tensor.len);
        if let (Some(found), Some(_)) = (found.filter(|&found| found != len), member) {
            return Err(Error::shape(name, &[found], &[len]));
        }
        if found != Some(len) {
            let tensor = context.caught(|| Ok(Tensor::new(context, name, len)))?;
            values.insert(name.to_string(), tensor);
        }
        if let Some(tensor) = values.get_mut(name) {
            match member {
                Some(member) => tensor.set[member] = true,
                None => tensor.set.fill(true),
            }
            context.write(&tensor.buffer, bytemuck::cast_slice(value), member);
        }
        context.check_failure()
    }

    /// The tensor of a member, or of all one after another.
    pub async fn get(&self, name: &str, member: Option<usize>) -> Result<Option<Vec<f32>>> {
        let found = lock(&self.values).get(name).cloned();
        let Some(Tensor { len, buffer, .. }) = found else {
            return Ok(None);
        };
        let staging = self.context.staging(buffer.size());
        self.context.read_tensors(&buffer, &staging, len, member).await.map(Some)
    }

    pub fn members(&self) -> usize {
        self.context.members()
    }

    pub fn names(&self) -> Vec<String> {
        lock(&self.values).keys().cloned().collect()
    }

    pub fn buffer(&self, name: &str) -> Option<wgpu::Buffer> {
        lock(&self.values).get(name).map(|tensor| tensor.buffer.clone())
    }
}
