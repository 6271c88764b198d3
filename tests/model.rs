//! Models of layers one behind the other: pooling under lengths and its gradients, batches of many lengths against
//! sequences by themselves, losses against sums by hand, folders, and what is refused.

mod common;

use common::{apart, engines};
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::kernel::Activation;
use recurra::layer::{Direction, Initializer, Linear, Merge, Recurrent};
use recurra::loss::CrossEntropyOptions;
use recurra::model::{Fit, Flow, IGNORE, Layer, Model, Samples, Sequences, Sequential, Targets};
use recurra::optim::{Averaging, Optimizer, Update};
use recurra::schedule::Recorder;
use recurra::tensor::{NamedTensors, Precision};
use recurra::train::Task;
use recurra::train::{TrainOptions, Trainer, check_gradients};
use recurra::{Error, Loss, Result};

const LENGTHS: [usize; 9] = [4, 1, 7, 0, 3, 7, 2, 5, 4];

fn values(width: usize, lengths: &[usize]) -> Vec<Vec<f32>> {
    let mut random = Initializer::new(3);
    lengths.iter().map(|&length| random.uniform(length * width, 1.0)).collect()
}

fn tokens(vocabulary: usize, lengths: &[usize]) -> Vec<Vec<u32>> {
    let id = |x: f32| (((x + 1.0) / 2.0 * vocabulary as f32) as u32).min(vocabulary as u32 - 1);
    values(1, lengths).into_iter().map(|own| own.into_iter().map(id).collect()).collect()
}

fn message<T>(result: Result<T>) -> String {
    result.err().expect("it is refused").to_string()
}

/// The last step and the mean of each sequence, by hand; without lengths as well.
#[test]
fn pooling_goes_by_lengths() {
    for engine in engines() {
        for lengths in [&LENGTHS[..], &[5, 5, 5]] {
            let list = values(3, lengths);
            let sequences = Sequences::values(3, list.clone());
            let [last, mean] =
                [Sequential::values(3).last_step(), Sequential::values(3).mean_over_time()]
                    .map(|model| model.build().unwrap());
            let of = |model: &Model| {
                let trained = model.with_weights(NamedTensors::new()).unwrap();
                trained.predict(&engine, &sequences).unwrap()
            };
            let (lasts, means) = (of(&last), of(&mean));
            for (number, own) in list.iter().enumerate() {
                if own.is_empty() {
                    assert!(lasts[number].is_empty() && means[number].is_empty());
                    continue;
                }
                assert_eq!(lasts[number], own[own.len() - 3..], "{} {number}", engine.name());
                let sum = |c: usize| own.iter().skip(c).step_by(3).sum::<f32>();
                let want: Vec<f32> = (0..3).map(|c| sum(c) / (own.len() / 3) as f32).collect();
                assert!(apart(&means[number], &want) < 1e-6, "{} {number}", engine.name());
            }
            let model = Sequential::values(3).max_over_time().build().unwrap();
            let largest = of(&model);
            for (own, largest) in list.iter().zip(&largest).filter(|pair| !pair.0.is_empty()) {
                let of = |c: usize| own.iter().skip(c).step_by(3).copied().fold(f32::MIN, f32::max);
                assert_eq!(largest[..], [0, 1, 2].map(of), "{}", engine.name());
            }
            // Of two directions side by side each where it has read all.
            let list = values(4, lengths);
            let model = Sequential::values(4).both_ends().build().unwrap();
            let trained = model.with_weights(NamedTensors::new()).unwrap();
            let ends = trained.predict(&engine, &Sequences::values(4, list.clone())).unwrap();
            for (own, ends) in list.iter().zip(&ends).filter(|pair| !pair.0.is_empty()) {
                let n = own.len();
                let want = [own[n - 4], own[n - 3], own[2], own[3]];
                assert_eq!(ends[..], want, "{}", engine.name());
            }
        }
    }
}

