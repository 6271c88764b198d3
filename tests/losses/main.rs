//! Losses through the public interface: against PyTorch, what is refused, a loss of one's own, the same bits for any
//! number of threads, chains against all paths, and models that learn by them.

#[path = "../common/mod.rs"]
mod common;

mod chains;
mod learning;
mod pytorch;
mod refused;

use common::engines;
use recurra::Result;
use recurra::engine::{Engine, Program};
use recurra::kernel::{Combine, Control, LossScale, Rows, View, With};
use recurra::loss::{CrossEntropyOptions, LOSS, Loss, Objective, Target, record_value};
use recurra::recording::Recording;
use recurra::schedule::{Recorder, Var};
use recurra::tensor::Precision;

/// A loss's data.
#[derive(Clone, Default)]
struct Given {
    shape: [usize; 2],
    prediction: Vec<f32>,
    classes: Option<Vec<u32>>,
    values: Vec<f32>,
    mask: Option<Vec<f32>>,
    /// The mask as u32.
    flags: Option<Vec<u32>>,
    /// Weights of classes, or of the positive class.
    weights: Option<Vec<f32>>,
}

impl Given {
    /// The loss, and where it is a training step the gradient, as it is stored.
    fn run(
        &self,
        engine: &Engine,
        precision: Precision,
        training: bool,
        loss: &dyn Fn(Option<View>) -> Box<dyn Objective>,
    ) -> Result<(f32, Vec<f32>)> {
        let rec = if training { Recorder::training() } else { Recorder::inference() };
        let mut rec = rec.with_precision(precision);
        let x = rec.input("x", self.shape, true)?;
        let prediction = rec.in_precision(x)?;
        let target = match &self.classes {
            Some(ids) => Target::Classes(rec.input_ids("targets", ids.len())?),
            None => Target::Values(rec.input("targets", [1, self.values.len()], false)?.view),
        };
        let mask = match (&self.mask, &self.flags) {
            (Some(mask), _) => Some(rec.input("mask", [1, mask.len()], false)?.view),
            (None, Some(flags)) => Some(rec.input_ids("mask", flags.len())?),
            _ => None,
        };
        let weights = self.weights.as_ref();
        let weights = weights.map(|w| rec.input("weights", [1, w.len()], false)).transpose()?;
        loss(weights.map(|w| w.view)).record(&mut rec, prediction, target, mask)?;
        if let Some(view) = rec.gradient(x) {
            rec.output("gradient", Var { view, needs_gradient: false, ..x })?;
        }
        let mut recording = rec.finish();
        let mut program = self.load(engine, &mut recording)?;
        program.run()?;
        let loss = program.read(program.find(LOSS)?)?[0];
        let gradient = match training {
            true => program.read(program.find("gradient")?)?,
            false => Vec::new(),
        };
        Ok((loss, gradient))
    }

    fn load(&self, engine: &Engine, recording: &mut Recording) -> Result<Program> {
        let mut program = engine.load(recording, &engine.store())?;
        program.set_control(Control::new(1, 0));
        program.write(program.find("x")?, &self.prediction)?;
        match &self.classes {
            Some(ids) => program.write_u32(program.find("targets")?, ids)?,
            None => program.write(program.find("targets")?, &self.values)?,
        }
        match (&self.mask, &self.flags) {
            (Some(mask), _) => program.write(program.find("mask")?, mask)?,
            (None, Some(flags)) => program.write_u32(program.find("mask")?, flags)?,
            _ => {}
        }
        if let Some(weights) = &self.weights {
            program.write(program.find("weights")?, weights)?;
        }
        Ok(program)
    }
}

/// The loss and the gradient of a training step in f32; the loss alone must be the same.
fn step(
    engine: &Engine,
    given: &Given,
    loss: &dyn Fn(Option<View>) -> Box<dyn Objective>,
) -> (f32, Vec<f32>) {
    let result = given.run(engine, Precision::F32, true, loss).unwrap();
    let alone = given.run(engine, Precision::F32, false, loss).unwrap().0;
    assert_eq!(result.0.to_bits(), alone.to_bits());
    result
}

/// Numbers without a pattern.
fn numbers(n: usize, bound: f32) -> Vec<f32> {
    recurra::layer::Initializer::new(n as u64).uniform(n, bound)
}

