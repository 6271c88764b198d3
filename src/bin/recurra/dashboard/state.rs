//! What the dashboard knows of a run. Plain data: events change it, nothing else.

use std::collections::VecDeque;

/// Points that a curve keeps; with more, neighbours become one.
const MOST_POINTS: usize = 2048;
/// Values that a sparkline keeps.
const MOST_RECENT: usize = 512;
/// Messages that are kept.
const MOST_MESSAGES: usize = 100;
/// Reports that the speed is taken from.
const PACE_REPORTS: usize = 20;

/// What a run tells.
#[derive(Clone, Debug, PartialEq)]
pub enum DashboardEvent {
    /// The run begins, or goes on behind step `step`.
    Started {
        /// What is trained, as "lstm 2x128 on text.txt".
        title: String,
        /// On what.
        device: String,
        /// Steps done before.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Steps of one pass over the data.
        steps_per_epoch: u64,
    },
    /// A step is done.
    Step(StepReport),
    /// The validation loss after a step.
    Validation { step: u64, loss: f32 },
    /// What the model wrote.
    Sample(String),
    /// A line for the list of messages.
    Message(String),
}

/// What is known of a step; what is not measured is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Steps done.
    pub step: u64,
    /// The training loss.
    pub loss: f32,
    /// The learning rate.
    pub rate: Option<f32>,
    /// The norm of the gradients before clipping.
    pub gradient_norm: Option<f32>,
    /// Characters, samples … per second.
    pub symbols_per_second: Option<f64>,
    /// Seconds since the run, or its resumption, began.
    pub elapsed: f64,
}

/// A curve of any length in bounded memory: a point is the mean of as many as it takes.
#[derive(Clone, Debug)]
pub struct Curve {
    points: Vec<(f64, f64)>,
    /// How many values a point stands for, and those that are not a point yet.
    per_point: usize,
    pending: Vec<(f64, f64)>,
}

impl Default for Curve {
    fn default() -> Self {
        Curve { points: Vec::new(), per_point: 1, pending: Vec::new() }
    }
}

impl Curve {
    fn push(&mut self, step: u64, value: f32) {
        if !value.is_finite() {
            return;
        }
        self.pending.push((step as f64, f64::from(value)));
        if self.pending.len() < self.per_point {
            return;
        }
        self.points.push(mean(&self.pending));
        self.pending.clear();
        if self.points.len() >= MOST_POINTS {
            self.points = self.points.chunks(2).map(mean).collect();
            self.per_point *= 2;
        }
    }

    /// The points, in the order of their steps.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n)
}

/// The last values of something.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    values: VecDeque<f64>,
}