/// Every gradient through pooling, with and without lengths, and through recurrent layers before it.
#[test]
fn gradients_of_pooling_are_slopes() {
    let options = TrainOptions::new(3);
    for engine in engines() {
        for lengths in [&LENGTHS[..], &[5; 6]] {
            let inputs = Sequences::values(2, values(2, lengths));
            let wanted = values(2, &vec![1; lengths.len()]);
            let samples = Samples::new(inputs, Targets::value(2, wanted)).unwrap();
            let plain = || Sequential::values(2).activated(4, Activation::Tanh);
            let both = || {
                Sequential::values(2).recurrent_with(CellKind::Gru, 4, |stack| {
                    stack.recurrent.direction = Direction::Both(Merge::Concat);
                })
            };
            for model in [
                plain().last_step().linear(2),
                plain().mean_over_time().linear(2),
                Sequential::values(2).lstm(4).last_step().linear(2),
                both().mean_over_time().activated(3, Activation::Tanh).linear(2),
                both().both_ends().linear(2),
                // Behind recurrent layers two steps are near enough that a difference changes which is the largest.
                plain().max_over_time().linear(2),
            ] {
                let model = model.build().unwrap();
                let fit = Fit::new(&model, &samples).unwrap().with_shapes(1).unwrap();
                let checks = check_gradients(&engine, &fit, &options).unwrap();
                let worst = checks.iter().map(|check| check.error()).fold(0.0, f64::max);
                println!("{}: off by {worst:.1e}", engine.name());
                assert_eq!(checks.len(), 2 * model.parameter_shapes().len());
                for pair in checks.chunks(2) {
                    // The whole gradient, and a random half of it, which may be none of a few.
                    let what = format!("{}\n{}{pair:?}", engine.name(), model.summary());
                    assert!(pair.iter().all(|check| check.error() < 2e-3), "{what}");
                    assert!(pair[0].gradient > 0.0, "{what}");
                }
            }
        }
    }
}

/// Batches of many lengths give each sequence what it gets by itself, in the order given.
#[test]
fn company_changes_nothing() {
    for engine in engines() {
        let sequences = tokens(6, &LENGTHS);
        for pooled in [false, true] {
            let model = Sequential::tokens(6).embedding(4).lstm(8);
            let model = if pooled { model.mean_over_time() } else { model };
            let model = model.linear(3).build().unwrap();
            let trained = model.with_weights(model.initial_weights(5).unwrap()).unwrap();
            let all = trained.predict(&engine, &Sequences::tokens(sequences.clone())).unwrap();
            let classes = trained.predict_classes(&engine, &Sequences::tokens(sequences.clone()));
            let classes = classes.unwrap();
            for (number, own) in sequences.iter().enumerate() {
                let rows = if pooled { own.len().min(1) } else { own.len() };
                assert_eq!(all[number].len(), 3 * rows);
                assert_eq!(classes[number].len(), rows);
                let alone =
                    trained.predict(&engine, &Sequences::tokens(vec![own.clone()])).unwrap();
                assert!(apart(&all[number], &alone[0]) < 1e-5, "{} {number}", engine.name());
                for (row, &class) in all[number].chunks(3).zip(&classes[number]) {
                    assert!(row.iter().all(|&x| x <= row[class as usize]));
                }
            }
        }
    }
}

