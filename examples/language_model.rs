//! Text, trained on, written, measured: a language model in a few lines.
//!
//! `cargo run --release --example language_model` takes about ten seconds on two cores. A text of your own:
//! `cargo run --release --example language_model -- FILE`.

use recurra::data::{Vocabulary, read_text};
use recurra::task::TaskModel;
use recurra::task::lm::{
    Generator, LanguageModel, LanguageTask, ModelConfig, SampleOptions, Scorer,
};
use recurra::train::{Event, TrainOptions, Trainer};
use recurra::{Engine, Result};
use std::path::Path;

fn main() -> Result<()> {
    let text = match std::env::args().nth(1) {
        Some(file) => read_text(Path::new(&file))?,
        None => include_str!("../docs/design.md").to_string(),
    };
    let engine = Engine::cpu(None)?;
    let config =
        ModelConfig { embedding: 32, layers: 1, ..ModelConfig::new(&Vocabulary::of(&text)) };
    let model = LanguageModel::new(config)?;

    let task = LanguageTask::new(model.clone(), &text, 32, 16)?;
    let mut trainer = Trainer::new(&engine, &task, TrainOptions::new(2000), None)?;
    trainer.run(None, |event| {
        if let Event::Validation(progress, loss) = event {
            println!("step {:4}: {:.3} nats a character", progress.step, loss.mean());
        }
        Ok(())
    })?;
    let weights = trainer.best_weights().clone();

    let options = SampleOptions { temperature: 0.7, ..SampleOptions::default() };
    let mut generator = Generator::new(&engine, model.clone(), &weights, options)?;
    let mut writer = model.vocabulary().writer();
    generator.read("The ")?;
    let mut written = "The ".to_string();
    for _ in 0..200 {
        written += &writer.push(generator.write()?);
    }
    println!("\n{written}\n");

    let score = Scorer::new(&engine, model, weights).score("A recording is data.")?;
    println!(
        "perplexity of \"A recording is data.\": {:.1}",
        score.perplexity().unwrap_or(f64::NAN)
    );
    Ok(())
}
