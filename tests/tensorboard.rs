//! Event files, read back by TensorBoard's own reader.
#![cfg(feature = "tensorboard")]

mod common;

use common::outside::{python, read_by_tensorboard};
use recurra::format::tensorboard::{EventFile, Histogram};

fn picture() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 4, 3);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&[90; 4 * 3 * 3]).unwrap();
    bytes
}

#[test]
fn tensorboard_reads_what_was_written_and_merges_a_run_that_went_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = EventFile::create(folder.path()).unwrap();
    for step in 1..=5 {
        file.scalars(step, &[("loss/training", 1.0 / step as f32), ("rate", 0.0)]).unwrap();
    }
    file.text(2, "sample", "# Größe\n    a <b> & `c`").unwrap();
    let values: Vec<f32> = (0..1000).map(|i| (i as f32 / 100.0).sin()).collect();
    file.histogram(2, "gradients", &Histogram::of(&values)).unwrap();
    file.histogram(3, "gradients", &Histogram::of(&[f32::NAN])).unwrap();
    file.png(2, "states", &picture()).unwrap();
    drop(file);
    // Killed after the checkpoint of step 3: steps 4 and 5 are made again.
    let mut file = EventFile::resume(folder.path(), 3).unwrap();
    for step in 4..=6 {
        file.scalar(step, "loss/training", 10.0 + step as f32).unwrap();
    }
    file.scalar(7, "loss/training", f32::NAN).unwrap();
    file.flush().unwrap();

    let Some(python) = python() else { return };
    let found = read_by_tensorboard(&python, folder.path());
    let losses: Vec<(u64, Option<f64>)> =
        serde_json::from_value(found["scalars"]["loss/training"].clone()).unwrap();
    let steps: Vec<u64> = losses.iter().map(|l| l.0).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7], "{found}");
    let value = |i: usize| losses[i].1;
    assert_eq!((value(1), value(3), value(5), value(6)), (Some(0.5), Some(14.0), Some(16.0), None));
    assert_eq!(found["scalars"]["rate"].as_array().unwrap().len(), 3, "4 and 5 are forgotten");
    assert_eq!(found["texts"]["sample"][0][1], "# Größe\n    a <b> & `c`");
    assert_eq!(found["texts"]["sample"][0][2], "text");
    let histogram = &found["histograms"]["gradients"][0];
    assert_eq!(
        (&histogram[1], &histogram[4], &histogram[5]),
        (&1000.0.into(), &1000.0.into(), &64.into())
    );
    let picture = &found["images"]["states"][0];
    assert_eq!((&picture[1], &picture[2]), (&4.into(), &3.into()));
    assert_eq!(found["version"], "brain.Event:2");
    assert_eq!((&found["files"], &found["events"]), (&2.into(), &(1 + 5 + 4 + 1 + 1 + 4).into()));
    assert_eq!(found["plugins"].to_string(), r#"["histograms","images","scalars","text"]"#);
}