/// A predictor gives what its model does, call after call: of sequences that fill its batches, or leave rows and steps empty.
#[test]
fn a_predictor_is_loaded_once() {
    for engine in engines() {
        for pooled in [false, true] {
            let build = || {
                let model = Sequential::tokens(6).embedding(4).lstm(8);
                let model = if pooled { model.mean_over_time() } else { model };
                model.linear(3).build().unwrap()
            };
            let model = build();
            let trained = model.with_weights(model.initial_weights(5).unwrap()).unwrap();
            let shapes = [[7, 4], [3, 1], [7, 1], [3, 1]];
            // It outlives its model.
            let mut predictor = {
                let model = build();
                let trained = model.with_weights(trained.weights.clone()).unwrap();
                trained.predictor(&engine, &shapes).unwrap()
            };
            assert_eq!(predictor.shapes(), [[3, 1], [7, 1], [7, 4]]);
            // Long ones first: what they leave behind must not come into the short ones.
            for lengths in [&[7, 7, 7, 7, 7][..], &LENGTHS, &[1], &[0, 2, 6], &[]] {
                let sequences = Sequences::tokens(tokens(6, lengths));
                let want = trained.predict(&engine, &sequences).unwrap();
                let got = predictor.predict(&sequences).unwrap();
                assert_eq!(got.len(), want.len());
                for (number, (got, want)) in got.iter().zip(&want).enumerate() {
                    assert_eq!(got.len(), want.len());
                    assert!(apart(got, want) < 1e-5, "{} {lengths:?} {number}", engine.name());
                }
                let classes = trained.predict_classes(&engine, &sequences).unwrap();
                assert_eq!(predictor.predict_classes(&sequences).unwrap(), classes);
            }
            let error = message(predictor.predict(&Sequences::tokens(tokens(6, &[2, 8]))));
            assert!(error.contains("sequence 2 has 8 steps") && error.contains("(7)"), "{error}");
            let error = message(predictor.predict(&Sequences::tokens(vec![vec![6]])));
            assert!(error.contains("token 6"), "{error}");
            for none in [&[][..], &[[0, 4]], &[[4, 0]]] {
                assert!(trained.predictor(&engine, none).is_err());
            }
        }
    }
}

/// A loss over batches of several shapes, with steps that don't count, is the mean over all that count.
#[test]
fn losses_are_means_over_what_counts() {
    let engine = Engine::cpu(Some(2)).unwrap();
    let ids = tokens(6, &LENGTHS);
    let mut classes = tokens(3, &LENGTHS);
    classes.iter_mut().for_each(|own| own.iter_mut().step_by(3).for_each(|class| *class = IGNORE));
    let model = Sequential::tokens(6).embedding(4).gru(8).linear(3).build().unwrap();
    let per_step =
        Samples::new(Sequences::tokens(ids.clone()), Targets::classes(classes.clone())).unwrap();
    let pooled = Sequential::tokens(6).embedding(4).gru(8).last_step().linear(3).build().unwrap();
    let last: Vec<u32> = ids.iter().map(|own| own.len() as u32 % 3).collect();
    let whole = Samples::new(Sequences::tokens(ids.clone()), Targets::class(last.clone())).unwrap();
    let wanted_of_all: Vec<Vec<u32>> = last.iter().map(|&class| vec![class]).collect();
    for (model, samples, wanted) in
        [(&model, &per_step, &classes), (&pooled, &whole, &wanted_of_all)]
    {
        let mut fit = Fit::new(model, samples).unwrap().with_validation(samples).unwrap();
        fit = fit.with_batch(2).unwrap().with_shapes(3).unwrap();
        let mut trainer = Trainer::new(&engine, &fit, TrainOptions::new(4), None).unwrap();
        let loss = trainer.evaluate().unwrap().unwrap().mean();
        let trained = model.with_weights(model.initial_weights(1).unwrap()).unwrap();
        let rows = trained.predict(&engine, samples.inputs()).unwrap();
        let (mut sum, mut count) = (0.0, 0.0);
        for (own, wanted) in rows.iter().zip(wanted) {
            for (row, &class) in own.chunks(3).zip(wanted).filter(|(_, class)| **class != IGNORE) {
                let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                sum += total.ln() - f64::from(row[class as usize]);
                count += 1.0;
            }
        }
        assert!((f64::from(loss) - sum / count).abs() < 1e-5, "{loss} and {}", sum / count);
    }
}

/// Two values of each step, the larger of which is wanted at each step; batches of three shapes.
fn larger() -> Samples {
    let lengths: Vec<usize> = (0..60).map(|i| 2 + i * 7 % 11).collect();
    let list = values(2, &lengths);
    let wanted = list.iter().map(|own| own.chunks(2).map(|x| x[0].max(x[1])).collect()).collect();
    Samples::new(Sequences::values(2, list), Targets::values(1, wanted)).unwrap()
}

