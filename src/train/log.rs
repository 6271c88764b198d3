//! The record of a run: a JSON line a step, in the model folder.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file in the model folder.
pub const LOG: &str = "log.jsonl";

/// One step, as `recurra train --json` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Steps done.
    pub step: u64,
    /// The training loss of the step; of a language model in nats a token.
    pub loss: f32,
    /// Of an ensemble, whose losses are means: their standard deviation over the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_spread: Option<f32>,
    /// The validation loss after the step, where it was evaluated.
    pub val_loss: Option<f32>,
    /// Its standard deviation over the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss_spread: Option<f32>,
    /// Of a model of characters, the training loss in bits: loss / ln 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_char: Option<f32>,
    /// Characters trained on per second, of such a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chars_per_second: Option<f64>,
    /// Symbols (characters, words, time steps) trained on per second.
    #[serde(default)]
    pub symbols_per_second: f64,
    /// The learning rate, at the last step of a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f32>,
    /// The norm of all gradients before clipping, at the last step of a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f32>,
    /// Seconds since the run, or its resumption, began.
    pub elapsed_s: f64,
}

/// The log file of a run, and its lines.
pub struct TrainLog {
    path: PathBuf,
    file: BufWriter<File>,
    lines: Vec<LogLine>,
}

impl TrainLog {
    /// Opens the log of a folder and keeps its lines up to `step`, the checkpoint's: later ones
    /// will be written again. A last line that was cut short is dropped.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(LOG);
        let old = match std::fs::read(&path) {
            Ok(bytes) if step > 0 => bytes,
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(&path, "read", e));
            }
            _ => Vec::new(),
        };
        // A line that was cut short, or is no text, is dropped.
        let whole = old.split(|&b| b == b'\n');
        let lines: Vec<LogLine> = whole.filter_map(|l| serde_json::from_slice(l).ok()).collect();
        let lines: Vec<LogLine> = lines.into_iter().filter(|l| l.step <= step).collect();
        let mut text = String::new();
        for line in &lines {
            text.push_str(&json(line));
            text.push('\n');
        }
        crate::format::write_atomic(&path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = BufWriter::new(file.map_err(|e| Error::io(&path, "write", e))?);
        Ok(TrainLog { path, file, lines })
    }

    /// Appends lines.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn append(&mut self, lines: &[LogLine]) -> Result<()> {
        let mut write = || {
            for line in lines {
                writeln!(self.file, "{}", json(line))?;
            }
            self.file.flush()
        };
        write().map_err(|e| Error::io(&self.path, "write", e))?;
        self.lines.extend_from_slice(lines);
        Ok(())
    }

    /// All lines, in the order of their steps.
    pub fn lines(&self) -> &[LogLine] {
        &self.lines
    }

    /// Whether there is a loss at all.
    pub fn has_losses(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Training losses by step.
    pub fn training(&self) -> Vec<(u64, f32)> {
        self.lines.iter().map(|l| (l.step, l.loss)).collect()
    }

    /// Validation losses by step.
    pub fn validation(&self) -> Vec<(u64, f32)> {
        self.lines.iter().filter_map(|l| Some((l.step, l.val_loss?))).collect()
    }
}

fn json(line: &LogLine) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resuming_keeps_the_lines_up_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let line = |step| LogLine {
            step,
            loss: 1.0,
            loss_spread: None,
            val_loss: (step % 2 == 0).then_some(2.0),
            val_loss_spread: None,
            bits_per_char: Some(1.44),
            chars_per_second: None,
            symbols_per_second: 10.0,
            learning_rate: Some(0.1),
            gradient_norm: None,
            elapsed_s: 0.5,
        };
        let mut log = TrainLog::open(folder.path(), 0).unwrap();
        log.append(&[line(1), line(2), line(3)]).unwrap();
        std::fs::write(folder.path().join("x"), "").unwrap();
        let text = std::fs::read_to_string(folder.path().join(LOG)).unwrap();
        std::fs::write(folder.path().join(LOG), text + "{\"step\": 4, \"lo").unwrap();
        let log = TrainLog::open(folder.path(), 2).unwrap();
        assert_eq!(log.training(), [(1, 1.0), (2, 1.0)]);
        assert_eq!(log.validation(), [(2, 2.0)]);
        assert!(TrainLog::open(folder.path(), 0).unwrap().training().is_empty());
    }
}
