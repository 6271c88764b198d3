//! Taggers that learn, and go on where they were interrupted.

use super::{language, tagger};
use recurra::Error;
use recurra::engine::Engine;
use recurra::task::tag::{Batches, TagModel, TagScore, TagTask, hold_out};
use recurra::tensor::NamedTensors;
use recurra::train::{Checkpoint, Event, TrainOptions, Trainer};

fn train(model: &TagModel, steps: u64) -> NamedTensors {
    let [training, validation] = hold_out(language(10, 330), 0.1, 1).unwrap();
    assert_eq!((training.len(), validation.len()), (297, 33));
    let batches = Batches { words: 150, ..Batches::default() };
    let task = TagTask::new(model.clone(), &training, &validation, batches).unwrap();
    let options = TrainOptions { learning_rate: 0.02, ..TrainOptions::new(steps) };
    let engine = Engine::cpu(Some(1)).unwrap();
    let mut trainer = Trainer::new(&engine, &task, options, None).unwrap();
    trainer.run(None, |_| Ok(())).unwrap();
    trainer.best_weights().clone()
}

#[test]
fn a_little_language_is_learned() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let (known, new) = (language(10, 330), language(77, 200));
    let model = tagger(&known, |recurrent, _| recurrent.dropout = 0.1);
    let weights = train(&model, 200);
    let [score, baseline] = model.score(&engine, &weights, &new).unwrap();
    let f1 = score.entities.unwrap().f1();
    println!(
        "F1 {f1:.3}, intents {:?}, whole {:.3}",
        score.intent_accuracy, score.sentence_accuracy
    );
    assert!(f1 > 0.95 && score.intent_accuracy.unwrap() > 0.97 && score.sentence_accuracy > 0.9);
    assert!(score.complaints(&baseline).is_empty());
    let simple = baseline.entities.unwrap().f1();
    assert!(simple < 0.75, "{simple}");
    // Without training it is worse than the baseline, and says so.
    let [untrained, _] = model.score(&engine, &model.initial_weights(1), &new).unwrap();
    assert!(untrained.entities.unwrap().f1() < 0.2);
    assert!(untrained.complaints(&baseline)[0].contains("does not beat its baseline"));
    // Nor does it go without spelling, as the names are new.
    let blind = tagger(&known, |_, features| (features.character, features.shape) = (0, 0));
    let [blind, _] = blind.score(&engine, &train(&blind, 200), &new).unwrap();
    let songs = |score: &TagScore| score.types["song"].f1();
    println!("songs: F1 {:.3}, without characters {:.3}", songs(&score), songs(&blind));
    assert!(songs(&score) > 0.95 && songs(&blind) < 0.85, "{blind:?}");
}

#[test]
fn an_interrupted_run_gives_the_same_bits() {
    let sentences = language(20, 60);
    let model = tagger(&sentences, |recurrent, _| recurrent.dropout = 0.3);
    let engine = Engine::cpu(Some(2)).unwrap();
    let options = TrainOptions { evaluate_every: 5, ..TrainOptions::new(30) };
    let run = |cut: Option<u64>| {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, mut checkpoint) = (Vec::new(), None);
        let options = TrainOptions { save_every: 15, ..options.clone() };
        for cut in cut.into_iter().map(Some).chain([None]) {
            let batches = Batches { words: 80, shapes: 4, token_dropout: 0.3 };
            let task = TagTask::new(model.clone(), &sentences, &sentences[..9], batches).unwrap();
            assert!(task.buckets().shapes().len() > 2);
            let mut trainer = Trainer::new(&engine, &task, options.clone(), checkpoint).unwrap();
            let result = trainer.run(Some(folder.path()), |event| match event {
                Event::Losses(_, more) => {
                    losses.extend(more.iter().map(|l| l.0[0]));
                    Ok(())
                }
                Event::Saved(step) if Some(*step) == cut => Err(Error::Invalid("cut".to_string())),
                _ => Ok(()),
            });
            assert_eq!(result.is_err(), cut.is_some());
            checkpoint = Some(Checkpoint::load(folder.path()).unwrap());
        }
        (losses, checkpoint.unwrap().tensors)
    };
    let (whole, cut) = (run(None), run(Some(15)));
    assert_eq!(whole.0.len(), 30);
    assert_eq!(whole.0, cut.0);
    assert!(whole.1 == cut.1);
}