#[test]
fn a_fit_learns_the_same_with_any_number_of_threads() {
    let (training, held) = larger().split(0.2, 4).unwrap();
    let model = Sequential::values(2).lstm(12).linear(1).build().unwrap();
    let runs = [1, 3].map(|threads| {
        let engine = Engine::cpu(Some(threads)).unwrap();
        let options = TrainOptions { learning_rate: 0.02, ..TrainOptions::new(120) };
        model.fit(&engine, &training, Some(&held), options).unwrap()
    });
    assert_eq!(runs[0].losses.len(), 120);
    assert!(runs[0].losses.iter().map(|l| l.0).eq(1..=120));
    let bits = |run: usize| runs[run].losses.iter().map(|l| l.1.to_bits()).collect::<Vec<_>>();
    assert!(bits(0) == bits(1) && runs[0].weights == runs[1].weights);
    let [first, last] = [runs[0].validation[0].1, runs[0].validation[9].1];
    println!("from {first} to {last}");
    assert!(last < 0.02 && last < first / 3.0, "{first} {last}");
}

#[test]
fn means_are_learned_in_half_precision() {
    let all = engines();
    let Some(engine) = all.iter().find(|engine| engine.supports(Precision::F16)) else {
        println!("SKIPPED: no device has f16");
        return;
    };
    let list = values(2, &[5, 9, 9, 3, 7, 5]);
    let wanted = list.iter().map(|own| vec![own.iter().sum::<f32>() / own.len() as f32]).collect();
    let samples = Samples::new(Sequences::values(2, list), Targets::value(1, wanted)).unwrap();
    let model = Sequential::values(2).gru(8).mean_over_time().linear(1).build().unwrap();
    let [full, half] = [Precision::F32, Precision::F16].map(|precision| {
        let options = TrainOptions { precision, learning_rate: 0.02, ..TrainOptions::new(25) };
        model.fit(engine, &samples, None, options).unwrap().losses
    });
    println!("{}: f32 {:?}, f16 {:?}", engine.name(), full[24], half[24]);
    for ((_, full), (_, half)) in full.iter().zip(&half) {
        assert!((full - half).abs() < 0.01 + 0.1 * full, "{full} {half}");
    }
    assert!(half[24].1 < half[0].1 / 2.0);
}

/// Without validation the averages of the weights are what is trained, where they are kept.
#[test]
fn averages_are_the_model() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let samples = larger();
    let model = Sequential::values(2).gru(6).linear(1).build().unwrap();
    let fit = |averaging: Option<Averaging>| {
        let mut options = TrainOptions { learning_rate: 0.02, ..TrainOptions::new(30) };
        options.update.averaging = averaging;
        model.fit(&engine, &samples, None, options).unwrap()
    };
    let (plain, averaged) = (fit(None), fit(Some(Averaging::Exponential { decay: 0.9 })));
    assert!(plain.losses == averaged.losses && plain.weights != averaged.weights);
    let shapes = averaged.weights.iter().map(|(name, w)| (name.clone(), w.shape().to_vec()));
    assert!(shapes.eq(model.parameter_shapes().clone()));
}

#[test]
fn a_folder_holds_a_model() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let of = |cell: CellKind, rate: f32| {
        Sequential::values(2)
            .recurrent(cell, 6)
            .dropout(rate)
            .last_step()
            .linear(3)
            .build()
            .unwrap()
    };
    let model = of(CellKind::Gru, 0.5);
    let trained = model.with_weights(model.initial_weights(9).unwrap()).unwrap();
    trained.save(folder.path()).unwrap();
    let sequences = Sequences::values(2, values(2, &LENGTHS));
    let want = trained.predict(&engine, &sequences).unwrap();
    let again = of(CellKind::Gru, 0.0);
    let loaded = again.load(folder.path()).unwrap();
    assert_eq!(loaded.predict(&engine, &sequences).unwrap(), want);
    // Of the same shapes, but another layer.
    let error = message(of(CellKind::GruResetBefore, 0.5).load(folder.path()));
    assert!(error.contains("gru 2 → 6") && error.contains("gru_reset_before"), "{error}");
    let more = Sequential::values(2).gru(6).dropout(0.5).last_step().linear(3).linear(3);
    let error = message(more.build().unwrap().load(folder.path()));
    assert!(error.contains("4 layers") && error.contains("has 5"), "{error}");
    assert!(model.load(&folder.path().join("absent")).is_err());
}

