//! Recordings run from seeded inputs and parameters, and their outputs compared bit by bit.

use recurra::engine::{Engine, Store};
use recurra::kernel::Control;
use recurra::layer::Initializer;
use recurra::recording::{Recording, Role};
use recurra::tensor::DType;
use std::collections::BTreeMap;

/// The bits of every output by name.
pub type Outputs = BTreeMap<String, Vec<u32>>;

/// The seed of what [`run`] is given.
pub const SEED: u64 = 11;

/// Runs `times` times from seeded inputs and parameters; the bits of all outputs.
pub fn run(engine: &Engine, recording: &Recording, steps: usize, times: u32) -> Outputs {
    run_members(engine, recording, steps, times, &[SEED]).remove(0)
}

/// The same for the members of an ensemble, each with a seed of its own.
pub fn run_members(
    engine: &Engine,
    recording: &Recording,
    steps: usize,
    times: u32,
    seeds: &[u64],
) -> Vec<Outputs> {
    let store: Store = engine.store();
    // By name: the recordings that are compared make their buffers in different orders.
    let mut buffers: Vec<_> = recording.iter().map(|(id, b)| (b.name.clone(), id)).collect();
    buffers.sort();
    let mut inputs = Vec::new();
    for (member, &seed) in seeds.iter().enumerate() {
        let mut generator = Initializer::new(seed);
        for (name, id) in &buffers {
            let buffer = recording.get(*id);
            let len = if name.contains('#') { 0 } else { buffer.len };
            let values = generator.uniform(len, 0.6);
            match buffer.role {
                Role::Input if name != "control" => inputs.push((member, name, *id, values)),
                Role::Parameter => store.member(member).unwrap().set(name, &values).unwrap(),
                _ => {}
            }
        }
    }
    let mut program = engine.load(recording, &store).unwrap();
    for (member, name, id, values) in inputs {
        let mut of = program.member(member).unwrap();
        if recording.get(id).dtype == DType::U32 {
            // Lengths, or ids.
            let most = recording.get(id).most.min(steps as u32);
            let numbers = values.iter().map(|v| ((v + 0.6) / 1.2 * most as f32) as u32);
            of.write_u32(id, &numbers.collect::<Vec<_>>()).unwrap();
        } else if name == "mask" || name == "resets" {
            let flags: Vec<f32> = values.iter().map(|&v| f32::from(v > 0.2)).collect();
            of.write(id, &flags).unwrap();
        } else {
            of.write(id, &values).unwrap();
        }
    }
    for step in 1..=times {
        for (member, seed) in seeds.iter().enumerate() {
            program.member(member).unwrap().set_control(Control::new(step, 66 + seed));
        }
        program.run().unwrap();
    }
    program.wait().unwrap();
    let mut outputs = vec![Outputs::new(); seeds.len()];
    for (id, buffer) in recording.iter().filter(|(_, b)| b.role == Role::Output) {
        let values = program.read(id).unwrap();
        assert_eq!(values.len(), buffer.len * seeds.len());
        for (of, values) in outputs.iter_mut().zip(values.chunks(buffer.len)) {
            of.insert(buffer.name.clone(), values.iter().map(|x| x.to_bits()).collect());
        }
    }
    outputs
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
