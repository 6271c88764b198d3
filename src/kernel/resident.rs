//! How many workgroups a device keeps at work side by side.

use super::{Binding, Kernel, all_positive};
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/resident.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ResidentParams {
    /// Workgroups.
    pub groups: u32,
    /// Rounds that each waits for the others, at most.
    pub spins: u32,
}

/// Workgroups that wait for one another: `progress` \[2\] is how many came and how many waited in vain.
#[derive(Clone, Debug)]
pub struct Resident {
    /// How many, and how long they wait.
    pub params: ResidentParams,
    /// Threads of each.
    pub threads: usize,
    /// Bytes of workgroup memory of each.
    pub bytes: usize,
}

impl Kernel for Resident {
    fn name(&self) -> &'static str {
        "resident"
    }
    fn check(&self) -> Result<(), &'static str> {
        all_positive(&[self.params.groups, self.threads as u32, self.bytes as u32 / 4])
    }
    fn bindings(&self) -> Vec<Binding> {
        vec![Binding::write_u32("progress", 2).shared()]
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let words = (self.bytes / 4).to_string();
        vec![("THREADS", self.threads.to_string()), ("WORDS", words)]
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        [self.params.groups, 1, 1]
    }
    fn flops(&self) -> u64 {
        0
    }
}