/// Says that it has a parameter, and forgets to give it a value, or uses another.
struct Careless {
    uses: &'static str,
    starts: bool,
}

impl Layer for Careless {
    fn name(&self) -> &str {
        "careless"
    }
    fn describe(&self) -> String {
        "careless".to_string()
    }
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        vec![("careless.weight".to_string(), vec![2, 2]), ("careless.bias".to_string(), vec![2])]
    }
    fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        if self.starts {
            Linear::new("careless", 2, 2).init(generator, into);
        }
    }
    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let x = flow.rows()?;
        flow.with(Linear::new(self.uses, 2, 2).record(rec, x)?)
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let refused = |model: Sequential, words: &[&str]| {
        let message = message(model.build());
        words.iter().for_each(|word| assert!(message.contains(word), "{word}: {message}"));
    };
    let values = || Sequential::values(2);
    refused(values().lstm(4).last_step().gru(4), &["layer 3, 'gru'", "one row a sequence"]);
    refused(values().lstm(4).last_step().last_step(), &["layer 3, 'last_step'"]);
    refused(values().embedding(4), &["layer 1, 'embedding'", "values"]);
    refused(Sequential::tokens(5).mean_over_time(), &["layer 1, 'mean_over_time'", "embedding"]);
    refused(values().gru(4).layer(Linear::new("head", 5, 2)), &["layer 2, 'head'", "5", "4"]);
    refused(values().linear(0), &["layer 1, 'linear'"]);
    refused(values().dropout(1.0), &["layer 1, 'dropout'", "[0, 1)"]);
    // Sizes that no list of parameters would fit in memory for, or whose products wrap.
    for layers in [1 << 40, usize::MAX] {
        let deep = Recurrent { layers, ..Recurrent::new("deep", CellKind::Gru, 2, 2) };
        refused(values().layer(deep), &["layer 1, 'deep'", "layers are too many"]);
    }
    refused(values().lstm(1 << 62), &["layer 1, 'lstm'", "hidden size of 4611686018427387904"]);
    refused(Sequential::values(1 << 62).lstm(2), &["elements"]);
    refused(values().linear(1 << 62), &["layer 1, 'linear'", "elements"]);
    // At the last step a reverse direction has read that step alone; behind another layer that goes forward it has not.
    let both = || {
        values().recurrent_with(CellKind::Gru, 4, |stack| {
            stack.recurrent.direction = Direction::Both(Merge::Concat);
        })
    };
    refused(both().dropout(0.5).last_step(), &["layer 3, 'last_step'", "both ends"]);
    assert!(both().gru(3).last_step().build().is_ok());
    // One direction, or a sum of both, has no second end.
    refused(values().gru(4).both_ends(), &["layer 2, 'both_ends'", "last step"]);
    let summed = values().recurrent_with(CellKind::Gru, 4, |stack| {
        stack.recurrent.direction = Direction::Both(Merge::Sum);
    });
    refused(summed.dropout(0.5).both_ends(), &["layer 3, 'both_ends'"]);
    let twice = Linear::new("linear", 3, 3);
    refused(values().linear(3).layer(twice), &["layer 2, 'linear'", "'linear.weight' already"]);
    let uses = Careless { uses: "other", starts: true };
    refused(values().layer(uses), &["layer 1, 'careless'", "'other."]);
    refused(Sequential::tokens(0).embedding(3), &["at least 1"]);
    refused(values(), &["a layer at least"]);
    // The first fault is told, whatever comes behind it.
    refused(values().linear(0).gru(4).linear(3), &["layer 1"]);

    let engine = Engine::cpu(Some(1)).unwrap();
    let samples =
        |targets| Samples::new(Sequences::values(2, self::values(2, &[3, 4])), targets).unwrap();
    let classes = samples(Targets::class(vec![0, 2]));
    let model = values().layer(Careless { uses: "careless", starts: false }).last_step();
    let two = samples(Targets::class(vec![0, 1]));
    let error = message(model.build().unwrap().fit(&engine, &two, None, TrainOptions::new(2)));
    assert!(error.contains("careless.") && error.contains("missing"), "{error}");

    let model = values().gru(4).last_step().linear(2).build().unwrap();
    let error = message(model.fit(&engine, &classes, None, TrainOptions::new(2)));
    assert!(error.contains("class 2") && error.contains("2 classes"), "{error}");
    let steps = samples(Targets::values(1, vec![vec![0.0; 3], vec![0.0; 4]]));
    let error = message(Fit::new(&model, &steps).map(|_| ()));
    assert!(error.contains("one a sequence") && error.contains("one a step"), "{error}");
    let trained = model.with_weights(model.initial_weights(1).unwrap()).unwrap();
    assert!(trained.predict(&engine, &Sequences::values(3, vec![vec![0.0; 3]])).is_err());
    let ids = Sequences::tokens(vec![vec![1]]);
    assert!(message(trained.predict(&engine, &ids)).contains("values, not token ids"));
    let reader = Sequential::tokens(4).embedding(2).linear(2).build().unwrap();
    let trained = reader.with_weights(reader.initial_weights(1).unwrap()).unwrap();
    let error = message(trained.predict(&engine, &Sequences::tokens(vec![vec![1], vec![3, 4]])));
    assert!(error.contains("sequence 2, step 2: token 4"), "{error}");
    assert!(trained.predict(&engine, &Sequences::tokens(vec![])).unwrap().is_empty());
    // Weights that were changed into another shape of as many numbers.
    let mut trained = model.with_weights(model.initial_weights(1).unwrap()).unwrap();
    let name = "gru.weight_ih_l0";
    let turned = trained.weights[name].clone().reversed_axes();
    trained.weights.insert(name.to_string(), turned);
    let error = message(trained.predict(&engine, &Sequences::values(2, vec![vec![0.0; 4]])));
    assert!(error.contains(name) && error.contains("[12, 2]"), "{error}");
    // A loss of another kind of targets.
    let fit = Fit::new(&model, &classes).unwrap().with_loss(&Loss::MeanSquared);
    assert!(fit.run(&engine, TrainOptions::new(2), |_| Ok(())).is_err());
}

