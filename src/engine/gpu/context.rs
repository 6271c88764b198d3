//! A device with all that its engine has settled, and what is asked of it.

use super::device::{DeviceInfo, Scratch};
use super::pipeline::Pipelines;
use super::{Cooperative, PATIENCE, lock};
use crate::engine::Strategy;
use crate::error::{Error, Result};
use crate::kernel::GroupLimits;
use crate::recording::Recording;
use crate::tensor::WORD_BYTES;
use crate::wait;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Poll, Waker};

/// A device, and how an engine uses it.
pub(super) struct Context {
    pub info: DeviceInfo,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub limits: wgpu::Limits,
    pub pipelines: Pipelines,
    /// Where kernels are tried, if this crate opened the device: a host's has no second one.
    pub scratch: Option<Scratch>,
    /// All products take this tile.
    pub tile: Option<usize>,
    /// Threads of the subgroups that multiply matrices together, if not as many as are known.
    pub lanes: Option<usize>,
    /// Whether products of f16 take a tile of matrices.
    pub cooperative: Cooperative,
    /// Rows that a thread of the step kernels computes.
    pub thread_rows: usize,
    /// How steps are launched, and what a workgroup of a sequence kernel may have.
    pub strategy: Strategy,
    pub group_limits: GroupLimits,
    /// Launches that need not wait for one another go side by side.
    pub beside: bool,
    /// Ways of launching steps are measured before they are chosen.
    pub measures: bool,
    /// The file in which what was measured is kept.
    pub cache: Option<PathBuf>,
    /// The first error that no scope caught; only for devices that this crate opened itself.
    pub failure: Arc<Mutex<Option<String>>>,
    /// The device's first timestamp that was read: times are told from it on.
    pub zero_tick: Arc<OnceLock<u64>>,
}

/// Storage buffers that a launch binds at most: Metal counts the block of parameters among its buffers.
pub(super) fn most_bound(limits: &wgpu::Limits) -> usize {
    let all = limits.max_buffers_and_acceleration_structures_per_shader_stage;
    limits.max_storage_buffers_per_shader_stage.min(all.saturating_sub(1)) as usize
}

/// Where the answer to a request for a mapping comes.
pub(super) struct Answer {
    mapped: mpsc::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    /// Who awaits it.
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Answer {
    /// The mapping that was asked for, once it is there; `None` where no answer came.
    async fn heard(&self) -> Option<std::result::Result<(), wgpu::BufferAsyncError>> {
        if wait::WAITS {
            return self.mapped.recv_timeout(PATIENCE).ok();
        }
        poll_fn(|task| {
            // First of all, so that no answer comes unheard in between.
            *lock(&self.waker) = Some(task.waker().clone());
            match self.mapped.try_recv() {
                Ok(mapped) => Poll::Ready(Some(mapped)),
                Err(mpsc::TryRecvError::Disconnected) => Poll::Ready(None),
                Err(mpsc::TryRecvError::Empty) => Poll::Pending,
            }
        })
        .await
    }
}

impl Context {
    pub fn failed(&self, reason: String) -> Error {
        Error::DeviceFailed { device: self.info.name.clone(), reason }
    }

    /// What `work` makes, unless the device tells an error meanwhile on this thread. A browser tells it later, to whom
    /// hears what no scope caught.
    pub fn caught<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if !wait::WAITS {
            return work();
        }
        // A driver that can't compile a shader is an internal error.
        let scopes = [
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::Internal,
        ];
        let scopes = scopes.map(|filter| self.device.push_error_scope(filter));
        let mut made = work();
        // Scopes are popped in the reverse order.
        for scope in scopes.into_iter().rev() {
            if let Some(error) = pollster::block_on(scope.pop()) {
                made = Err(self.failed(error.to_string()));
            }
        }
        made
    }

    /// Reports an error that came outside any scope.
    pub fn check_failure(&self) -> Result<()> {
        match lock(&self.failure).as_ref() {
            Some(reason) => Err(self.failed(reason.clone())),
            None => Ok(()),
        }
    }