/// Every loss, with data of several workgroups.
fn all() -> Vec<(Loss, Given)> {
    let (rows, width) = (700, 3);
    let positive: Vec<f32> = numbers(rows * width, 1.0).iter().map(|x| x.abs()).collect();
    let of = |loss: Loss| {
        let each = loss.predictions();
        let given = Given {
            shape: [rows, width * each],
            prediction: numbers(rows * width * each, 2.0),
            values: positive.clone(),
            mask: Some((0..rows).map(|i| f32::from(u8::from(i % 3 > 0))).collect()),
            ..Given::default()
        };
        (loss, given)
    };
    let mut list: Vec<(Loss, Given)> = [
        Loss::BinaryCrossEntropy { positive: None },
        Loss::MeanSquared,
        Loss::MeanAbsolute,
        Loss::Huber { delta: 0.5 },
        Loss::Quantile { levels: vec![0.1, 0.9] },
        Loss::Gaussian { least: 0.1 },
        Loss::StudentT { least: 0.1 },
    ]
    .into_iter()
    .map(of)
    .collect();
    let options =
        CrossEntropyOptions { ignore: Some(u32::MAX), smoothing: 0.1, ..Default::default() };
    let classes = (0..rows as u32).map(|i| if i % 5 == 0 { u32::MAX } else { i % 7 });
    let given = Given {
        shape: [rows, 7],
        prediction: numbers(rows * 7, 4.0),
        classes: Some(classes.collect()),
        flags: Some((0..rows as u32).map(|i| i % 4).collect()),
        ..Given::default()
    };
    list.push((Loss::CrossEntropy(options), given));
    list
}

fn bits(result: &(f32, Vec<f32>)) -> Vec<u32> {
    std::iter::once(&result.0).chain(&result.1).map(|x| x.to_bits()).collect()
}

#[test]
fn bits_are_the_same_for_any_number_of_threads() {
    for (loss, given) in all() {
        let of = |threads| {
            let engine = Engine::cpu(Some(threads)).unwrap();
            bits(&step(&engine, &given, &|_| Box::new(loss.clone())))
        };
        let one = of(1);
        assert!([2, 3, 5].into_iter().all(|threads| of(threads) == one), "{loss:?}");
    }
}

#[test]
fn a_gpu_gives_the_same_bits_twice_and_near_the_cpus() {
    let Some(engine) = common::gpu_engine() else { return };
    let cpu = Engine::cpu(Some(2)).unwrap();
    for (loss, given) in all() {
        let loss: &dyn Fn(Option<View>) -> Box<dyn Objective> = &|_| Box::new(loss.clone());
        let [a, b, c] = [&engine, &engine, &cpu].map(|engine| step(engine, &given, loss));
        assert_eq!(bits(&a), bits(&b));
        let largest = c.1.iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(common::apart(&a.1, &c.1) < 2e-6 * largest && (a.0 - c.0).abs() < 2e-6 * c.0.abs());
    }
}

/// In f16 gradients are times the loss scale, the value is not.
#[test]
fn gradients_in_f16_are_scaled() {
    let Some(engine) = common::gpu_engine().filter(|e| e.supports(Precision::F16)) else { return };
    let scale = LossScale::new(&[]).scale();
    for (loss, mut given) in all() {
        // What f16 holds.
        given.prediction.iter_mut().for_each(|x| *x = (*x * 64.0).round() / 64.0);
        let make: &dyn Fn(Option<View>) -> Box<dyn Objective> = &|_| Box::new(loss.clone());
        let wide = given.run(&engine, Precision::F32, true, make).unwrap();
        let short = given.run(&engine, Precision::F16, true, make).unwrap();
        assert_eq!(wide.0.to_bits(), short.0.to_bits(), "{loss:?}");
        let largest = wide.1.iter().fold(0f32, |m, x| m.max(x.abs()));
        let scaled: Vec<f32> = short.1.iter().map(|x| x / scale).collect();
        assert!(common::apart(&scaled, &wide.1) < 1e-3 * largest, "{loss:?}");
    }
}