#[test]
fn a_summary_counts() {
    let model =
        Sequential::tokens(50).embedding(32).lstm(64).last_step().linear(3).build().unwrap();
    let count = 50 * 32 + 4 * 64 * (32 + 64 + 2) + 3 * 65;
    assert_eq!(model.parameter_count(), count);
    let weights = model.initial_weights(1).unwrap();
    assert_eq!(weights.values().map(|w| w.len() as u64).sum::<u64>(), count);
    let summary = model.summary();
    for words in ["embedding 50 → 32", "T x 64", "25,088", "26,883"] {
        assert!(summary.contains(words), "{words}: {summary}");
    }
    assert_eq!(model.recurrent().len(), 1);
}

/// An sLSTM's learned c, n and m have gradients from the first step on, which central differences agree with.
#[test]
fn an_slstm_learns_its_initial_states() {
    let samples = {
        let inputs = Sequences::values(2, values(2, &LENGTHS));
        Samples::new(inputs, Targets::value(2, values(2, &[1; LENGTHS.len()]))).unwrap()
    };
    let model = Sequential::values(2).recurrent_with(CellKind::Slstm, 3, |stack| {
        stack.recurrent.learned_initial = true;
    });
    let model = model.last_step().linear(2).build().unwrap();
    let name = "slstm.initial_l0";
    let start = model.initial_weights(1).unwrap()[name].clone();
    assert_eq!(start.as_slice().unwrap(), [0., 0., 0., 0., 0., 0., 1., 1., 1., 0., 0., 0.]);
    for engine in engines() {
        let options = TrainOptions::new(3);
        let fit = Fit::new(&model, &samples).unwrap().with_shapes(1).unwrap();
        for check in check_gradients(&engine, &fit, &options).unwrap() {
            assert!(check.error() < 2e-3, "{} {check:?}", engine.name());
        }
        let trained = fit.run(&engine, options, |_| Ok(())).unwrap();
        let ended = &trained.weights[name];
        for (part, what) in ["h", "c", "n", "m"].into_iter().enumerate() {
            let moved = (3 * part..3 * part + 3).filter(|&i| ended[i] != start[i]).count();
            assert_eq!(moved, 3, "{} {what}: {ended:?}", engine.name());
        }
    }
}

