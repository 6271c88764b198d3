//! What a loss refuses, by name and with its numbers.

use super::Given;
use recurra::engine::Engine;
use recurra::kernel::View;
use recurra::layer::{Crf, Sequence};
use recurra::loss::{CrossEntropyOptions, Loss, Objective, record_value};
use recurra::schedule::Recorder;
use recurra::tensor::Precision;

fn message(given: &Given, loss: &dyn Fn(Option<View>) -> Loss) -> String {
    let engine = Engine::cpu(Some(1)).unwrap();
    let make: &dyn Fn(Option<View>) -> Box<dyn Objective> = &|view| Box::new(loss(view));
    given.run(&engine, Precision::F32, true, make).unwrap_err().to_string()
}

#[test]
fn losses_refuse_what_makes_no_sense() {
    let classes = Given {
        shape: [3, 4],
        prediction: vec![0.0; 12],
        classes: Some(vec![0, 3, 1]),
        ..Given::default()
    };
    let cross = |options: CrossEntropyOptions| move |_| Loss::CrossEntropy(options);
    let default = CrossEntropyOptions::default();
    let ignoring = |ignore| CrossEntropyOptions { ignore: Some(ignore), ..default };
    // A class that is none, but for the ignored one.
    let bad = Given { classes: Some(vec![0, 4, 1]), ..classes.clone() };
    assert!(message(&bad, &cross(default)).contains("element 1 is 4; it must be 3 at most"));
    let text = message(&bad, &cross(ignoring(9)));
    assert!(text.contains("element 1 is 4; it must be 3 at most, or 9"), "{text}");
    let text = message(&bad, &cross(CrossEntropyOptions { smoothing: 0.1, ..default }));
    assert!(text.contains("must be 3 at most"), "{text}");
    for smoothing in [-0.1, 1.5, f32::NAN] {
        let text = message(&classes, &cross(CrossEntropyOptions { smoothing, ..default }));
        assert!(text.contains("smoothing"), "{text}");
    }
    let weighted = Given { weights: Some(vec![1.0; 3]), ..classes.clone() };
    let text = message(&weighted, &|weights| {
        Loss::CrossEntropy(CrossEntropyOptions { weights, ..default })
    });
    assert!(text.contains("class weights"), "{text}");
    let masked = Given { mask: Some(vec![1.0; 2]), ..classes.clone() };
    assert!(message(&masked, &cross(default)).contains("mask"));
    let masked = Given { mask: Some(vec![1.0]), ..classes.clone() };
    assert!(message(&masked, &cross(default)).contains("mask (one a row)"));
    let short = Given { classes: Some(vec![0, 1]), ..classes.clone() };
    assert!(message(&short, &cross(ignoring(9))).contains("targets"));
    assert!(message(&classes, &|_| Loss::MeanSquared).contains("numbers"));

    let values = Given {
        shape: [3, 4],
        prediction: vec![0.0; 12],
        values: vec![0.0; 12],
        ..Given::default()
    };
    assert!(message(&values, &cross(default)).contains("class ids"));
    assert!(message(&values, &|_| Loss::Gaussian { least: 0.1 }).contains("targets"));
    assert!(message(&values, &|_| Loss::StudentT { least: 0.1 }).contains("3 predictions"));
    for least in [-1.0, f32::NAN, f32::INFINITY] {
        assert!(message(&values, &|_| Loss::Gaussian { least }).contains("least scale"));
    }
    for delta in [0.0, -1.0, f32::NAN] {
        assert!(message(&values, &|_| Loss::Huber { delta }).contains("Huber"));
    }
    for levels in [vec![], vec![0.5, 1.0], vec![0.0], vec![f32::NAN]] {
        assert!(message(&values, &|_| Loss::Quantile { levels: levels.clone() }).contains("level"));
    }
    // One flag for all rows, too: of time-major rows it would be one for a block of time.
    for mask in [1, 2, 4, 24] {
        let masked = Given { mask: Some(vec![1.0; mask]), ..values.clone() };
        assert!(message(&masked, &|_| Loss::MeanSquared).contains("mask"), "{mask}");
    }
    let weighted = Given { weights: Some(vec![1.0; 3]), ..values.clone() };
    let text = message(&weighted, &|positive| Loss::BinaryCrossEntropy { positive });
    assert!(text.contains("positive weights"), "{text}");
    // Two losses in one recording.
    let mut rec = Recorder::inference();
    let losses = rec.temporary_f32("losses", [1, 3]).unwrap().view;
    rec.fill(losses, 1.0).unwrap();
    record_value(&mut rec, losses, 1.0, None).unwrap();
    assert!(record_value(&mut rec, losses, 1.0, None).unwrap_err().to_string().contains("'loss'"));
    assert!(record_value(&mut rec, losses.part(1, 2), 1.0, None).is_err());
}

#[test]
fn chains_refuse_what_makes_no_sense() {
    let mut rec = Recorder::training();
    let emissions = rec.input("emissions", [6, 4], true).unwrap();
    let tags = rec.input_ids("tags", 6).unwrap();
    let lengths = rec.input_ids("lengths", 3).unwrap();
    let resets = rec.input("resets", [1, 6], false).unwrap().view;
    let mut refuse = |tags_of: usize, sequence: Sequence, targets| {
        let crf = Crf::new("crf", tags_of);
        crf.record_loss(&mut rec, emissions, targets, sequence).unwrap_err().to_string()
    };
    assert!(refuse(0, [3, 2].into(), tags).contains("tags"));
    assert!(refuse(1025, [3, 2].into(), tags).contains("1024"));
    assert!(refuse(5, [3, 2].into(), tags).contains("emissions of 'crf'"));
    assert!(refuse(4, [3, 3].into(), tags).contains("emissions of 'crf'"));
    assert!(refuse(4, [3, 2].into(), tags.part(0, 5)).contains("tags"));
    assert!(refuse(4, Sequence::new(3, 2).with_lengths(lengths), tags).contains("lengths"));
    assert!(refuse(4, Sequence::new(3, 2).with_resets(resets), tags).contains("reset"));
    let crf = Crf::new("crf", 4);
    crf.record_loss(&mut rec, emissions, tags, [3, 2]).unwrap();
    let engine = Engine::cpu(Some(1)).unwrap();
    let store = engine.store();
    for (name, shape) in crf.shapes() {
        store.set(&name, &vec![0.0; shape.iter().product()]).unwrap();
    }
    let mut program = engine.load(&rec.finish(), &store).unwrap();
    let text = program.write_u32(tags.buffer, &[0, 1, 2, 3, 4, 0]).unwrap_err().to_string();
    assert!(text.contains("'tags': element 4 is 4; it must be 3 at most"), "{text}");
}
