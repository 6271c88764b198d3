//! The report of a tagger: scores beside the baseline, types, lengths, tagged sentences, intents, transitions.

use crate::args::json_line;
use crate::eval::TagMeasures;
use recurra::Result;
use recurra::engine::Engine;
use recurra::report::{
    BarChart, HeatMap, HeatScale, LineChart, Mark, Report, Series, Stroke, Table, Tokens,
};
use recurra::task::TaskModel;
use recurra::task::tag::{Guess, Predicted, Sentence, TagModel, TagScore, entities};
use recurra::tensor::NamedTensors;
use serde_json::Value;
use std::collections::BTreeMap;

/// Types in the table, and tags in the map of transitions, at most.
const MOST_TYPES: usize = 60;
const MOST_TAGS: usize = 80;
/// Sentences that are shown, of those with mistakes and of the others.
const SHOWN: [usize; 2] = [10, 4];
/// The last lengths of the buckets.
const LENGTHS: [usize; 7] = [5, 8, 11, 15, 20, 30, usize::MAX];

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Scores a trained model on lists of sentences, the one that tells most last, and adds what is to be seen: the lines
/// that say it, and the measures of each list.
pub fn pictures(
    report: &mut Report,
    engine: &Engine,
    model: &TagModel,
    weights: &NamedTensors,
    lists: &[(&str, &Vec<Sentence>)],
) -> Result<(Vec<String>, BTreeMap<String, TagMeasures>)> {
    let (mut said, mut measures) = (Vec::new(), BTreeMap::new());
    let mut table = Table::new(
        "The best model, and the most frequent tag of each word and the most frequent intent beside it",
        [
            "sentences",
            "of",
            "F1 of entities",
            "precision",
            "recall",
            "words",
            "intents",
            "whole sentences",
        ],
    );
    let mut complaints = Vec::new();
    let mut last = None;
    for &(what, list) in lists {
        let words: Vec<&[String]> = list.iter().map(|s| &s.tokens[..]).collect();
        let predicted = model.tag(engine, weights, &words, false)?;
        let scores = model.score_predicted(list, &predicted);
        for (who, score) in ["model", "baseline"].into_iter().zip(&scores) {
            let of = |share: Option<f64>| share.map_or("–".to_string(), percent);
            table = table.row([
                what.to_string(),
                who.to_string(),
                of(score.entities.map(|e| e.f1())),
                of(score.entities.map(|e| e.precision())),
                of(score.entities.map(|e| e.recall())),
                percent(score.accuracy),
                of(score.intent_accuracy),
                percent(score.sentence_accuracy),
            ]);
            said.push(line(what, who, score));
        }
        said.extend(unknown(&scores[0]).map(|unknown| format!("{what:<8} {unknown}")));
        measures.insert(what.to_string(), TagMeasures::new(scores.clone()));
        let own = scores[0].complaints(&scores[1]);
        complaints.extend(own.into_iter().map(|complaint| format!("{what}: {complaint}")));
        last = Some((what, list, predicted, scores));
    }
    report.section("Scores").add(table);
    let config = model.config();
    // By way of text, where an f32 has the digits that were given.
    let texts = [json_line(&config.recurrent)?, json_line(&config.features)?];
    let parsed = texts.iter().filter_map(|text| serde_json::from_str::<Value>(text).ok());
    let parsed: Vec<Value> = parsed.collect();
    let facts = parsed.iter().filter_map(Value::as_object).flatten();
    let facts = facts.map(|(key, value)| (key.clone(), value.to_string().replace('"', "")));
    let facts: Vec<_> = facts.collect();
    if !complaints.is_empty() {
        report.text(complaints.join("\n\n"));
    }
    said.extend(complaints);
    let Some((what, list, predicted, [score, baseline])) = last else {
        return Ok((said, measures));
    };
    types(report, what, &score, &baseline);
    lengths(report, what, model, list, &predicted);
    report.section("Tagged sentences");
    sentences(report, model, list, &predicted);
    if !model.config().intents.is_empty() {
        let classes = &model.config().intents;
        let n = classes.len();
        let mut counts = vec![0; n * n];
        for (sentence, predicted) in list.iter().zip(&predicted) {
            let truth = sentence.intent.as_ref().and_then(|name| model.intent_number(name));
            if let (Some(truth), Some((own, _))) = (truth, predicted.intent()) {
                counts[truth as usize * n + own] += 1;
            }
        }
        let map = HeatMap::confusion(format!("Intents, {what}"), classes, &counts)?;
        report.section("Intents").add(map);
    }
    transitions(report, model, weights)?;
    report.section("Layers and features").facts(facts);
    Ok((said, measures))
}