/// A last step that breaks the weights has a loss from before it: it is an error nevertheless.
#[test]
fn weights_that_are_no_numbers_are_no_fit() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let inputs = Sequences::values(2, values(2, &[4, 4]));
    let wanted = vec![vec![1e3, 1e3], vec![-1e3, 1e3]];
    let samples = Samples::new(inputs, Targets::value(2, wanted)).unwrap();
    let model = Sequential::values(2).gru(4).last_step().linear(2).build().unwrap();
    let update = Update::new(Optimizer::sgd(0.0));
    let options = TrainOptions { learning_rate: 3e38, update, ..TrainOptions::new(1) };
    let error = model.fit(&engine, &samples, None, options).unwrap_err();
    assert!(matches!(&error, Error::NotFinite { step: 1, .. }), "{error}");
    // There is no folder, so there is no checkpoint to go back to.
    let error = error.to_string();
    assert!(error.starts_with("'") && error.contains("inf at step 1"), "{error}");
    assert!(!error.contains("checkpoint"), "{error}");
}

/// Options and targets that can't be trained with are named before the first step, targets with whose they are.
#[test]
fn what_cannot_be_trained_is_told_before_the_first_step() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let inputs = || Sequences::values(2, values(2, &[2, 3]));
    let samples = |targets| Samples::new(inputs(), targets).unwrap();
    let model = Sequential::values(2).gru(4).linear(3).build().unwrap();
    let good = samples(Targets::classes(vec![vec![0, 1], vec![2, IGNORE, 0]]));
    let refused = |options: TrainOptions| message(model.fit(&engine, &good, None, options));
    let plain = || TrainOptions::new(2);
    for learning_rate in [0.0, -0.1, f32::NAN, f32::INFINITY] {
        let error = refused(TrainOptions { learning_rate, ..plain() });
        assert!(error.contains("learning rate") && error.contains("above 0"), "{error}");
    }
    let counts = [
        (TrainOptions { steps: 0, ..plain() }, "number of steps"),
        (TrainOptions { evaluate_every: 0, ..plain() }, "evaluate_every"),
        (TrainOptions { save_every: 0, ..plain() }, "save_every"),
        (TrainOptions { micro_batches: 0, ..plain() }, "micro-batches"),
        (TrainOptions { patience: Some(0), ..plain() }, "patience"),
        (TrainOptions { overfit: Some(0), ..plain() }, "by heart"),
        (TrainOptions { micro_batches: 2, ..plain() }, "Fit::with_shapes(1)"),
    ];
    for (options, word) in counts {
        let error = refused(options);
        assert!(error.contains(word), "{word}: {error}");
    }

    let ran = |fit: Result<Fit>| message(fit.and_then(|fit| fit.run(&engine, plain(), |_| Ok(()))));
    let fit = |samples| Fit::new(&model, samples);
    let bad = samples(Targets::classes(vec![vec![0, 1], vec![2, 3, 0]]));
    let place = "sequence 2, step 2: class 3 of a model that gives 3 classes";
    assert!(ran(fit(&bad)).contains(&format!("training samples: {place}")));
    let error = ran(fit(&good).and_then(|fit| fit.with_validation(&bad)));
    assert!(error.contains(&format!("validation samples: {place}")), "{error}");
    // The same by a loss that was given.
    let cross = Loss::CrossEntropy(Default::default());
    let error = ran(fit(&bad).map(|fit| fit.with_loss(&cross)));
    assert!(error.contains(place), "{error}");
    let error = ran(fit(&good).map(|fit| fit.with_loss(&cross)));
    assert!(error.contains("sequence 2, step 2: class 4294967295"), "{error}");

    let wanted = |width, value| {
        let list = [2, 3].map(|steps: usize| vec![value; steps * width]);
        samples(Targets::values(width, list.to_vec()))
    };
    let two = wanted(2, 0.5);
    let error = ran(fit(&two));
    assert!(error.contains("2 values are wanted of a model that gives rows of 3"), "{error}");
    let quantiles = Loss::Quantile { levels: vec![0.1, 0.5, 0.9] };
    assert!(ran(fit(&two).map(|fit| fit.with_loss(&quantiles))).contains("3 for each"));
    let questions = Loss::BinaryCrossEntropy { positive: None };
    let (inside, outside) = (wanted(3, 1.0), wanted(3, 1.5));
    fit(&inside).unwrap().with_loss(&questions).run(&engine, plain(), |_| Ok(())).unwrap();
    let error = ran(fit(&outside).map(|fit| fit.with_loss(&questions)));
    assert!(error.contains("training samples: sequence 1, step 1: a value of 1.5"), "{error}");
    let error = ran(Fit::new(&model, &samples(Targets::class(vec![0, 1]))));
    assert!(error.contains("training samples") && error.contains("one a sequence"), "{error}");
}

