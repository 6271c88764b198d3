//! Both engines against PyTorch's losses: the file that `goldens/losses.py` wrote.

use super::{Given, step};
use crate::common::golden::Golden;
use crate::common::{Worst, engines};
use recurra::kernel::View;
use recurra::loss::{CrossEntropyOptions, Loss, Objective};
use std::collections::BTreeSet;

/// Of each tensor's largest element. The engines compute in float32 (an ulp is 1.2e-7).
const TOLERANCE: f64 = 2e-6;

/// The options of the script.
const LEVELS: [f32; 3] = [0.125, 0.5, 0.875];
const LEAST: f32 = 0.0625;
const DELTA: f32 = 0.75;
const IGNORED: u32 = -100i32 as u32;

fn loss(name: &str, weights: Option<View>) -> Loss {
    let (kind, case) = name.rsplit_once('_').unwrap();
    match kind {
        _ if name.starts_with("ce_") => {
            let smoothing = ["smoothing", "all"].iter().any(|word| name.contains(word));
            Loss::CrossEntropy(CrossEntropyOptions {
                ignore: ["ignore", "all"].contains(&case).then_some(IGNORED),
                smoothing: if smoothing { 0.125 } else { 0.0 },
                weights,
            })
        }
        "bce" | "bce_positive" => Loss::BinaryCrossEntropy { positive: weights },
        "mse" => Loss::MeanSquared,
        "mae" => Loss::MeanAbsolute,
        "huber" => Loss::Huber { delta: DELTA },
        "quantile" => Loss::Quantile { levels: LEVELS.to_vec() },
        "gaussian" => Loss::Gaussian { least: LEAST },
        "student" => Loss::StudentT { least: LEAST },
        other => panic!("{other}"),
    }
}

#[test]
fn losses_are_pytorchs() {
    let golden = Golden::open("losses");
    let names = golden.names();
    let cases: BTreeSet<&str> = names.iter().filter_map(|n| Some(n.split_once('/')?.0)).collect();
    // So that a file made again with fewer is noticed.
    assert_eq!(cases.len(), 8 + 8 * 3);
    for engine in engines() {
        let mut worst = Worst::default();
        for name in &cases {
            let at = |tensor: &str| format!("{name}/{tensor}");
            let has = |tensor: &str| names.contains(&at(tensor));
            let optional = |tensor: &str| has(tensor).then(|| golden.exact(&at(tensor)));
            let ids = || golden.values(&at("targets")).iter().map(|&id| id as i32 as u32).collect();
            let shape = golden.shape(&at("prediction"));
            let is_classes = name.starts_with("ce_");
            let given = Given {
                shape: [shape[0], shape[1]],
                prediction: golden.exact(&at("prediction")),
                classes: is_classes.then(ids),
                values: if is_classes { Vec::new() } else { golden.exact(&at("targets")) },
                mask: optional("mask"),
                flags: None,
                weights: optional("weights").or(optional("positive")),
            };
            let make: &dyn Fn(Option<View>) -> Box<dyn Objective> =
                &|weights| Box::new(loss(name, weights));
            let (value, gradient) = step(&engine, &given, make);
            worst.see(&at("loss"), &[value], &golden.values(&at("loss")));
            worst.see(&at("grad"), &gradient, &golden.values(&at("grad")));
        }
        worst.check(&format!("losses on {}", engine.name()), TOLERANCE);
    }
}
