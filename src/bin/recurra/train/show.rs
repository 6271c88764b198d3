//! What a run shows: the progress bar, JSON lines, the log.

use super::session::Unit;
use super::watch::{Board, Looks};
use crate::args::{json_line, print_line};
#[cfg(feature = "dashboard")]
use crate::dashboard::{Dashboard, DashboardEvent, StepReport};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recurra::Result;
use recurra::train::{Best, Event, LogLine, MemberLosses, Progress, TrainLog};

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
    pub board: Option<Board>,
    pub looks: Option<Looks>,
    /// Steps between two lines of the training loss, where no validation tells of the run.
    pub tell_every: Option<u64>,
    #[cfg(feature = "dashboard")]
    pub dashboard: Option<Dashboard>,
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
        Show {
            json,
            unit,
            bar,
            log,
            last: None,
            validation: None,
            pending: Vec::new(),
            board: None,
            looks: None,
            tell_every: None,
            #[cfg(feature = "dashboard")]
            dashboard: None,
        }
    }

    pub fn event(&mut self, event: &Event) -> Result<()> {
        if let Some(board) = &mut self.board {
            board.event(event)?;
        }
        #[cfg(feature = "dashboard")]
        if let Some(dashboard) = &self.dashboard {
            tell(dashboard, event);
        }
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
                    learning_rate: (step == progress.step).then_some(progress.learning_rate),
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
                let told = |every: u64| progress.step.is_multiple_of(every);
                if !self.json && self.tell_every.is_some_and(told) {
                    let Progress { step, loss, elapsed, .. } = progress;
                    let bits = self.unit.bits(*loss);
                    self.print(&format!("step {step:6}  loss {loss:.4}{bits}  {elapsed:.0} s"));
                }
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
            Event::Look(view) => {
                if let Some(looks) = &mut self.looks {
                    looks.add(view)?;
                }
            }
            Event::Best { .. } | Event::Saved(_) => {}
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

    /// Whether somebody looks at what the model makes while it learns.
    pub fn tells_samples(&self) -> bool {
        #[cfg(feature = "dashboard")]
        if self.dashboard.is_some() {
            return true;
        }
        self.board.is_some()
    }

    /// Tells what the model made.
    pub fn sample(&mut self, step: u64, text: &str) -> Result<()> {
        #[cfg(feature = "dashboard")]
        if let Some(dashboard) = &self.dashboard {
            dashboard.send(DashboardEvent::Sample(text.to_string()));
        }
        match &mut self.board {
            Some(board) => board.text(step, "sample", text),
            None => Ok(()),
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

    pub fn summary(&self, seeds: impl Iterator<Item = u64>, bests: &[Best]) {
        if let (Some(last), None) = (self.last, &self.validation) {
            let Progress { step, loss, elapsed, .. } = last;
            let bits = self.unit.bits(loss);
            eprintln!("done     {step} steps in {elapsed:.0} s; training loss {loss:.4}{bits}");
        }
        if let (Some(last), Some(validation)) = (self.last, &self.validation) {
            eprintln!(
                "done     {} steps in {:.0} s; validation loss {}{}",
                last.step,
                last.elapsed,
                with_spread(validation),
                self.unit.bits(validation.mean())
            );
            if let (None, Some(Best { loss, step })) = (validation.spread(), bests.first())
                && *step < last.step
            {
                let bits = self.unit.bits(*loss);
                eprintln!("best     {loss:.4}{bits} after step {step}: the model");
            }
            if validation.spread().is_some() {
                for ((seed, loss), best) in seeds.zip(&validation.0).zip(bests) {
                    eprintln!("seed {seed:<4} validation loss {loss:.4}, best {:.4}", best.loss);
                }
            }
        }
    }
}

/// The dashboard's events of a run's.
#[cfg(feature = "dashboard")]
fn tell(dashboard: &Dashboard, event: &Event) {
    match event {
        Event::Losses(progress, losses) => {
            let first = progress.step + 1 - losses.len() as u64;
            for (losses, step) in losses.iter().zip(first..) {
                dashboard.send(DashboardEvent::Step(StepReport {
                    step,
                    loss: losses.mean(),
                    rate: (step == progress.step).then_some(progress.learning_rate),
                    gradient_norm: progress.gradient_norm.filter(|_| step == progress.step),
                    symbols_per_second: Some(progress.symbols_per_second),
                    elapsed: progress.elapsed,
                }));
            }
        }
        Event::Validation(progress, losses) => {
            let (step, loss) = (progress.step, losses.mean());
            dashboard.send(DashboardEvent::Validation { step, loss });
        }
        Event::Look(view) => {
            let lines = view.verdict().into_iter();
            lines.for_each(|line| dashboard.send(DashboardEvent::Message(line)));
        }
        Event::Best { step, loss, .. } => {
            let text = format!("step {step}: validation {loss:.4} is the best so far");
            dashboard.send(DashboardEvent::Message(text));
        }
        Event::Saving(_) => {}
        Event::Saved(step) => {
            dashboard.send(DashboardEvent::Message(format!("checkpoint of step {step}")));
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