/// Of targets that a loss ignores, as many count in a validation's mean as in the loss's own.
#[test]
fn ignored_targets_have_no_weight_in_validation() {
    let classes = vec![vec![1, 0, 0, 0], vec![1, 2, 1, 2]];
    let inputs = Sequences::values(2, values(2, &[4, 4]));
    let samples = Samples::new(inputs, Targets::classes(classes)).unwrap();
    let model = Sequential::values(2).linear(3).build().unwrap();
    let ignoring =
        |ignore| Loss::CrossEntropy(CrossEntropyOptions { ignore, ..Default::default() });
    for (loss, want) in [(ignoring(Some(0)), [1.0, 4.0]), (ignoring(None), [4.0, 4.0])] {
        let fit = Fit::new(&model, &samples).unwrap().with_loss(&loss);
        let fit = fit.with_validation(&samples).unwrap().with_batch(1).unwrap();
        let mut weights: Vec<f64> =
            (0..fit.validation_batches()).map(|batch| fit.validation_weight(batch)).collect();
        weights.sort_by(f64::total_cmp);
        assert_eq!(weights, want);
    }
}

#[test]
fn accuracy_counts_what_is_not_ignored() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let model = Sequential::values(3).linear(3).build().unwrap();
    let mut weights = model.initial_weights(1).unwrap();
    for (name, tensor) in &mut weights {
        let identity = name.ends_with("weight");
        tensor.iter_mut().enumerate().for_each(|(i, w)| *w = f32::from(identity && i % 4 == 0));
    }
    let trained = model.with_weights(weights).unwrap();
    // The largest value is the class: 0, 1, 2, 1.
    let steps = vec![vec![3., 1., 0., 0., 2., 1., 0., 1., 5., 0., 4., 0.]];
    let samples = |classes| {
        let inputs = Sequences::values(3, steps.clone());
        Samples::new(inputs, Targets::classes(vec![classes])).unwrap()
    };
    let all = samples(vec![0, 1, 2, 0]);
    assert_eq!(all.targets().ids(), Some(&[vec![0, 1, 2, 0]][..]));
    assert_eq!(trained.accuracy(&engine, &all).unwrap(), 0.75);
    assert_eq!(trained.accuracy(&engine, &samples(vec![0, 1, 2, IGNORE])).unwrap(), 1.0);
    assert!(trained.accuracy(&engine, &samples(vec![IGNORE; 4])).is_err());
    let inputs = Sequences::values(3, steps.clone());
    let wanted = Targets::values(3, steps.clone());
    assert!(trained.accuracy(&engine, &Samples::new(inputs, wanted).unwrap()).is_err());
}

/// A folder with another program's `config.json` is left as it is.
#[test]
fn a_folder_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, "{\"mine\": 1}").unwrap();
    let model = Sequential::values(2).linear(2).build().unwrap();
    let trained = model.with_weights(model.initial_weights(1).unwrap()).unwrap();
    assert!(message(trained.save(folder.path())).contains("another program's"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"mine\": 1}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::remove_file(&path).unwrap();
    trained.save(folder.path()).unwrap();
    trained.save(folder.path()).unwrap();
}
