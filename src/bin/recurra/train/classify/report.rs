//! Scores and pictures of a model of classes.

use super::data::{ClassTraining, Parts};
use recurra::Result;
use recurra::engine::Engine;
use recurra::report::{BarChart, HeatMap, LineChart, Report, Series, Stroke, Table};
use recurra::task::TaskModel;
use recurra::task::classify::{ClassModel, ClassScore, Content, Examples, InputConfig};
use recurra::tensor::NamedTensors;
use std::collections::BTreeMap;

/// Mistakes that are shown.
const MISTAKES: usize = 12;
/// Characters of a text that are shown.
const SHOWN: usize = 160;

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// What the data are, for the head of a run.
pub fn data_lines(model: &ClassModel, name: &str, parts: &Parts) -> Result<Vec<String>> {
    let count = |part: &Option<Examples>| part.as_ref().map_or(0, Examples::len);
    let config = model.config();
    let reads = match &config.input {
        InputConfig::Text(text) => {
            format!("texts of {}, vocabulary {}", text.tokens.name(), text.vocabulary()?.len())
        }
        InputConfig::Numbers(scaling) => format!("sequences of {} values a step", scaling.width()),
    };
    let mut lines = vec![format!(
        "data     {name} ({}): {} {reads}; {} for validation, {} to test",
        parts.format,
        parts.training.len(),
        count(&parts.validation),
        count(&parts.test)
    )];
    let (label, share) = config.most_frequent();
    let share = percent(share);
    lines.push(format!(
        "         the most frequent class is '{label}', {share} of those to train on"
    ));
    let cut = config.longest.map(|longest| {
        let whole = match (&config.input, parts.training.content()) {
            (_, Content::Numbers { width, list }) => {
                list.iter().filter(|own| own.len() / width > longest).count()
            }
            // A cut text is as long as the longest may be.
            _ => {
                let lengths = model.sequences(parts.training.content()).and_then(|s| s.lengths());
                lengths.map_or(0, |all| all.iter().filter(|&&n| n >= longest).count())
            }
        };
        format!("         {whole} of them are cut after {longest} steps")
    });
    lines.extend(cut);
    Ok(lines)
}

/// Scores and pictures into the report; what is told at the end of the run, and the score of each part.
pub fn add(
    report: &mut Report,
    model: &ClassModel,
    engine: &Engine,
    weights: &NamedTensors,
    parts: &Parts,
    training: &ClassTraining,
) -> Result<(Vec<String>, BTreeMap<&'static str, ClassScore>)> {
    let header = [
        "sequences",
        "",
        "accuracy",
        "95 %",
        "nats",
        "macro F1",
        "confidence",
        "calibration error",
    ];
    let mut table = Table::new("The best model, and guessing", header);
    report.section("The model and its data").facts(facts(model, training));
    let (mut told, mut scores, mut last) = (Vec::new(), BTreeMap::new(), None);
    for (what, part) in [("validation", &parts.validation), ("test", &parts.test)] {
        let Some(part) = part else { continue };
        let score = model.score(engine, weights, part)?;
        let interval = score.interval;
        table = table
            .row([
                format!("{what}, {}", score.sequences),
                "the model".to_string(),
                percent(score.accuracy),
                format!("{:.2} to {:.2}", 100.0 * interval.low, 100.0 * interval.high),
                format!("{:.4}", score.loss),
                format!("{:.4}", score.macro_f1),
                percent(score.confidence),
                percent(score.calibration_error),
            ])
            .row([
                String::new(),
                format!("'{}' for all", score.majority.label),
                percent(score.majority.accuracy),
                String::new(),
                format!("{:.4}", score.majority.loss),
                format!("{:.4}", score.majority.macro_f1),
            ]);
        told.push(format!("{what:<8} {}", summary(&score)));
        told.extend(unknown(&score).map(|unknown| format!("         {unknown}")));
        scores.insert(what, score.clone());
        last = Some((what, part, score));
    }
    let Some((what, part, score)) = last else { return Ok((told, scores)) };
    told.push(format!("         {}", score.verdict()));
    report.section("Scores").add(table).text(score.verdict());
    report.section(format!("What it takes for what ({what})"));
    let counts: Vec<u64> = score.confusion.iter().flatten().copied().collect();
    report.add(HeatMap::confusion("Confusion matrix", &model.config().classes, &counts)?);
    let header = ["class", "precision", "recall", "F1", "sequences", "predicted"];
    let mut classes = Table::new("Classes", header);
    for class in &score.classes {
        classes = classes.row([
            class.label.clone(),
            format!("{:.4}", class.precision),
            format!("{:.4}", class.recall),
            format!("{:.4}", class.f1),
            class.support.to_string(),
            class.predicted.to_string(),
        ]);
    }
    report.add(classes);
    let points = score.reliability.iter().map(|r| (r.confidence, r.accuracy));
    report.add(
        LineChart::new(
            "Is it right as often as it is sure? By tenths of its confidence",
            "confidence: the mean probability of the likeliest class",
            "share that is right",
        )
        .y_range(0.0, 1.0)
        .series(Series::new("the model", points).stroke(Stroke::Dots))
        .series(Series::new("as it should be", [(0.0, 0.0), (1.0, 1.0)]).stroke(Stroke::Dashed)),
    );
    let mut bars = BarChart::new("Accuracy by length", "% right");
    for bucket in &score.by_length {
        let steps = match bucket.shortest == bucket.longest {
            true => format!("{} steps", bucket.longest),
            false => format!("{} to {} steps", bucket.shortest, bucket.longest),
        };
        bars = bars.bar(format!("{steps} ({})", bucket.count), 100.0 * bucket.accuracy);
    }
    report.add(
        bars.bar(
            format!("all, guessing '{}'", score.majority.label),
            100.0 * score.majority.accuracy,
        ),
    );
    report.add(mistakes(model, engine, weights, part)?);
    Ok((told, scores))
}

