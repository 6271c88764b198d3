//! What a run shows: the progress bar, JSON lines, the log.

use super::session::Unit;
use crate::args::{json_line, print_line};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recurra::Result;
use recurra::train::{Event, LogLine, MemberLosses, Progress, TrainLog};

/// What the run shows and logs.
pub struct Show {
    json: bool,
    unit: Unit,
    pub bar: ProgressBar,
    pub log: TrainLog,
    /// The lines of the last report, held back until it is known whether an evaluation follows.
    last: Option<Progress>,
    pub validation: Option<MemberLosses>,
    pending: Vec<LogLine>,
}

impl Show {
    pub fn new(json: bool, unit: Unit, steps: u64, step: u64, log: TrainLog) -> Self {
        let bar = ProgressBar::new(steps).with_position(step);
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
        Show { json, unit, bar, log, last: None, validation: None, pending: Vec::new() }
    }

    pub fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Losses(progress, losses) => {
                self.flush()?;
                let characters = self.unit.symbol == "character";
                let first = progress.step + 1 - losses.len() as u64;
                self.pending.extend(losses.iter().zip(first..).map(|(losses, step)| LogLine {
                    step,
                    loss: losses.mean(),
                    loss_spread: losses.spread(),
                    val_loss: None,
                    val_loss_spread: None,
                    bits_per_char: characters.then(|| losses.mean() / std::f32::consts::LN_2),
                    chars_per_second: characters.then_some(progress.symbols_per_second),
                    symbols_per_second: progress.symbols_per_second,
                    learning_rate: progress.learning_rate,
                    gradient_norm: progress.gradient_norm.filter(|_| step == progress.step),
                    elapsed_s: progress.elapsed,
                }));
                self.bar.set_position(progress.step);
                self.bar.set_message(format!(
                    "loss {:.3}{} {:.0} {}s/s",
                    progress.loss,
                    self.unit.bits(progress.loss),
                    progress.symbols_per_second,
                    self.unit.symbol
                ));
                self.last = Some(*progress);
            }
            Event::Validation(progress, losses) => {
                if let Some(line) = self.pending.last_mut() {
                    line.val_loss = Some(losses.mean());
                    line.val_loss_spread = losses.spread();
                }
                self.validation = Some(losses.clone());
                self.flush()?;
                if !self.json {
                    let line = format!(
                        "step {:6}  loss {:.4}  validation {}{}  {:.0} s",
                        progress.step,
                        progress.loss,
                        with_spread(losses),
                        self.unit.bits(losses.mean()),
                        progress.elapsed
                    );
                    self.print(&line);
                }
            }
            Event::Saving(_) => self.flush()?,
            Event::Look(_) | Event::Best { .. } | Event::Saved(_) => {}
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

    pub fn summary(&self, seeds: impl Iterator<Item = u64>) {
        if let (Some(last), Some(validation)) = (self.last, &self.validation) {
            eprintln!(
                "done     {} steps in {:.0} s; validation loss {}{}",
                last.step,
                last.elapsed,
                with_spread(validation),
                self.unit.bits(validation.mean())
            );
            if validation.spread().is_some() {
                for (seed, loss) in seeds.zip(&validation.0) {
                    eprintln!("seed {seed:<4} validation loss {loss:.4}");
                }
            }
        }
    }
}

/// The mean, and of an ensemble the standard deviation behind it.
fn with_spread(losses: &MemberLosses) -> String {
    match losses.spread() {
        Some(spread) => format!("{:.4} ± {spread:.4}", losses.mean()),
        None => format!("{:.4}", losses.mean()),
    }
}
