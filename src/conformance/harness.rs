//! Running a recording once, and data from a seed.

use crate::engine::Engine;
use crate::error::Result;
use crate::kernel::Control;
use crate::recording::{Recording, Role};
use crate::tensor::DType;
use std::collections::BTreeMap;

/// Float tensors by name.
pub type Tensors = BTreeMap<String, Vec<f32>>;

/// Runs a recording with inputs, parameters and states by name, and returns every output and
/// every state after the run.
pub async fn run_once(
    engine: &Engine,
    recording: &Recording,
    values: &Tensors,
    ids: &[(&str, &[u32])],
    control: Control,
) -> Result<Tensors> {
    let store = engine.store();
    for buffer in recording.buffers() {
        if matches!(buffer.role, Role::Parameter | Role::State)
            && let Some(value) = values.get(&buffer.name)
        {
            store.set(&buffer.name, value)?;
        }
    }
    let mut program = engine.load(recording, &store)?;
    program.set_control(control);
    for (id, buffer) in recording.iter() {
        if buffer.role != Role::Input {
            continue;
        }
        match values.get(&buffer.name) {
            Some(value) if buffer.dtype == DType::F32 => program.write(id, value)?,
            _ => {
                if let Some((_, value)) = ids.iter().find(|i| i.0 == buffer.name) {
                    program.write_u32(id, value)?;
                }
            }
        }
    }
    program.run()?;
    let mut results = Tensors::new();
    for (id, buffer) in recording.iter() {
        match buffer.role {
            Role::Output => {
                drop(results.insert(buffer.name.clone(), program.read_async(id).await?))
            }
            Role::State | Role::Parameter => {
                results.insert(buffer.name.clone(), store.get_async(&buffer.name).await?);
            }
            _ => {}
        }
    }
    Ok(results)
}

/// Exact conversion.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// What binary16 holds of a number: 10 bits behind the point, and 0 under its least normal number.
pub fn short(x: f32) -> f32 {
    let cut = f32::from_bits(x.to_bits() & !0x1fff);
    if cut.abs() < 6.103_515_6e-5 { 0.0 } else { cut.clamp(-65_504.0, 65_504.0) }
}
