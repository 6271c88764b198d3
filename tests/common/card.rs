//! A GPU to plan for where there is none.

use recurra::kernel::GroupLimits;

/// What a large card lets a workgroup have, as its driver tells it.
pub const CARD: GroupLimits = GroupLimits {
    threads: 512,
    bytes: 49_152,
    registers: 64,
    spills: true,
    groups: 128,
    slices: 32,
    steps: 16_384,
    rounds: usize::MAX,
    resident: 132,
    spins: 9,
    matrix: 16,
    lanes: 32,
};
