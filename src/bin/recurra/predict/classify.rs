//! `recurra predict` of a model of classes.

use super::PredictArgs;
use crate::args::{json_line, print_line};
use crate::train::classify::{ClassTraining, load};
use recurra::data::text_lines;
use recurra::engine::Engine;
use recurra::task::TaskModel;
use recurra::task::classify::{ClassModel, Content, Examples, Format, InputConfig, Reading};
use recurra::tensor::NamedTensors;
use recurra::{Error, Result};
use serde::Serialize;
use std::io::{BufRead, Cursor, Read};
use std::path::Path;

#[derive(Serialize)]
struct Prediction<'a> {
    /// Where it lies in its file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<usize>,
    label: &'a str,
    probability: f64,
    /// The likeliest classes.
    classes: Vec<ClassProbability<'a>>,
}

#[derive(Serialize)]
struct ClassProbability<'a> {
    label: &'a str,
    probability: f64,
}

/// A model and where it runs.
struct Predictor<'a> {
    args: &'a PredictArgs,
    model: ClassModel,
    weights: NamedTensors,
    engine: Engine,
}

pub fn run(args: &PredictArgs) -> Result<()> {
    let (model, training) = load(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let engine = args.engine()?;
    let predictor = Predictor { args, model, weights, engine };
    let file = args.input.as_deref().filter(|path| *path != Path::new("-"));
    let is_text = matches!(predictor.model.config().input, InputConfig::Text(_));
    let named_so = file.is_some_and(|file| {
        let name = file.to_string_lossy().to_lowercase();
        name.trim_end_matches(".gz").ends_with(".csv")
    });
    let (name, lines) = super::lines(args.input.as_deref())?;
    let mut lines = text_lines(&name, lines)?;
    let failed = |e| Error::io(&name, "read", e);
    let reading = training.reading();
    let ClassTraining { format, columns, .. } = training;
    // A table like those that were trained with, whatever it is called.
    let (mut first, mut format) = (Vec::new(), format.filter(|_| !columns.is_empty()));
    if let Some(own) = format {
        lines.read_until(b'\n', &mut first).map_err(failed)?;
        let text = String::from_utf8_lossy(&first);
        format = Some(own).filter(|&own| reading.is_header(&text, &columns, own));
    }
    let mut lines = Cursor::new(first).chain(lines);
    if is_text && !named_so && format.is_none() {
        return predictor.lines(&name, lines);
    }
    let mut bytes = Vec::new();
    lines.read_to_end(&mut bytes).map_err(failed)?;
    let found = Reading { format, ..reading }.parse(&name, bytes, None, false)?;
    if file.is_none() && found.format == Format::Lines {
        let what = "line 1: these are no numbers that the model could read";
        return Err(Error::format(name, what));
    }
    predictor.tell(&found.test.unwrap_or(found.examples), 0)
}

impl Predictor<'_> {
    /// Texts, a line each: as many at once as have come.
    fn lines(&self, name: &Path, mut lines: impl BufRead) -> Result<()> {
        let failed = |e| Error::io(name, "read", e);
        let (mut rest, mut done) = (Vec::new(), 0);
        loop {
            let come = lines.fill_buf().map_err(failed)?;
            let n = come.len();
            rest.extend_from_slice(come);
            lines.consume(n);
            let whole = match rest.iter().rposition(|&byte| byte == b'\n') {
                _ if n == 0 => rest.len(),
                Some(last) => last + 1,
                None => 0,
            };
            let texts: Vec<u8> = rest.drain(..whole).collect();
            if !texts.is_empty() {
                done += self.some(name, &texts, done)?;
            }
            if n == 0 {
                return Ok(());
            }
        }
    }

    /// Predicts whole lines behind `done` others; how many they are.
    fn some(&self, name: &Path, bytes: &[u8], done: usize) -> Result<usize> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut texts = Vec::new();
        for (i, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text = std::str::from_utf8(line).map_err(|e| {
                Error::format(name, format!("line {}: no UTF-8: {e}", done + i + 1))
            })?;
            texts.push(self.without_label(text).to_string());
        }
        let examples = Examples::texts(texts, Vec::new())?;
        self.tell(&examples, done)?;
        Ok(examples.len())
    }

    /// A text of a file that has labels too, of one of the forms whose lines are texts.
    fn without_label<'a>(&self, line: &'a str) -> &'a str {
        let classes = &self.model.config().classes;
        let known = |label: &str| classes.iter().any(|class| class == label.trim());
        if let Some((text, _)) = line.rsplit_once('\t').filter(|parts| known(parts.1)) {
            return text;
        }
        if let Some((_, text)) = line.split_once('\t').filter(|parts| known(parts.0)) {
            return text;
        }
        let rest = line.strip_prefix("__label__").and_then(|rest| rest.split_once(' '));
        rest.filter(|parts| known(parts.0)).map_or(line, |parts| parts.1)
    }

    /// A line for each, in their order.
    fn tell(&self, examples: &Examples, before: usize) -> Result<()> {
        let classes = &self.model.config().classes;
        let rows = self.model.probabilities(&self.engine, &self.weights, examples.content());
        let rows = rows.map_err(|e| match e {
            Error::Invalid(what) => examples.error_at(0, &what),
            other => other,
        })?;
        for (i, row) in rows.iter().enumerate() {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let all = order.iter().map(|&class| ClassProbability {
                label: classes.get(class).map_or("", String::as_str),
                probability: row[class],
            });
            let all: Vec<ClassProbability> = all.collect();
            let Some(best) = all.first() else { continue };
            let (label, probability) = (best.label, best.probability);
            let (_, unit, place) = examples.place(i);
            let place = place + before;
            let is_text = matches!(examples.content(), Content::Texts(_));
            let is_line = is_text || unit == "line";
            let result = Prediction {
                line: is_line.then_some(place),
                sequence: (!is_line).then_some(place),
                label,
                probability,
                classes: all.into_iter().take(self.args.likeliest()).collect(),
            };
            if self.args.json {
                print_line(&json_line(&result)?)?;
                continue;
            }
            let what = match examples.content() {
                Content::Texts(list) => list.get(i).cloned().unwrap_or_default(),
                Content::Numbers { width, list } => {
                    let steps = list.get(i).map_or(0, |own| own.len() / width);
                    format!("{unit} {place}, {steps} steps")
                }
            };
            let others = result.classes.iter().skip(1);
            let others: Vec<String> =
                others.map(|c| format!("{} {:.1} %", c.label, 100.0 * c.probability)).collect();
            let others = match others.is_empty() {
                true => String::new(),
                false => format!("  [{}]", others.join(", ")),
            };
            print_line(&format!("{label}  {:.1} %  {what}{others}", 100.0 * probability))?;
        }
        Ok(())
    }
}
