//! Recurra in a page: a language model that learns from the page's text and writes, and the conformance suite.
//!
//! A page has one thread, and it may not wait: what comes from the device is awaited (`…_async`). All else is as in any
//! other program.

use js_sys::{Function, Promise};
use recurra::conformance::{Bounds, Report, run_within_async};
use recurra::data::Vocabulary;
use recurra::task::TaskModel;
use recurra::task::lm::{Generator, LanguageModel, LanguageTask, ModelConfig, SampleOptions};
use recurra::tensor::HostTensor;
use recurra::train::{TrainOptions, Trainer};
use recurra::{Engine, Error, NamedTensors, Result};
use std::time::Duration;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// Steps T and rows B of a batch.
const BATCH: [usize; 2] = [32, 16];
/// Steps between two losses that are told: the device has work while the page draws.
const TOLD: u64 = 10;

#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

fn to_js(error: Error) -> JsValue {
    JsError::new(&error.to_string()).into()
}

/// Tells the page something: what it makes of that.
fn tell(page: &Function, number: f64, words: &str) -> JsValue {
    // A page that fails at drawing does not end the work.
    page.call2(&JsValue::NULL, &number.into(), &words.into()).unwrap_or_default()
}

/// Trains a language model of so many units on a text, and has it write. `page` hears of steps and losses, and a promise
/// that it gives is waited for.
///
/// # Errors
/// No such device; a text that is too short; the device failed.
#[wasm_bindgen]
pub async fn train(
    device: String,
    text: String,
    cell: String,
    hidden: usize,
    steps: u32,
    page: Function,
) -> std::result::Result<String, JsValue> {
    learn(&device, &text, &cell, hidden, steps.into(), &page).await.map_err(to_js)
}

async fn learn(
    device: &str,
    text: &str,
    cell: &str,
    hidden: usize,
    steps: u64,
    page: &Function,
) -> Result<String> {
    let engine = Engine::named_async(device, Some(1)).await?;
    let config = ModelConfig::new(&Vocabulary::of(text));
    let config = ModelConfig { cell: cell.to_string(), embedding: 32, hidden, layers: 1, ..config };
    let task = LanguageTask::new(LanguageModel::new(config.clone())?, text, BATCH[0], BATCH[1])?;
    let options = TrainOptions { learning_rate: 0.01, ..TrainOptions::new(steps) };
    let mut trainer = Trainer::new(&engine, &task, options, None)?;
    while trainer.step() < steps {
        trainer.train_step()?;
        if trainer.step().is_multiple_of(TOLD) || trainer.step() == steps {
            let losses = trainer.last_losses_async().await?;
            let loss = losses.map_or(f32::NAN, |losses| losses.mean());
            // On the CPU nothing else lets the page draw.
            let drawn = tell(page, trainer.step() as f64, &loss.to_string());
            let _ = JsFuture::from(Promise::resolve(&drawn)).await;
        }
    }
    let mut weights = NamedTensors::new();
    for (name, shape) in task.model().weight_shapes() {
        let values = trainer.store().get_async(&name).await?;
        let tensor = HostTensor::from_shape_vec(shape, values);
        weights.insert(name, tensor.map_err(|e| Error::invalid(e.to_string()))?);
    }
    let options = SampleOptions { temperature: 0.7, ..SampleOptions::default() };
    let mut generator = Generator::new(&engine, LanguageModel::new(config)?, &weights, options)?;
    let prompt: String = text.chars().take(1).collect();
    generator.read_async(&prompt).await?;
    let mut tokens = Vec::new();
    for _ in 0..200 {
        tokens.push(generator.write_async().await?);
    }
    let mut writer = generator.model().vocabulary().writer();
    let written: String = tokens.into_iter().map(|token| writer.push(token)).collect();
    Ok(prompt + &written)
}

/// Compares every kernel on the device with the oracle for at most so many seconds. `page` hears of each report that
/// does not pass; the answer is how many there were of all.
///
/// # Errors
/// No such device.
#[wasm_bindgen]
pub async fn verify(
    device: String,
    seconds: f64,
    page: Function,
) -> std::result::Result<String, JsValue> {
    let engine = Engine::named_async(&device, Some(1)).await.map_err(to_js)?;
    let until = web_time::Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 1e6));
    let bounds = Bounds { until: Some(until), reopen: None };
    let (mut wrong, mut all, mut worst) = (0, 0, 0.0f64);
    let each = |report: &Report| {
        all += 1;
        worst = worst.max(report.max_rel / report.tolerance);
        if !report.pass {
            wrong += 1;
            let Report { kernel, case, tensor, max_rel, tolerance, error, .. } = report;
            let what = match error {
                Some(error) => error.clone(),
                None => format!("{tensor}: {max_rel:.1e}, {tolerance:.1e} is allowed"),
            };
            tell(&page, all.into(), &format!("{kernel} {case}: {what}"));
        } else if all % 50 == 0 {
            tell(&page, all.into(), "");
        }
    };
    let progress = run_within_async(&engine, bounds, each).await.map_err(to_js)?;
    let rest = match progress.cut {
        true => format!("; the time was over before {} more", progress.left),
        false => String::new(),
    };
    Ok(format!(
        "{}: {wrong} of {all} wrong, {worst:.2} of what is allowed at most{rest}",
        engine.name()
    ))
}
