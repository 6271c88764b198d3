//! Initial weights. (Those of Keras and Flax are in tests/sequences.rs.)

use recurra::cell::CellKind;
use recurra::layer::{Direction, Initializer, Merge, Recurrent, RecurrentInit};
use recurra::tensor::NamedTensors;

#[test]
fn pytorchs_initial_weights_are_uniform_biases_too() {
    let stack = Recurrent {
        layers: 2,
        direction: Direction::Both(Merge::Concat),
        ..Recurrent::new("rnn", CellKind::Lstm, 24, 36)
    };
    let mut tensors = NamedTensors::new();
    stack.init_with(RecurrentInit::PYTORCH, &mut Initializer::new(1), &mut tensors).unwrap();
    assert_eq!(tensors.len(), 16);
    // 1/√H, whatever a tensor's own width.
    let bound = 1.0 / 6.0;
    for (name, tensor) in &tensors {
        let (least, most) = tensor.iter().fold((0f32, 0f32), |(a, b), &v| (a.min(v), b.max(v)));
        assert!(-bound <= least && least < -0.9 * bound, "{name}: {least}");
        assert!(0.9 * bound < most && most <= bound, "{name}: {most}");
        let mean = tensor.sum() / tensor.len() as f32;
        assert!(mean.abs() < 0.2 * bound, "{name}: {mean}");
    }
}