    pub fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    pub fn check_limits(&self, recording: &Recording) -> Result<()> {
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
            let needed = (self.stride(buffer.words()) * self.members() * WORD_BYTES) as u64;
            let what = || format!("buffer '{}'", buffer.name);
            if needed > binding {
                return fail("maxStorageBufferBindingSize", binding, needed, what());
            }
            if needed > whole {
                return fail("maxBufferSize", whole, needed, what());
            }
        }
        let dimension = self.limits.max_compute_workgroups_per_dimension;
        for launch in recording.launches() {
            let kernel = launch.op.kernel();
            let what = || format!("kernel {}", kernel.name());
            let most = kernel.groups().into_iter().max().unwrap_or(0);
            if most > dimension {
                let limit = "maxComputeWorkgroupsPerDimension";
                return fail(limit, dimension.into(), most.into(), what());
            }
            let bound = launch.buffers.len();
            if bound > self.most_bound() {
                let limit = "maxStorageBuffersPerShaderStage";
                return fail(limit, self.most_bound() as u64, bound as u64, what());
            }
        }
        Ok(())
    }

    pub fn members(&self) -> usize {
        self.pipelines.members as usize
    }

    pub fn most_bound(&self) -> usize {
        most_bound(&self.limits)
    }

    /// Words from a member's tensor to the next one's: whole vectors, where there are several.
    pub fn stride(&self, words: usize) -> usize {
        if self.members() > 1 { words.next_multiple_of(4) } else { words }
    }

    /// A buffer with a tensor of so many words for each member.
    pub fn tensors(&self, label: &str, words: usize) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: (self.stride(words) * self.members() * WORD_BYTES) as u64,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    pub fn staging(&self, size: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Writes a tensor of 32-bit words: a member's, or all members' the same.
    pub fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8], member: Option<usize>) {
        let stride = self.stride(bytes.len() / WORD_BYTES) * WORD_BYTES;
        let members = member.map_or(0..self.members(), |member| member..member + 1);
        for member in members {
            self.queue.write_buffer(buffer, (member * stride) as u64, bytes);
        }
    }

    /// Copies tensors of `len` words through `staging` to the host: a member's, or all of them one after another.
    pub async fn read_tensors(
        &self,
        buffer: &wgpu::Buffer,
        staging: &wgpu::Buffer,
        len: usize,
        member: Option<usize>,
    ) -> Result<Vec<f32>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let all: Vec<f32> = self.read(buffer, staging).await?;
        Ok(self.tensors_of(&all, len, member))
    }

    /// A member's tensor of `len` words, or those of all, one after another.
    pub fn tensors_of(&self, all: &[f32], len: usize, member: Option<usize>) -> Vec<f32> {
        let mut tensors = all.chunks(self.stride(len)).map(|tensor| &tensor[..len]);
        match member {
            Some(member) => tensors.nth(member).unwrap_or_default().to_vec(),
            None => tensors.flatten().copied().collect(),
        }
    }

    /// Copies a device buffer through `staging` to the host.
    pub async fn read<T: bytemuck::Pod>(
        &self,
        buffer: &wgpu::Buffer,
        staging: &wgpu::Buffer,
    ) -> Result<Vec<T>> {
        let (_, answer) = self.begin_read(buffer, staging);
        self.wait()?;
        self.finish_read(staging, &answer).await
    }

    /// Asks for a copy of a device buffer in `staging`: what to wait for, and where the answer comes.
    pub fn begin_read(
        &self,
        buffer: &wgpu::Buffer,
        staging: &wgpu::Buffer,
    ) -> (wgpu::SubmissionIndex, Answer) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, staging, 0, staging.size());
        let index = self.queue.submit([encoder.finish()]);
        let ((sender, mapped), waker) = (mpsc::channel(), Arc::new(Mutex::new(None::<Waker>)));
        let awaited = waker.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result);
            if let Some(waker) = lock(&awaited).take() {
                waker.wake();
            }
        });
        (index, Answer { mapped, waker })
    }

    /// What a copy that is done holds.
    pub async fn finish_read<T: bytemuck::Pod>(
        &self,
        staging: &wgpu::Buffer,
        answer: &Answer,
    ) -> Result<Vec<T>> {
        let mapped = answer.heard().await;
        mapped
            .ok_or_else(|| self.failed("no answer to a read".to_string()))?
            .map_err(|e| self.failed(format!("reading back failed: {e}")))?;
        let view = staging.get_mapped_range(..);
        let view = view.map_err(|e| self.failed(format!("reading back failed: {e}")))?;
        let values = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        staging.unmap();
        self.check_failure()?;
        Ok(values)
    }

    pub fn wait(&self) -> Result<()> {
        self.wait_for(None)
    }

    /// Waits for a submission, or for all; in a browser for none.
    pub fn wait_for(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index, timeout: Some(PATIENCE) };
        self.device.poll(poll).map_err(|e| self.failed(e.to_string()))?;
        self.check_failure()
    }
}
