//! Sequences by their class, which depends on order: which of two symbols comes last?
//!
//! `cargo run --release --example classify_sequences` takes a second.

use recurra::layer::Initializer;
use recurra::model::{Fit, Samples, Sequences, Sequential, Targets};
use recurra::train::{Event, TrainOptions};
use recurra::{Engine, Result};

/// Sequences of 5 to 30 symbols of six; the class says whether symbol 4 or symbol 5 came last, or 2 if neither came.
fn sequences(count: usize, seed: u64) -> Result<Samples> {
    let mut random = Initializer::new(seed);
    let mut below = |n: usize| ((random.uniform(1, 0.5)[0] + 0.5) * n as f32) as usize % n;
    let draw = |_| {
        let length = 5 + below(26);
        // Symbols 4 and 5 are rare.
        (0..length).map(|_| if below(12) == 0 { 4 + below(2) } else { below(4) } as u32).collect()
    };
    let list: Vec<Vec<u32>> = (0..count).map(draw).collect();
    let last = |ids: &Vec<u32>| ids.iter().rev().find(|&&id| id > 3).map_or(2, |id| id - 4);
    let classes = list.iter().map(last).collect();
    Samples::new(Sequences::tokens(list), Targets::class(classes))
}

fn main() -> Result<()> {
    let engine = Engine::cpu(Some(1))?;
    let (training, held_out) = sequences(2000, 1)?.split(0.1, 1)?;
    let model = Sequential::tokens(6).embedding(8).gru(32).last_step().linear(3).build()?;
    print!("{}", model.summary());

    let fit = Fit::new(&model, &training)?.with_validation(&held_out)?;
    let options = TrainOptions { learning_rate: 0.01, ..TrainOptions::new(fit.steps(10)) };
    let trained = fit.run(&engine, options, |event| {
        if let Event::Validation(progress, loss) = event {
            println!("step {:4}: {:.4} nats", progress.step, loss.mean());
        }
        Ok(())
    })?;

    let new = vec![vec![4, 0, 1, 5, 2, 3, 3, 0], vec![5, 1, 1, 4, 0], vec![0, 1, 2, 3, 2, 1]];
    for (ids, class) in
        new.iter().zip(trained.predict_classes(&engine, &Sequences::tokens(new.clone()))?)
    {
        println!("{ids:?} is of class {}", class[0]);
    }
    Ok(())
}
