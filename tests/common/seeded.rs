//! Recordings run from seeded inputs and parameters, and their outputs compared bit by bit.

use recurra::engine::{Engine, Store};
use recurra::kernel::Control;
use recurra::layer::Initializer;
use recurra::recording::{Recording, Role};
use recurra::tensor::DType;
use std::collections::BTreeMap;

/// The bits of every output by name.
pub type Outputs = BTreeMap<String, Vec<u32>>;

/// Runs `times` times from seeded inputs and parameters; the bits of all outputs and parameters.
pub fn run(engine: &Engine, recording: &Recording, steps: usize, times: u32) -> Outputs {
    let store: Store = engine.store();
    let mut generator = Initializer::new(11);
    // By name: the recordings that are compared make their buffers in different orders.
    let mut buffers: Vec<_> = recording.iter().map(|(id, b)| (b.name.clone(), id)).collect();
    buffers.sort();
    let mut inputs = Vec::new();
    for (name, id) in buffers {
        let buffer = recording.get(id);
        let values = generator.uniform(if name.contains('#') { 0 } else { buffer.len }, 0.6);
        match buffer.role {
            Role::Input if name != "control" => inputs.push((name, id, values)),
            Role::Parameter => store.set(&name, &values).unwrap(),
            _ => {}
        }
    }
    let mut program = engine.load(recording, &store).unwrap();
    for (name, id, values) in inputs {
        if recording.get(id).dtype == DType::U32 {
            let lengths = values.iter().map(|v| ((v + 0.6) / 1.2 * steps as f32) as u32);
            program.write_u32(id, &lengths.collect::<Vec<_>>()).unwrap();
        } else if name == "mask" || name == "resets" {
            let flags: Vec<f32> = values.iter().map(|&v| f32::from(v > 0.2)).collect();
            program.write(id, &flags).unwrap();
        } else {
            program.write(id, &values).unwrap();
        }
    }
    for step in 1..=times {
        program.set_control(Control::new(step, 77));
        program.run().unwrap();
    }
    program.wait().unwrap();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    recording
        .iter()
        .filter(|(_, b)| b.role == Role::Output)
        .map(|(id, b)| (b.name.clone(), bits(program.read(id).unwrap())))
        .collect()
}

/// Every output has the same bits.
pub fn assert_equal(what: &str, want: &Outputs, got: &Outputs) {
    assert!(want.keys().eq(got.keys()), "{what}: other outputs");
    for (name, want) in want {
        assert_eq!(want.len(), got[name].len(), "{what}: {name}");
        let differ: Vec<_> = want.iter().zip(&got[name]).filter(|(a, b)| a != b).collect();
        let first = differ.first().map(|(a, b)| [**a, **b].map(f32::from_bits));
        let count = differ.len();
        assert_eq!(count, 0, "{what}: {count} of {} of {name}, first {first:?}", want.len());
    }
}
