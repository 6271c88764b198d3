//! Which notes sound next: a GRU over tunes of many lengths, in batches of like lengths, and what
//! it expects behind one.
//!
//!     cargo run --release --example music
//!
//! The tunes are made here: rounds of twelve notes in thirds, begun anywhere. `recurra train music` does the same with
//! a file of tunes, and has everything that belongs to a run around it.

use recurra::task::RecurrentConfig;
use recurra::task::TaskModel;
use recurra::task::music::{LOWEST, MusicModel, MusicTask, NoteModel, Tunes};
use recurra::train::{Event, TrainOptions, Trainer};
use recurra::{CellKind, Engine, Result};

/// A tune of `length` steps: at each the next note of the round, and the one two further.
fn tune(start: usize, length: usize) -> Vec<Vec<u32>> {
    (0..length)
        .map(|t| vec![((start + t) % 12 + 20) as u32, ((start + t + 2) % 12 + 40) as u32])
        .collect()
}

fn tunes(from: usize, count: usize) -> Vec<Vec<Vec<u32>>> {
    (from..from + count).map(|n| tune(n, 6 + n * 7 % 23)).collect()
}

fn main() -> Result<()> {
    let tunes = Tunes { training: tunes(0, 60), validation: tunes(60, 12), test: tunes(72, 12) };
    let recurrent = RecurrentConfig::new(CellKind::Gru, 48);
    let model = MusicModel::new(NoteModel::new(recurrent))?;
    println!("{} parameters over 88 keys", model.parameter_count());

    // Batches of 160 steps at most, rows times the longest tune among them.
    let task = MusicTask::new(model.clone(), &tunes, 160)?;
    let padding = 100.0 * task.buckets().padding();
    println!("shapes {:?}, {padding:.0} % of them padding", task.buckets().shapes());

    let engine = Engine::cpu(Some(1))?;
    let options = TrainOptions { learning_rate: 0.05, ..TrainOptions::new(1500) };
    let mut trainer = Trainer::new(&engine, &task, options, None)?;
    trainer.run(None, |event| {
        if let Event::Validation(progress, losses) = event {
            println!("step {:5}  {:.3} nats a step", progress.step, losses.mean());
        }
        Ok(())
    })?;
    let weights = trainer.best_weights().clone();
    drop(trainer);

    let score = model.mean_score(&engine, &weights, &tunes.test)?;
    println!("test: {:.3} nats a step, accuracy {:.1} %", score.loss, 100.0 * score.accuracy);
    // What comes behind the first five steps of a round.
    let (_, next) = &model.score(&engine, &weights, &[tune(3, 5)])?[0];
    let mut order: Vec<usize> = (0..next.len()).collect();
    order.sort_by(|&a, &b| next[b].total_cmp(&next[a]));
    for key in order.into_iter().take(3) {
        println!("note {} with {:.0} %", key as u32 + LOWEST, 100.0 * next[key]);
    }
    Ok(())
}