/// What was chosen, but for what all runs have.
fn facts(model: &ClassModel, training: &ClassTraining) -> Vec<(String, String)> {
    let config = model.config();
    let mut facts: Vec<(&str, String)> = vec![
        ("model", config.title()),
        ("dropout", config.recurrent.dropout.to_string()),
        ("input_dropout", config.input_dropout.to_string()),
        ("token_dropout", training.token_dropout.to_string()),
        ("label_smoothing", training.label_smoothing.to_string()),
        ("balance", training.balance.to_string()),
        ("batch", training.batch.to_string()),
        ("hold_out", training.hold_out.to_string()),
        ("test_share", training.test_share.to_string()),
        ("split_seed", training.split_seed.to_string()),
    ];
    if let InputConfig::Text(text) = &config.input {
        facts.push(("embedding", text.embedding.to_string()));
        facts.push(("keep_case", text.keep_case.to_string()));
    }
    if let Some(longest) = config.longest {
        facts.push(("longest", longest.to_string()));
    }
    facts.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// The wrong ones that the model was the surest of.
fn mistakes(
    model: &ClassModel,
    engine: &Engine,
    weights: &NamedTensors,
    part: &Examples,
) -> Result<Table> {
    let classes = &model.config().classes;
    let targets = part.known_targets(classes)?;
    let rows = model.probabilities(engine, weights, part.content())?;
    let mut wrong = Vec::new();
    for (i, (row, &target)) in rows.iter().zip(&targets).enumerate() {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        if let Some((class, &p)) = best.filter(|best| Some(best.0 as u32) != target) {
            wrong.push((p, i, class));
        }
    }
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0));
    let header = ["where", "label", "predicted", "probability", "text"];
    let columns = if matches!(part.content(), Content::Texts(_)) { 5 } else { 4 };
    let mut table =
        Table::new("The mistakes it was the surest of", header.into_iter().take(columns));
    for (p, i, class) in wrong.into_iter().take(MISTAKES) {
        let (file, unit, place) = part.place(i);
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let mut cells = vec![
            format!("{file}, {unit} {place}"),
            part.labels().get(i).cloned().unwrap_or_default(),
            classes.get(class).cloned().unwrap_or_default(),
            format!("{p:.3}"),
        ];
        if let Content::Texts(list) = part.content() {
            let text = list.get(i).map_or("", String::as_str);
            let shown: String = text.chars().take(SHOWN).collect();
            let more = if text.chars().count() > SHOWN { "…" } else { "" };
            cells.push(format!("{shown}{more}"));
        }
        table = table.row(cells);
    }
    Ok(table)
}

/// What can't be right, if anything.
fn unknown(score: &ClassScore) -> Option<String> {
    let (n, all) = (score.unknown_labels, score.sequences);
    (n > 0).then(|| {
        format!("{n} of {all} have labels that the model did not learn: they count as wrong")
    })
}

/// The score in a line, with guessing beside each figure.
fn summary(score: &ClassScore) -> String {
    let guess = &score.majority;
    format!(
        "accuracy {} ({:.1} to {:.1}; guessing {}), {:.4} nats ({:.4}), macro F1 {:.4} ({:.4})",
        percent(score.accuracy),
        100.0 * score.interval.low,
        100.0 * score.interval.high,
        percent(guess.accuracy),
        score.loss,
        guess.loss,
        score.macro_f1,
        guess.macro_f1
    )
}

/// The score in lines.
pub fn lines(score: &ClassScore) -> Vec<String> {
    let guess = &score.majority;
    let label = &guess.label;
    let mut lines = vec![
        format!("sequences    {}", score.sequences),
        format!(
            "accuracy     {}, in 95 % of such samples {:.2} to {:.2} %; of '{label}' for all {}",
            percent(score.accuracy),
            100.0 * score.interval.low,
            100.0 * score.interval.high,
            percent(guess.accuracy)
        ),
        format!(
            "loss         {:.4} nats; of the classes' shares in training {:.4}",
            score.loss, guess.loss
        ),
        format!(
            "macro        F1 {:.4}, precision {:.4}, recall {:.4}; F1 of '{label}' for all {:.4}",
            score.macro_f1, score.macro_precision, score.macro_recall, guess.macro_f1
        ),
        format!(
            "confidence   {} on average; right as often but for {} (calibration error)",
            percent(score.confidence),
            percent(score.calibration_error)
        ),
    ];
    lines.extend(unknown(score).map(|unknown| format!("unknown      {unknown}")));
    lines.push(String::new());
    let widest = score.classes.iter().map(|c| c.label.chars().count()).max().unwrap_or(0).max(5);
    lines.push(format!(
        "{:<widest$}  {:>9}  {:>8}  {:>8}  {:>9}  {:>9}",
        "class", "precision", "recall", "F1", "sequences", "predicted"
    ));
    for class in &score.classes {
        lines.push(format!(
            "{:<widest$}  {:>9.4}  {:>8.4}  {:>8.4}  {:>9}  {:>9}",
            class.label, class.precision, class.recall, class.f1, class.support, class.predicted
        ));
    }
    lines.push(String::new());
    for bucket in &score.by_length {
        lines.push(format!(
            "{:>5} to {:>5} steps: {} of {}",
            bucket.shortest,
            bucket.longest,
            percent(bucket.accuracy),
            bucket.count
        ));
    }
    lines.push(String::new());
    lines.push(score.verdict());
    lines
}
