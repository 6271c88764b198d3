//! Tagging from a few lines: which words of a request are an artist, a song or a city, and what is wanted. A BiLSTM-CRF
//! that spells words, beside the most frequent tag of each word.
//!
//!     cargo run --release --example tag
//!
//! The requests are made here, of names that hardly come twice. `recurra train tag` does the same with people's files,
//! and has everything that belongs to a run around it.

use recurra::task::tag::{Batches, Features, Sentence, TagConfig, TagModel, TagTask, entities};
use recurra::task::{RecurrentConfig, TaskModel};
use recurra::train::{Event, TrainOptions, Trainer};
use recurra::{CellKind, Engine, Result};

/// A made-up name; its ending tells what it is the name of.
fn name(number: usize, ending: &str) -> String {
    let syllables = ["ba", "ko", "mi", "ru", "ta", "ne", "lo", "si", "du", "fe", "ga"];
    let of = |n: usize| syllables[n % syllables.len()];
    format!("{}{}{}{ending}", of(number), of(number / 11), of(number * 7 / 3))
}

fn request(number: usize) -> Sentence {
    let seed = number.wrapping_mul(7919) / 3;
    let (artist, song, city) = (name(seed, "son"), name(seed / 5, "ia"), name(seed / 2, "ville"));
    match number % 4 {
        0 => Sentence::new(&["play", &song, "by", &artist], &["O", "B-song", "O", "B-artist"])
            .with_intent("music"),
        1 => Sentence::new(&["put", "on", &song, "please"], &["O", "O", "B-song", "O"])
            .with_intent("music"),
        2 => Sentence::new(&["weather", "in", "new", &city], &["O", "O", "B-city", "I-city"])
            .with_intent("weather"),
        _ => Sentence::new(
            &["rain", "in", &city, "and", &artist],
            &["O", "O", "B-city", "O", "B-artist"],
        )
        .with_intent("weather"),
    }
}

fn main() -> Result<()> {
    let all: Vec<Sentence> = (0..500).map(request).collect();
    let (training, rest) = all.split_at(350);
    let (validation, test) = rest.split_at(75);

    let recurrent = RecurrentConfig { both: true, ..RecurrentConfig::new(CellKind::Lstm, 32) };
    let features =
        Features { word: 24, character: 12, character_hidden: 16, ..Features::default() };
    let config = TagConfig::new(recurrent, features, None, training, validation)?;
    let model = TagModel::new(config)?;
    println!("{} parameters, tags {:?}", model.parameter_count(), model.config().tags);

    let batches = Batches { words: 160, ..Batches::default() };
    let task = TagTask::new(model.clone(), training, validation, batches)?;
    let engine = Engine::cpu(Some(1))?;
    let options = TrainOptions { learning_rate: 0.02, ..TrainOptions::new(150) };
    let mut trainer = Trainer::new(&engine, &task, options, None)?;
    trainer.run(None, |event| {
        if let Event::Validation(progress, losses) = event {
            println!("step {:5}  {:.3} nats a sentence", progress.step, losses.mean());
        }
        Ok(())
    })?;
    let weights = trainer.best_weights().clone();
    drop(trainer);

    let [score, baseline] = model.score(&engine, &weights, test)?;
    let f1 = |score: &recurra::task::tag::TagScore| 100.0 * score.main().1;
    println!("F1 of entities {:.1} %, of the baseline {:.1} %", f1(&score), f1(&baseline));
    score.complaints(&baseline).iter().for_each(|complaint| println!("{complaint}"));
    // Of a sentence that nobody has seen.
    let tokens = ["rain", "in", "bakolville"].map(String::from);
    let predicted = &model.tag(&engine, &weights, &[&tokens], true)?[0];
    let guess = model.guess(predicted);
    println!("{:?}: {}", tokens.join(" "), guess.intent.unwrap_or_default());
    for entity in entities(&guess.tags) {
        let p = predicted.probabilities[entity.start];
        println!(
            "  {} is a {} ({:.0} %)",
            tokens[entity.start..entity.end].join(" "),
            entity.kind,
            100.0 * p
        );
    }
    Ok(())
}