impl Recent {
    fn push(&mut self, value: f64) {
        if self.values.len() == MOST_RECENT {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// The last one.
    pub fn last(&self) -> Option<f64> {
        self.values.back().copied()
    }

    /// The last `count`, oldest first.
    pub fn latest(&self, count: usize) -> impl Iterator<Item = f64> {
        self.values.iter().skip(self.values.len().saturating_sub(count)).copied()
    }
}

/// What is shown.
#[derive(Clone, Debug, Default)]
pub struct DashboardState {
    pub title: String,
    pub device: String,
    pub step: u64,
    pub steps: u64,
    pub steps_per_epoch: u64,
    pub loss: Option<f32>,
    pub validation_loss: Option<f32>,
    pub best_validation: Option<(u64, f32)>,
    pub training: Curve,
    pub validation: Curve,
    pub rate: Recent,
    pub gradient_norm: Recent,
    pub speed: Recent,
    pub sample: String,
    /// Oldest first.
    pub messages: VecDeque<String>,
    /// Seconds.
    pub elapsed: f64,
    /// Whether the user asked the run to stop.
    pub stopping: bool,
    /// (seconds, steps) of the last reports.
    pace: VecDeque<(f64, u64)>,
}

impl DashboardState {
    /// Takes what the run tells.
    pub fn apply(&mut self, event: &DashboardEvent) {
        match event {
            DashboardEvent::Started { title, device, step, steps, steps_per_epoch } => {
                self.title.clone_from(title);
                self.device.clone_from(device);
                (self.step, self.steps, self.steps_per_epoch) = (*step, *steps, *steps_per_epoch);
                self.pace = VecDeque::from([(0.0, *step)]);
            }
            DashboardEvent::Step(report) => self.step(report),
            DashboardEvent::Validation { step, loss } => {
                self.validation.push(*step, *loss);
                self.validation_loss = Some(*loss);
                if loss.is_finite() && self.best_validation.is_none_or(|(_, best)| *loss < best) {
                    self.best_validation = Some((*step, *loss));
                }
            }
            DashboardEvent::Sample(text) => self.sample.clone_from(text),
            DashboardEvent::Message(text) => {
                if self.messages.len() == MOST_MESSAGES {
                    self.messages.pop_front();
                }
                self.messages.push_back(text.clone());
            }
        }
    }

    fn step(&mut self, report: &StepReport) {
        self.step = report.step;
        self.loss = Some(report.loss);
        self.elapsed = report.elapsed;
        self.training.push(report.step, report.loss);
        let recent = [
            (&mut self.rate, report.rate.map(f64::from)),
            (&mut self.gradient_norm, report.gradient_norm.map(f64::from)),
            (&mut self.speed, report.symbols_per_second),
        ];
        for (list, value) in recent {
            if let Some(value) = value.filter(|v| v.is_finite()) {
                list.push(value);
            }
        }
        if self.pace.len() > PACE_REPORTS {
            self.pace.pop_front();
        }
        self.pace.push_back((report.elapsed, report.step));
    }

    /// The share that is done, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { (self.step as f64 / self.steps as f64).min(1.0) }
    }

    /// Passes over the data.
    pub fn epoch(&self) -> Option<f64> {
        (self.steps_per_epoch > 0).then(|| self.step as f64 / self.steps_per_epoch as f64)
    }

    /// Seconds to the end, at the pace of the last reports.
    pub fn seconds_left(&self) -> Option<f64> {
        let (&(from, first), &(to, last)) = (self.pace.front()?, self.pace.back()?);
        let pace = (to - from) / last.checked_sub(first)? as f64;
        let left = self.steps.saturating_sub(self.step) as f64 * pace;
        left.is_finite().then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(step: u64, steps: u64) -> DashboardState {
        let mut state = DashboardState::default();
        state.apply(&DashboardEvent::Started {
            title: "lstm".to_string(),
            device: "cpu".to_string(),
            step,
            steps,
            steps_per_epoch: 50,
        });
        state
    }

    fn step(step: u64, elapsed: f64) -> DashboardEvent {
        DashboardEvent::Step(StepReport { step, loss: 2.0, elapsed, ..StepReport::default() })
    }

    #[test]
    fn time_left_follows_the_last_reports() {
        let mut state = started(100, 300);
        assert_eq!(state.seconds_left(), None);
        state.apply(&step(110, 20.0));
        assert_eq!(state.seconds_left(), Some(190.0 * 2.0));
        for i in 0..40 {
            state.apply(&step(111 + i, 20.0 + i as f64));
        }
        assert_eq!(
            (state.seconds_left(), state.epoch(), state.share()),
            (Some(150.0), Some(3.0), 0.5)
        );
        state.apply(&step(300, 500.0));
        assert_eq!(state.seconds_left(), Some(0.0));
    }

    #[test]
    fn curves_keep_their_ends_in_bounded_memory() {
        let mut curve = Curve::default();
        for i in 0..100_000 {
            curve.push(i, if i == 5 { f32::NAN } else { i as f32 });
        }
        let points = curve.points();
        assert!((1000..MOST_POINTS).contains(&points.len()));
        assert!(points[0].0 < 64.0 && points[points.len() - 1].0 > 99_000.0);
        assert!(points.iter().all(|(x, y)| (x - y).abs() < 1.0));
    }

    #[test]
    fn lists_are_bounded_and_nan_is_no_best_loss() {
        let mut state = started(0, 10);
        for i in 0..1000 {
            state.apply(&DashboardEvent::Message(i.to_string()));
        }
        assert_eq!((state.messages.len(), state.messages[99].as_str()), (100, "999"));
        for (step, loss) in [(1, 3.0), (2, f32::NAN), (3, 2.0), (4, 2.5)] {
            state.apply(&DashboardEvent::Validation { step, loss });
        }
        assert_eq!((state.best_validation, state.validation_loss), (Some((3, 2.0)), Some(2.5)));
    }
}
