//! `copy2d`, `fill`, `add`; how much memory there is.

use super::{Context, Reads, Writes};
use crate::kernel::{Add, Copy2d, Fill};

pub fn copy2d(_: &Context, kernel: &Copy2d, read: Reads, write: Writes) {
    let p = &kernel.params;
    let source = read[0][p.source_offset as usize..].chunks(p.source_stride as usize);
    let destination = write[0][p.target_offset as usize..].chunks_mut(p.target_stride as usize);
    let columns = p.columns as usize;
    for (destination, source) in destination.zip(source).take(p.rows as usize) {
        destination[..columns].copy_from_slice(&source[..columns]);
    }
}

pub fn fill(_: &Context, kernel: &Fill, _: Reads, write: Writes) {
    let p = &kernel.params;
    write[0][p.offset as usize..][..p.count as usize].fill(p.value);
}

pub fn add(_: &Context, kernel: &Add, read: Reads, write: Writes) {
    let p = &kernel.params;
    let source = &read[0][p.source_offset as usize..][..p.count as usize];
    let destination = &mut write[0][p.target_offset as usize..];
    for (destination, source) in destination.iter_mut().zip(source) {
        *destination += source;
    }
}

/// Memory that is free for new buffers, where the system tells (Linux does).
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
