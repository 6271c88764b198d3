//! What a tagger computes: gradients, padding, the loss, constraints, both engines.

use super::common::{apart, engines, gpu_engine};
use super::{language, tagger};
use recurra::engine::Engine;
use recurra::task::TaskModel;
use recurra::task::tag::{Batches, Predicted, Scheme, Sentence, TagModel, TagTask};
use recurra::tensor::{NamedTensors, Precision};
use recurra::train::{Task, TrainOptions, Trainer, check_gradients};

fn words(sentences: &[Sentence]) -> Vec<&[String]> {
    sentences.iter().map(|s| &s.tokens[..]).collect()
}

fn evaluated(engine: &Engine, model: &TagModel, all: &[Sentence], held_out: &[Sentence]) -> f64 {
    let batches = Batches { words: 60, ..Batches::default() };
    let task = TagTask::new(model.clone(), all, held_out, batches).unwrap();
    let mut trainer = Trainer::new(engine, &task, TrainOptions::new(1), None).unwrap();
    f64::from(trainer.evaluate().unwrap().unwrap().0[0])
}

/// Weights that give probabilities far from even.
fn weights(model: &TagModel) -> NamedTensors {
    let mut weights = model.initial_weights(3);
    weights.values_mut().for_each(|tensor| tensor.mapv_inplace(|x| 2.0 * x));
    weights
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let sentences = language(1, 12);
    let engine = Engine::cpu(Some(2)).unwrap();
    for chained in [true, false] {
        let model = tagger(&sentences, |recurrent, features| {
            (recurrent.hidden, recurrent.dropout, features.chained) = (6, 0.2, chained);
        });
        let batches = Batches { words: 200, shapes: 2, ..Batches::default() };
        let task = TagTask::new(model.clone(), &sentences, &[], batches).unwrap();
        let checks = check_gradients(&engine, &task, &TrainOptions::new(1)).unwrap();
        for check in &checks {
            assert!(check.error() < 1e-2, "{check:?}");
        }
        let names: Vec<&str> = checks.iter().map(|c| c.parameter.as_str()).collect();
        assert_eq!(names.contains(&"crf.transitions"), chained);
        // A gradient that does not flow would agree with no difference, but it must be there.
        for (name, _) in task.weight_shapes() {
            let mut own = checks.iter().filter(|check| check.parameter.contains(&name));
            assert!(own.any(|check| check.gradient.abs() > 1e-6), "{name}: {names:?}");
        }
        for name in
            ["spelling.weight_hh_l0_reverse", "shape.weight", "intent.weight", "word.weight"]
        {
            assert!(names.iter().any(|n| n.contains(name)), "{name}");
        }
    }
}

/// Each sentence alone gives what many of other lengths beside it give, words of other lengths beside its own, and
/// both engines agree.
#[test]
fn company_changes_nothing() {
    let mut sentences = language(2, 40);
    sentences
        .push(Sentence::new(&["x", &"long".repeat(12)], &["O", "B-city"]).with_intent("music"));
    let model = tagger(&sentences, |_, _| {});
    let weights = weights(&model);
    let mut before: Option<Vec<Predicted>> = None;
    for engine in engines() {
        let all = model.tag(&engine, &weights, &words(&sentences), true).unwrap();
        for (sentence, many) in
            sentences.iter().zip(&all).step_by(4).chain([(&sentences[40], &all[40])])
        {
            let one = &model.tag(&engine, &weights, &[&sentence.tokens], true).unwrap()[0];
            near(one, many);
            assert_eq!(one.tags.len(), sentence.tokens.len());
        }
        if let Some(before) = &before {
            before.iter().zip(&all).for_each(|(a, b)| near(a, b));
        }
        let kinds: std::collections::BTreeSet<usize> =
            all.iter().flat_map(|p| p.tags.clone()).collect();
        assert!(kinds.len() > 2, "weights that tell nothing: {kinds:?}");
        before = Some(all);
    }
    // An empty sentence is none, and takes no other's place.
    let engine = Engine::cpu(Some(1)).unwrap();
    let empty: Vec<String> = Vec::new();
    let two = model.tag(&engine, &weights, &[&empty, &sentences[0].tokens, &empty], true).unwrap();
    near(&two[1], &before.unwrap()[0]);
    assert!(two[0].tags.is_empty() && two[2].intent().is_none());
}

fn near(a: &Predicted, b: &Predicted) {
    assert_eq!(a.tags, b.tags);
    let narrow = |list: &[f64]| list.iter().map(|&x| x as f32).collect::<Vec<_>>();
    for (a, b) in [(&a.probabilities, &b.probabilities), (&a.intents, &b.intents)] {
        assert!(apart(&narrow(a), &narrow(b)) < 2e-4, "{a:?} {b:?}");
    }
}

