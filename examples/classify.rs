//! A label for each sentence: a GRU over words, what it makes of sentences that it never saw, and how sure it is.
//!
//!     cargo run --release --example classify
//!
//! The sentences are made here: who helped whom, and whether that was the cat or the dog. The words are the same in
//! either case; their order is what tells. `recurra train classify` does the same with files, and has everything that
//! belongs to a run around it.

use recurra::task::classify::{
    ClassConfig, ClassData, ClassLoss, ClassModel, Content, Examples, Pool,
};
use recurra::task::{RecurrentConfig, TaskModel};
use recurra::train::{Event, TrainOptions};
use recurra::{CellKind, Engine, Result};

/// A sentence, and which of the two did something.
fn sentence(n: usize) -> (String, String) {
    let who = ["cat", "dog"][n % 2];
    let whom = ["dog", "cat"][n % 2];
    let when = ["", "yesterday ", "at noon ", "once upon a time "][n / 2 % 4];
    let how = ["helped", "followed", "woke", "saw"][n / 8 % 4];
    let where_ = ["", " in the yard", " behind the house"][n / 32 % 3];
    let end = [".", "!", "", " again."][n / 96 % 4];
    (format!("{when}the {who} {how} the {whom}{where_}{end}"), who.to_string())
}

fn main() -> Result<()> {
    let (texts, labels) = (0..384).map(sentence).unzip();
    let (training, held_out) = Examples::texts(texts, labels)?.split(0.25, 1)?;

    let mut config = ClassConfig::new(&training, RecurrentConfig::new(CellKind::Gru, 16))?;
    config.pool = Pool::Last;
    let model = ClassModel::new(config)?;
    println!("{}", model.layers().summary());

    let data = ClassData::new(&model, &training, Some(&held_out), ClassLoss::default())?;
    let fit = data.fit(&model, 16, 3)?;
    let engine = Engine::cpu(Some(1))?;
    let options = TrainOptions { learning_rate: 0.01, ..TrainOptions::new(fit.steps(10)) };
    let trained = fit.run(&engine, options, |event| {
        if let Event::Validation(progress, losses) = event {
            println!("step {:5}  {:.4} nats a sentence", progress.step, losses.mean());
        }
        Ok(())
    })?;

    let score = model.score(&engine, &trained.weights, &held_out)?;
    println!("{}", score.verdict());
    for class in &score.classes {
        println!("{}: F1 {:.3} of {} sentences", class.label, class.f1, class.support);
    }
    let new = ["At noon the dog saw the cat.", "the cat, again, woke the dog"];
    let new = Content::Texts(new.map(String::from).to_vec());
    for row in model.probabilities(&engine, &trained.weights, &new)? {
        let classes = model.config().classes.iter().zip(row);
        let each: Vec<_> = classes.map(|(c, p)| format!("{c} {:.0} %", 100.0 * p)).collect();
        println!("{}", each.join(", "));
    }
    Ok(())
}
