//! How many workgroups a device keeps at work side by side: those of a grid wait for one another.

use super::tuning::key;
use super::{DeviceInfo, GpuEngine, lock};
use crate::error::{Error, Result};
use crate::kernel::{Fill, Resident, ResidentParams};
use crate::recording::{Recording, Role};
use crate::tensor::DType;
use crate::wait;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// More than any device has.
const MOST: usize = 4096;

/// Rounds of 64 looks that a workgroup waits on a GPU: some milliseconds.
const SPINS: usize = 256;

/// How often workgroups try to meet.
const TRIES: usize = 8;

/// Workgroups by adapter and driver: for the life of the process.
static KNOWN: Mutex<BTreeMap<[String; 2], usize>> = Mutex::new(BTreeMap::new());

pub(super) fn known_resident(info: &DeviceInfo) -> Option<usize> {
    lock(&KNOWN).get(&key(info)).copied()
}

pub(super) fn set_known_resident(info: &DeviceInfo, groups: Option<usize>) {
    match groups {
        Some(groups) => lock(&KNOWN).insert(key(info), groups),
        None => lock(&KNOWN).remove(&key(info)),
    };
}

impl GpuEngine {
    /// What workgroups hand over is atomic and goes over storageBarrier: that orders memory for the whole device where wgpu
    /// runs on Vulkan itself, which is where it offers coherent memory.
    ///
    /// # Errors
    /// The device has no memory that workgroups share.
    pub(super) fn check_coherent(&self) -> Result<()> {
        let context = &self.context;
        if context.device.features().contains(wgpu::Features::MEMORY_DECORATION_COHERENT) {
            return Ok(());
        }
        Err(Error::Device(format!(
            "'{}' has no memory that workgroups share: the strategy grid needs it",
            context.info.name
        )))
    }

    /// Workgroups that the device keeps at work side by side, found once: as many as all came in time.
    ///
    /// # Errors
    /// The device failed.
    pub(super) fn resident(&self) -> Result<usize> {
        let context = &self.context;
        if let Some(groups) = known_resident(&context.info) {
            return Ok(groups);
        }
        let most = MOST.min(context.limits.max_compute_workgroups_per_dimension as usize);
        let (mut kept, mut missed) = (1, most + 1);
        // Twice as many until some wait in vain, then between.
        while kept + 1 < missed {
            let next = if missed > most { (2 * kept).min(most) } else { (kept + missed) / 2 };
            match self.all_come(next)? {
                true => kept = next,
                false => missed = next,
            }
        }
        set_known_resident(&context.info, Some(kept));
        self.keep_measured();
        Ok(kept)
    }

    /// Whether so many workgroups, as large as they may be, meet at least once: a driver on the CPU may have to wake
    /// its threads first, or wait for other programs.
    fn all_come(&self, groups: usize) -> Result<bool> {
        let limits = &self.context.group_limits;
        let mut recording = Recording::new();
        let progress = recording.buffer("progress", 2, DType::F32, Role::Output)?;
        recording.launch(Fill::new(progress, 0.0), &[progress])?;
        let spins = if self.context.info.software { limits.spins } else { SPINS };
        let params = ResidentParams { groups: groups as u32, spins: spins as u32 };
        let (threads, bytes) = (limits.threads, limits.bytes);
        recording.launch(Resident { params, threads, bytes }, &[progress])?;
        let alone = self.alone();
        let mut program = alone.load_arranged(&recording, &alone.store(), &[])?;
        for _ in 0..TRIES {
            program.run()?;
            let words = wait::here(program.read(progress.buffer, 2, None))?;
            if words[1].to_bits() == 0 && words[0].to_bits() as usize == groups {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