/// Masks change from run to run; an empty one gives 0, and so does one that ignores all.
#[test]
fn nothing_that_takes_part_is_no_loss() {
    for engine in engines() {
        for (loss, mut given) in all() {
            given.mask.iter_mut().for_each(|mask| mask.fill(0.0));
            given.flags.iter_mut().for_each(|flags| flags.fill(2));
            // What takes no part may be anything.
            given.prediction.fill(f32::NAN);
            let result = step(&engine, &given, &|_| Box::new(loss.clone()));
            assert!(bits(&result).iter().all(|&bits| bits == 0), "{loss:?}: {:?}", result.0);
        }
        let options = CrossEntropyOptions { ignore: Some(2), ..Default::default() };
        let given = Given {
            shape: [2, 3],
            prediction: vec![1.0; 6],
            classes: Some(vec![2; 2]),
            ..Given::default()
        };
        let result = step(&engine, &given, &|_| Box::new(Loss::CrossEntropy(options)));
        assert!(bits(&result).iter().all(|&bits| bits == 0));
    }
}

/// −mean of x·y, as a user would write it: no kernel of its own.
struct Alignment;

impl Objective for Alignment {
    fn record(
        &self,
        rec: &mut Recorder,
        prediction: Var,
        target: Target,
        _: Option<View>,
    ) -> Result<()> {
        let Target::Values(values) = target else {
            return Err(recurra::Error::Invalid("alignment needs numbers".to_string()));
        };
        let n = prediction.view.len;
        let rows = |view| Rows::new(view, n);
        let product = rec.temporary_f32("product", [1, n])?.view;
        let op = Combine::copy([1, n], rows(prediction.view), rows(product));
        let op = op.and(With::Product, rows(values));
        rec.combine(op, prediction.view, product, Some(values))?;
        record_value(rec, product, -1.0 / n as f32, None)?;
        let seed = rec.temporary_f32("seed", [prediction.rows, prediction.columns])?;
        let op = Combine::copy([1, n], rows(values), rows(seed.view)).scaled(-1.0 / n as f32);
        rec.combine(op, values, seed.view, None)?;
        rec.seed_gradient(prediction, seed)
    }
}

#[test]
fn a_loss_of_ones_own_is_recorded_like_the_others() {
    let given = Given {
        shape: [2, 2],
        prediction: vec![1.0, 2.0, 3.0, 4.0],
        values: vec![0.5, -1.0, 2.0, 0.25],
        ..Given::default()
    };
    for engine in engines() {
        let result = given.run(&engine, Precision::F32, true, &|_| Box::new(Alignment)).unwrap();
        assert_eq!(result, (-5.5 / 4.0, vec![-0.125, 0.25, -0.5, -0.0625]));
    }
}

/// Losses of one recording add up where it says so: values, gradients, step by step.
#[test]
fn losses_that_are_added_are_a_sum() {
    for engine in engines() {
        let mut rec = Recorder::training();
        rec.add_losses();
        let x = rec.input("x", [2, 2], true).unwrap();
        let wanted = rec.input("wanted", [2, 2], false).unwrap().view;
        let classes = rec.input_ids("classes", 2).unwrap();
        Loss::MeanSquared.record(&mut rec, x, Target::Values(wanted), None).unwrap();
        let y = rec.input("y", [2, 2], true).unwrap();
        let cross = Loss::CrossEntropy(CrossEntropyOptions::default());
        cross.record(&mut rec, y, Target::Classes(classes), None).unwrap();
        let loss = rec.gradient(x).zip(rec.gradient(y));
        assert!(loss.is_some(), "both have gradients");
        let recording = rec.finish();
        let mut program = engine.load(&recording, &engine.store()).unwrap();
        let id = |name: &str| recording.find(name).unwrap();
        program.write(id("x"), &[1.0, 2.0, 3.0, 4.0]).unwrap();
        program.write(id("y"), &[0.0; 4]).unwrap();
        program.write_u32(id("classes"), &[0, 1]).unwrap();
        for step in 1..=2 {
            // The second is another loss: nothing of the first step is in it.
            let shift = step as f32 - 1.0;
            program.write(id("wanted"), &[1.0 + shift, 2.0, 3.0, 2.0]).unwrap();
            program.set_control(Control::new(step, 0));
            program.run().unwrap();
        }
        let ring = program.read(id(LOSS)).unwrap();
        let ln2 = std::f32::consts::LN_2;
        assert!((ring[0] - (1.0 + ln2)).abs() < 1e-6 && (ring[1] - (1.25 + ln2)).abs() < 1e-6);
        assert!(ring[2..].iter().all(|&x| x == 0.0), "{ring:?}");
    }
}
