//! A loaded recording: its launches with their pipelines and bind groups, and how a run is encoded.

use super::context::Answer;
use super::pipeline::Pipeline;
use super::timestamps::Timestamps;
use super::{Context, IN_FLIGHT};
use crate::error::{Error, Result};
use crate::kernel::{BufferId, Cost};
use crate::recording::MemoryPlan;
use crate::tensor::WORD_BYTES;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A launch's kernel and cost, and when it began and ended.
type Timed = (&'static str, Cost, [f64; 2]);

/// A kernel's launch.
pub(super) struct GpuLaunch {
    pub(super) kernel: &'static str,
    pub(super) cost: Cost,
    pub(super) pipeline: Arc<Pipeline>,
    /// Numbered in the program: equal numbers are equal groups of one pipeline.
    pub(super) group: (usize, wgpu::BindGroup),
    pub(super) params: LaunchParams,
    pub(super) size: [u32; 3],
}

/// How a launch gets its parameter block.
pub(super) enum LaunchParams {
    /// With the launch.
    Immediate(Box<[u8]>),
    /// At an offset in the program's buffer of them.
    Offset(u32),
}

/// A recording with its buffers and bind groups, ready to run.
pub struct GpuProgram {
    pub(super) context: Arc<Context>,
    pub(super) launches: Vec<GpuLaunch>,
    pub(super) buffers: Vec<wgpu::Buffer>,
    pub(super) staging: HashMap<BufferId, wgpu::Buffer>,
    pub(super) in_flight: VecDeque<wgpu::SubmissionIndex>,
    pub(super) plan: MemoryPlan,
    /// Runs that are watched.
    pub(super) watch: Option<Timestamps>,
}

/// Tensors that were asked for.
pub(in crate::engine) struct LaterTensors {
    context: Arc<Context>,
    staging: wgpu::Buffer,
    index: wgpu::SubmissionIndex,
    answer: Answer,
    len: usize,
}

impl LaterTensors {
    /// Waits for them, but for nothing that was submitted behind them.
    pub async fn wait(self) -> Result<Vec<f32>> {
        self.context.wait_for(Some(self.index))?;
        let all: Vec<f32> = self.context.finish_read(&self.staging, &self.answer).await?;
        Ok(self.context.tensors_of(&all, self.len, None))
    }
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
            LaunchParams::Offset(offset) => {
                bound = usize::MAX;
                pass.set_bind_group(0, group, &[*offset]);
            }
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

    pub(in crate::engine) fn launches(&self) -> usize {
        self.launches.len()
    }

    /// One run with a pass a launch: what each is, and when it was.
    pub(in crate::engine) fn profile(&mut self) -> Result<Vec<Timed>> {
        let mut timestamps = Timestamps::new(&self.context, self.launches.len())?;
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        for launch in &self.launches {
            encode_pass(std::slice::from_ref(launch), &mut encoder, timestamps.next());
        }
        self.context.queue.submit([encoder.finish()]);
        let times = timestamps.read(&self.context)?;
        let launches = self.launches.iter().zip(times);
        Ok(launches.map(|(launch, times)| (launch.kernel, launch.cost, times)).collect())
    }

    /// Notes beginning and end of the next runs.
    pub(in crate::engine) fn watch(&mut self, runs: usize) -> Result<()> {
        self.watch = Some(Timestamps::new(&self.context, runs)?);
        Ok(())
    }

    /// What was noted since.
    pub(in crate::engine) fn watched(&mut self) -> Result<Vec<[f64; 2]>> {
        self.watch.take().map_or(Ok(Vec::new()), |watch| watch.read(&self.context))
    }

    /// The device buffer behind an input, output, parameter or state.
    ///
    /// # Errors
    /// The identifier is one of another recording.
    pub fn buffer(&self, id: BufferId) -> Result<&wgpu::Buffer> {
        let stranger = || Error::invalid("that buffer is one of another recording");
        self.buffers.get(id.0).ok_or_else(stranger)
    }

    /// Submits the launches. At most [`IN_FLIGHT`] runs wait on the device: a host that is faster
    /// waits for the oldest.
    pub(in crate::engine) fn run(&mut self) -> Result<()> {
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        let timestamps = self.watch.as_mut().and_then(Timestamps::next);
        encode_pass(&self.launches, &mut encoder, timestamps);
        self.in_flight.push_back(self.context.queue.submit([encoder.finish()]));
        if self.in_flight.len() > IN_FLIGHT {
            self.context.wait_for(self.in_flight.pop_front())?;
        }
        self.context.check_failure()
    }

    pub(in crate::engine) fn write(
        &self,
        id: BufferId,
        words: &[u8],
        member: Option<usize>,
    ) -> Result<()> {
        let buffer = &self.buffers[id.0];
        self.check_usage(buffer, wgpu::BufferUsages::COPY_DST, "COPY_DST")?;
        self.context.write(buffer, words, member);
        Ok(())
    }

    pub(in crate::engine) async fn read(
        &self,
        id: BufferId,
        len: usize,
        member: Option<usize>,
    ) -> Result<Vec<f32>> {
        let buffer = &self.buffers[id.0];
        self.check_usage(buffer, wgpu::BufferUsages::COPY_SRC, "COPY_SRC")?;
        let staging = self.staging.get(&id).cloned();
        // A host's buffer may be longer than the tensor.
        let own = || self.context.staging((len * WORD_BYTES) as u64);
        self.context.read_tensors(buffer, &staging.unwrap_or_else(own), len, member).await
    }

    /// Asks for the tensors of all members, as they are behind what was submitted so far.
    pub(in crate::engine) fn read_later(&self, id: BufferId, len: usize) -> Result<LaterTensors> {
        let buffer = &self.buffers[id.0];
        self.check_usage(buffer, wgpu::BufferUsages::COPY_SRC, "COPY_SRC")?;
        let context = self.context.clone();
        // A staging buffer of its own: the next request may come before this one was answered.
        let words = context.stride(len) * context.members();
        let staging = context.staging((words * WORD_BYTES) as u64);
        let (index, answer) = context.begin_read(buffer, &staging);
        Ok(LaterTensors { context, staging, index, answer, len })
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

    pub(in crate::engine) fn wait(&self) -> Result<()> {
        self.context.wait()
    }

    pub(in crate::engine) fn plan(&self) -> &MemoryPlan {
        &self.plan
    }
}
