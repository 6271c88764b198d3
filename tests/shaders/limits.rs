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
    check_limits_with(module, MAX_THREADS, MAX_WORKGROUP_BYTES)
}

/// Bytes of all variables in workgroup memory, side by side.
pub fn workgroup_bytes(module: &Module) -> Checked<u32> {
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let globals = module.global_variables.iter().map(|(_, global)| global);
    let shared = globals.filter(|global| global.space == AddressSpace::WorkGroup);
    Ok(shared.map(|global| layouter[global.ty].size).sum())
}

/// The same with so many threads and so much workgroup memory.
pub fn check_limits_with(module: &Module, most_threads: u32, most_bytes: u32) -> Checked<()> {
    for entry in &module.entry_points {
        let size @ [x, y, z] = entry.workgroup_size;
        let fits = x * y * z <= most_threads && z <= MAX_THREADS_Z;
        expect(fits, || format!("workgroups of {size:?} threads"))?;
    }
    let bytes = workgroup_bytes(module)?;
    expect(bytes <= most_bytes, || format!("{bytes} bytes of workgroup memory"))?;
    let is_storage = |space: AddressSpace| matches!(space, AddressSpace::Storage { .. });
    let globals = module.global_variables.iter();
    let buffers = globals.filter(|(_, global)| is_storage(global.space)).count();
    let named = |name: &str| {
        module.global_variables.iter().any(|(_, global)| global.name.as_deref() == Some(name))
    };
    let most = if named("d_unit") { MORE_STORAGE_BUFFERS } else { MAX_STORAGE_BUFFERS };
    expect(buffers <= most, || format!("{buffers} storage buffers"))
}
