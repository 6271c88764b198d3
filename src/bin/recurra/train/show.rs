//! What a run shows: the progress bar, JSON lines, the log.

use super::options::TrainingConfig;
use crate::args::{json_line, print_line};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recurra::Result;
use recurra::train::{Event, LogLine, Progress, TrainLog};

/// What the run shows and logs.
pub struct Show {
    json: bool,
    pub bar: ProgressBar,
    pub log: TrainLog,
    /// The lines of the last report, held back until it is known whether an evaluation follows.
    last: Option<Progress>,
    validation: Option<f32>,
    pending: Vec<LogLine>,
}

impl Show {
    pub fn new(json: bool, config: &TrainingConfig, step: u64, log: TrainLog) -> Self {
        let bar = ProgressBar::new(config.steps).with_position(step);
        bar.set_draw_target(if json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        });
        let template = "{bar:24} {pos}/{len} {msg} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.reset_eta();
        Show { json, bar, log, last: None, validation: None, pending: Vec::new() }
    }

    pub fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Losses(progress, losses) => {
                self.flush()?;
                let first = progress.step + 1 - losses.len() as u64;
                self.pending.extend(losses.iter().zip(first..).map(|(&loss, step)| LogLine {
                    step,
                    loss,
                    val_loss: None,
                    bits_per_char: loss / std::f32::consts::LN_2,
                    chars_per_second: progress.symbols_per_second,
                    elapsed_s: progress.elapsed,
                }));
                self.bar.set_position(progress.step);
                self.bar.set_message(format!(
                    "loss {:.3} ({:.2} bits/char) {:.0} chars/s",
                    progress.loss,
                    progress.loss / std::f32::consts::LN_2,
                    progress.symbols_per_second
                ));
                self.last = Some(*progress);
            }
            Event::Validation(progress, loss) => {
                if let Some(line) = self.pending.last_mut() {
                    line.val_loss = Some(*loss);
                }
                self.validation = Some(*loss);
                self.flush()?;
                if !self.json {
                    let line = format!(
                        "step {:6}  loss {:.4}  validation {loss:.4} ({:.3} bits/char)  {:.0} s",
                        progress.step,
                        progress.loss,
                        loss / std::f32::consts::LN_2,
                        progress.elapsed
                    );
                    self.print(&line);
                }
            }
            Event::Saving(_) => self.flush()?,
            Event::Saved(_) => {}
        }
        Ok(())
    }

    /// Above the bar, or plainly where stderr is no terminal.
    fn print(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    pub fn flush(&mut self) -> Result<()> {
        if self.json {
            for line in &self.pending {
                print_line(&json_line(line)?)?;
            }
        }
        self.log.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    pub fn summary(&self) {
        if let (Some(last), Some(validation)) = (self.last, self.validation) {
            eprintln!(
                "done     {} steps in {:.0} s; validation loss {validation:.4} nats, \
                 {:.3} bits per character",
                last.step,
                last.elapsed,
                validation / std::f32::consts::LN_2
            );
        }
    }
}
