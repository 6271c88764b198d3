//! What every device has.

use crate::reading::{Checked, expect};
use naga::proc::Layouter;
use naga::{AddressSpace, Module};

/// What WebGPU promises on every device.
pub const MAX_THREADS: u32 = 256;
pub const MAX_THREADS_Z: u32 = 64;
pub const MAX_WORKGROUP_BYTES: u32 = 16_384;
pub const MAX_STORAGE_BUFFERS: usize = 8;
/// What the gradients of parameters by unit (peepholes, gains of norms) may need together with masks,
/// zoneout and the rest: 10 on most devices; an engine refuses them where there are fewer.
pub const MORE_STORAGE_BUFFERS: usize = 10;

/// Threads, workgroup memory and storage buffers that every device has.
pub fn check_limits(module: &Module) -> Checked<()> {
    check_limits_with(module, MAX_WORKGROUP_BYTES)
}

/// The same with so much workgroup memory.
pub fn check_limits_with(module: &Module, workgroup_bytes: u32) -> Checked<()> {
    for entry in &module.entry_points {
        let size @ [x, y, z] = entry.workgroup_size;
        let fits = x * y * z <= MAX_THREADS && z <= MAX_THREADS_Z;
        expect(fits, || format!("workgroups of {size:?} threads"))?;
    }
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let spaces = |wanted: fn(AddressSpace) -> bool| {
        module.global_variables.iter().filter(move |(_, global)| wanted(global.space))
    };
    let shared = spaces(|space| space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, global)| layouter[global.ty].size).sum();
    expect(bytes <= workgroup_bytes, || format!("{bytes} bytes of workgroup memory"))?;
    let buffers = spaces(|space| matches!(space, AddressSpace::Storage { .. })).count();
    let named = |name: &str| {
        module.global_variables.iter().any(|(_, global)| global.name.as_deref() == Some(name))
    };
    let most = if named("d_unit") { MORE_STORAGE_BUFFERS } else { MAX_STORAGE_BUFFERS };
    expect(buffers <= most, || format!("{buffers} storage buffers"))
}