/// What can't be right, if anything.
pub fn unknown(score: &TagScore) -> Option<String> {
    let &TagScore { unknown_tags: tags, unknown_intents: intents, .. } = score;
    (tags + intents > 0).then(|| {
        format!(
            "{tags} words have tags that the model did not learn, {intents} sentences such intents: these words and \
             sentences count as wrong; an entity counts as right by its type and its words alone"
        )
    })
}

/// A score in words.
pub fn line(what: &str, who: &str, score: &TagScore) -> String {
    let mut parts = Vec::new();
    if let Some(entities) = score.entities {
        parts.push(format!("F1 {}", percent(entities.f1())));
    }
    parts.push(format!("words {}", percent(score.accuracy)));
    if let Some(intents) = score.intent_accuracy {
        parts.push(format!("intents {}", percent(intents)));
    }
    parts.push(format!("whole sentences {}", percent(score.sentence_accuracy)));
    format!("{:<8} {who:<8}  {}", what, parts.join(", "))
}

fn types(report: &mut Report, what: &str, score: &TagScore, baseline: &TagScore) {
    let mut list: Vec<_> = score.types.iter().collect();
    list.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.wanted));
    let kind = if score.entities.is_some() { "type of entity" } else { "tag" };
    let shown = list.len().min(MOST_TYPES);
    let title = match list.len() > shown {
        true => format!("By {kind}, {what}: the {shown} most frequent of {}", list.len()),
        false => format!("By {kind}, {what}"),
    };
    let header = [kind, "there are", "F1", "precision", "recall", "F1 of the baseline"];
    let mut table = Table::new(title, header);
    let mut bars = BarChart::new(format!("F1 by {kind}, {what}"), "%");
    for (name, counts) in list.into_iter().take(shown) {
        let other = baseline.types.get(name).map_or(0.0, |counts| counts.f1());
        let name = if name.is_empty() { "(no type)" } else { name };
        table = table.row([
            name.to_string(),
            counts.wanted.to_string(),
            percent(counts.f1()),
            percent(counts.precision()),
            percent(counts.recall()),
            percent(other),
        ]);
        bars = bars.bar(name, 100.0 * counts.f1());
    }
    report.section("Types").add(bars).add(table);
}

fn lengths(
    report: &mut Report,
    what: &str,
    model: &TagModel,
    list: &[Sentence],
    predicted: &[Predicted],
) {
    let mut table = Table::new(
        format!("By the sentence's length, {what}"),
        ["words", "sentences", "measure", "of the baseline", "whole sentences"],
    );
    let (mut own, mut other) = (Vec::new(), Vec::new());
    let mut measure = "";
    let mut from = 1;
    for to in LENGTHS {
        let inside = |s: &&Sentence| (from..=to).contains(&s.tokens.len());
        let some: Vec<Sentence> = list.iter().filter(inside).cloned().collect();
        let pairs = list.iter().zip(predicted).filter(|(s, _)| inside(s));
        let predicted: Vec<Predicted> = pairs.map(|(_, p)| p.clone()).collect();
        if !some.is_empty() {
            let [score, baseline] = model.score_predicted(&some, &predicted);
            let mean =
                some.iter().map(|s| s.tokens.len()).sum::<usize>() as f64 / some.len() as f64;
            let name = if to == usize::MAX {
                format!("{from} or more")
            } else {
                format!("{from} to {to}")
            };
            measure = score.main().0;
            own.push((mean, 100.0 * score.main().1));
            other.push((mean, 100.0 * baseline.main().1));
            table = table.row([
                name,
                some.len().to_string(),
                percent(score.main().1),
                percent(baseline.main().1),
                percent(score.sentence_accuracy),
            ]);
        }
        from = to.saturating_add(1);
    }
    table.header[2] = measure.to_string();
    let chart = LineChart::new(
        format!("By the sentence's length, {what}"),
        "words",
        format!("{measure}, %"),
    );
    report.section("Lengths").add(
        chart
            .series(Series::new("model", own).stroke(Stroke::Dots))
            .series(Series::new("baseline", other).stroke(Stroke::Dots)),
    );
    report.add(table);
}