/// A word is what it is spelled like, how it is capitalised, and, if it is known, itself.
#[test]
fn words_are_seen_three_ways() {
    let sentences = language(3, 60);
    let engine = Engine::cpu(Some(1)).unwrap();
    let say = |model: &TagModel, word: &str| {
        let tokens = vec!["weather".to_string(), word.to_string()];
        model.tag(&engine, &weights(model), &[&tokens], true).unwrap().remove(0).intents
    };
    let all = tagger(&sentences, |_, _| {});
    // Unknown words with the same and with other letters, and letters in another order.
    assert_eq!(say(&all, "zoville"), say(&all, "zoville"));
    assert_ne!(say(&all, "zoville"), say(&all, "zosson"));
    assert_ne!(say(&all, "kotamin"), say(&all, "nimatok"));
    let blind = tagger(&sentences, |_, features| features.character = 0);
    assert_eq!(say(&blind, "zoville"), say(&blind, "zosson"));
    assert_ne!(say(&blind, "zoville"), say(&blind, "Zoville"));
    assert_ne!(say(&blind, "zoville"), say(&blind, "tomorrow"));
    let flat = tagger(&sentences, |_, features| (features.character, features.shape) = (0, 0));
    assert_eq!(say(&flat, "Tomorrow"), say(&flat, "tomorrow"));
    let cased = tagger(&sentences, |_, features| {
        (features.character, features.shape, features.lower) = (0, 0, false);
    });
    assert_ne!(say(&cased, "Tomorrow"), say(&cased, "tomorrow"));
}

/// The loss is the mean over sentences, not over batches or words, of the nats of all tags and the intent.
#[test]
fn the_loss_is_that_of_tags_and_intents() {
    let mut sentences = language(4, 23);
    let engine = Engine::cpu(Some(2)).unwrap();
    for chained in [true, false] {
        let model = tagger(&sentences, |_, features| features.chained = chained);
        let all = evaluated(&engine, &model, &sentences, &sentences);
        let each = sentences
            .iter()
            .map(|s| evaluated(&engine, &model, &sentences, std::slice::from_ref(s)));
        let mean = each.sum::<f64>() / sentences.len() as f64;
        assert!((all - mean).abs() < 1e-4 * mean, "{chained}: {all} {mean}");
        // Of a chain of one word, or no chain, what is likeliest has the probabilities that are told.
        if chained {
            continue;
        }
        let weights = model.initial_weights(1);
        let told = model.tag(&engine, &weights, &words(&sentences), true).unwrap();
        let mut nats = 0.0;
        let names = model.config().clone();
        for (sentence, told) in sentences.iter_mut().zip(&told) {
            let tag = |&tag: &usize| names.tags[tag].clone();
            sentence.tags = told.tags.iter().map(tag).collect();
            let (number, probability) = told.intent().unwrap();
            sentence.intent = Some(names.intents[number].clone());
            nats -= probability.ln() + told.probabilities.iter().map(|p| p.ln()).sum::<f64>();
        }
        let mean = nats / sentences.len() as f64;
        let all = evaluated(&engine, &model, &sentences, &sentences);
        assert!((all - mean).abs() < 1e-4 * mean, "{all} {mean}");
    }
}

#[test]
fn constraints_hold() {
    let sentences = language(5, 50);
    let engine = Engine::cpu(Some(1)).unwrap();
    let bad = |constrained: bool| {
        let model = tagger(&sentences, |_, features| features.constrained = constrained);
        let all = model.tag(&engine, &weights(&model), &words(&sentences), true).unwrap();
        let mut bad = 0;
        for predicted in &all {
            let guess = model.guess(predicted);
            let mut before = "O";
            for tag in guess.tags {
                let kind = tag.strip_prefix("I-");
                bad += usize::from(kind.is_some_and(|kind| before[1..] != format!("-{kind}")));
                before = tag;
            }
            assert!(predicted.probabilities.iter().all(|p| (0.0..=1.0001).contains(p)));
        }
        bad
    };
    assert_eq!(bad(true), 0);
    assert!(bad(false) > 0);
    let config = tagger(&sentences, |_, _| {}).config().clone();
    let mut both = config.clone();
    (both.features.constrained, both.features.chained) = (true, false);
    assert!(TagModel::new(both).unwrap_err().to_string().contains("constrained"));
    let mut twice = config.clone();
    twice.tags[1] = twice.tags[0].clone();
    assert!(TagModel::new(twice).unwrap_err().to_string().contains("twice"));
    let none = recurra::task::tag::TagConfig { tags: Vec::new(), scheme: Scheme::Bio, ..config };
    assert!(TagModel::new(none).unwrap_err().to_string().contains("tags"));
}

/// Ensembles of one shape, and 16 bits where a device has them.
#[test]
fn ensembles_and_half_precision_train() {
    let sentences = language(6, 40);
    let model = tagger(&sentences, |_, _| {});
    let batches = Batches { words: 120, shapes: 1, ..Batches::default() };
    let engine = Engine::cpu(Some(2)).unwrap();
    let run = |engine: &Engine, seed: u64, precision: Precision| {
        let task = TagTask::new(model.clone(), &sentences, &sentences, batches).unwrap();
        let options = TrainOptions { seed, precision, learning_rate: 0.01, ..TrainOptions::new(6) };
        let mut trainer = Trainer::new(engine, &task, options, None).unwrap();
        trainer.run(None, |_| Ok(())).unwrap();
        trainer.evaluate().unwrap().unwrap().0
    };
    let two = run(&engine.ensemble(2).unwrap(), 5, Precision::F32);
    assert_eq!(two, [run(&engine, 5, Precision::F32)[0], run(&engine, 6, Precision::F32)[0]]);
    if let Some(gpu) = gpu_engine().filter(|gpu| gpu.supports(Precision::F16)) {
        let half = run(&gpu, 5, Precision::F16)[0];
        assert!((half - two[0]).abs() < 0.05 * two[0], "{half} {two:?}");
    }
}