/// Sentences with mistakes, and others, word by word.
fn sentences(report: &mut Report, model: &TagModel, list: &[Sentence], predicted: &[Predicted]) {
    let is_right = |sentence: &Sentence, guess: &Guess| {
        let intents = guess.intent.is_none() || guess.intent == sentence.intent.as_deref();
        intents && sentence.tags.iter().eq(guess.tags.iter())
    };
    let wrong = list.iter().zip(predicted).filter(|(s, p)| !is_right(s, &model.guess(p))).count();
    report.text(format!(
        "{wrong} of {} sentences have a mistake in a tag or in their intent. Coloured is every word that has a tag \
         other than O, or should have one; what is wrong stands behind its word: the model's tag, then the true one.",
        list.len()
    ));
    for (right, most) in [(false, SHOWN[0]), (true, SHOWN[1])] {
        let some = list.iter().zip(predicted);
        let some = some.filter(|(s, p)| is_right(s, &model.guess(p)) == right);
        for (sentence, predicted) in some.take(most) {
            let guess = model.guess(predicted);
            let words = sentence.tags.iter().zip(&guess.tags).filter(|(a, b)| a == b).count();
            let mut title = format!("{words} of {} words right", sentence.tags.len());
            if let (Some(own), Some(truth)) = (guess.intent, &sentence.intent) {
                title += &match own == truth {
                    true => format!("; intent {own}"),
                    false => format!("; intent {own}, in truth {truth}"),
                };
            }
            report.add(tagged(title, sentence, &guess));
        }
    }
}

fn tagged(title: String, sentence: &Sentence, guess: &Guess) -> Tokens {
    let mut tokens = Tokens::new(title, HeatScale::Linear);
    // An entity's type stands behind its last word.
    let ends = entities(&guess.tags);
    let words = sentence.tokens.iter().zip(&sentence.tags).zip(&guess.tags).enumerate();
    for (place, ((word, truth), own)) in words {
        let kind = ends.iter().find(|entity| entity.end == place + 1).map(|entity| entity.kind);
        let (text, mark) = match (truth == own, own == &"O") {
            (true, true) => (word.clone(), Mark::Plain),
            (true, false) => (kind.map_or(word.clone(), |k| format!("{word} [{k}]")), Mark::Right),
            (false, _) => (format!("{word} [{own}, not {truth}]"), Mark::Wrong),
        };
        let note = match truth == own {
            true => truth.clone(),
            false => format!("predicted {own}, in truth {truth}"),
        };
        tokens = tokens.noted(format!("{text} "), mark, note);
    }
    tokens
}

fn transitions(report: &mut Report, model: &TagModel, weights: &NamedTensors) -> Result<()> {
    let tags = &model.config().tags;
    let Some(scores) = weights.get("crf.transitions") else { return Ok(()) };
    if tags.len() > MOST_TAGS {
        return Ok(());
    }
    let values = scores.iter().copied().collect();
    let title = "Scores of transitions, from the tag of a row to that of a column";
    let map = HeatMap::new(title, [tags.len(), tags.len()], values)?;
    let map = map.rows_are("from", tags.clone()).columns_are("to", tags.clone());
    report.section("Transitions").add(map.scale(HeatScale::Diverging));
    Ok(())
}
