//! Schedules of the learning rate: factors of a highest rate.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

/// How the learning rate goes over the steps of a run, as a factor of the highest rate: linearly up over the
/// first W steps, step s having s/W, then along a shape whose first step is W + 1.
///
/// As text, for a command line: a shape, or `warm-up:W+` and a shape. Shapes are `constant`,
/// `step:EVERY:FACTOR`, `multi-step:AT,AT,…:FACTOR`, `exponential:FACTOR`, `cosine` or `cosine:MINIMUM`,
/// `one-cycle` or `one-cycle:RISE`, `plateau`, `plateau:FACTOR` or `plateau:FACTOR:PATIENCE`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// W; 0 for none.
    #[serde(default)]
    pub warm_up: u64,
    /// What comes then.
    #[serde(default)]
    pub shape: Shape,
}

/// The shape of a schedule. k counts its steps from 0, n is how many it has: those of the run without the
/// warm-up. Equations are those of PyTorch's schedulers of the same names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// 1.
    #[default]
    Constant,
    /// γ^⌊k / every⌋.
    Step {
        /// Steps from one change to the next.
        every: u64,
        /// γ.
        factor: f64,
    },
    /// γ to the number of `at` that are k at most.
    MultiStep {
        /// The steps k at which it changes.
        at: Vec<u64>,
        /// γ.
        factor: f64,
    },
    /// γ^k.
    Exponential {
        /// γ.
        factor: f64,
    },
    /// m + (1 − m)·(1 + cos(π·k/n)) / 2 (Loshchilov and Hutter 2017, "SGDR", equation 5).
    Cosine {
        /// m.
        minimum: f64,
    },
    /// Up from 1/d to 1 at step rise·n − 1, then down to 1/(d·e) at step n − 1, along half a cosine each, or
    /// lines (Smith and Topin 2018, "Super-convergence").
    OneCycle {
        /// The share of the steps that go up.
        rise: f64,
        /// d.
        division: f64,
        /// e.
        final_division: f64,
        /// Along lines.
        linear: bool,
    },
    /// Falls where a validated quantity has stopped getting better.
    Plateau(Plateau),
}

/// PyTorch's `ReduceLROnPlateau`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// What is better.
    pub mode: Mode,
    /// γ: what the rate is multiplied with.
    pub factor: f64,
    /// Checks in a row that may be no better before the rate falls at the next one.
    pub patience: u64,
    /// θ: by how much a better value has to be better.
    pub threshold: f64,
    /// θ is a share of the best value, else a difference to it.
    pub relative: bool,
    /// Checks after a fall that are not counted.
    pub cooldown: u64,
    /// What the factor doesn't fall below, a share of the highest rate.
    pub minimum: f64,
}

/// Which way a quantity gets better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Down: a loss.
    #[default]
    Min,
    /// Up: an accuracy.
    Max,
}

impl Default for Plateau {
    /// PyTorch's constants.
    fn default() -> Self {
        Plateau {
            mode: Mode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            relative: true,
            cooldown: 0,
            minimum: 0.0,
        }
    }
}

/// What a schedule remembers from check to check; a checkpoint must keep it where the shape is a plateau.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleState {
    /// The product of all falls.
    factor: f64,
    /// None before the first check.
    best: Option<f64>,
    /// Checks in a row that were no better.
    bad: u64,
    /// Checks that are still not counted.
    cooling: u64,
}

impl Default for ScheduleState {
    fn default() -> Self {
        ScheduleState { factor: 1.0, best: None, bad: 0, cooling: 0 }
    }
}

impl From<Shape> for Schedule {
    /// Without a warm-up.
    fn from(shape: Shape) -> Self {
        Schedule { warm_up: 0, shape }
    }
}

impl Shape {
    /// A cosine down to `minimum` of the highest rate.
    pub fn cosine(minimum: f64) -> Self {
        Shape::Cosine { minimum }
    }

    /// PyTorch's constants: 0.3 of the steps go up, from 1/25, and the others down to 1/250,000.
    pub fn one_cycle() -> Self {
        Shape::OneCycle { rise: 0.3, division: 25.0, final_division: 1e4, linear: false }
    }

    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::invalid(format!("the learning rate's {what}")));
        match self {
            Shape::Constant => Ok(()),
            Shape::Step { every: 0, .. } => bad("steps must be 1 or more apart, not 0".into()),
            Shape::Step { factor, .. }
            | Shape::MultiStep { factor, .. }
            | Shape::Exponential { factor } => match *factor > 0.0 && factor.is_finite() {
                true => Ok(()),
                false => bad(format!("factor must be positive, not {factor}")),
            },
            Shape::Cosine { minimum } => match (0.0..=1.0).contains(minimum) {
                true => Ok(()),
                false => bad(format!("minimum must be in [0, 1], not {minimum}")),
            },
            Shape::OneCycle { rise, division, final_division, .. } => {
                if !(0.0..=1.0).contains(rise) {
                    return bad(format!("share of rising steps must be in [0, 1], not {rise}"));
                }
                let divisions = [division, final_division].into_iter();
                match divisions.copied().find(|d| !(*d >= 1.0 && d.is_finite())) {
                    Some(division) => bad(format!("division must be 1 or more, not {division}")),
                    None => Ok(()),
                }
            }
            Shape::Plateau(Plateau { factor, threshold, minimum, .. }) => {
                if !(*factor > 0.0 && *factor < 1.0) {
                    return bad(format!("factor at a plateau must be in (0, 1), not {factor}"));
                }
                match [threshold, minimum].into_iter().find(|x| !(0.0..=1.0).contains(*x)) {
                    Some(x) => bad(format!("threshold and minimum must be in [0, 1], not {x}")),
                    None => Ok(()),
                }
            }
        }
    }

    /// The factor of step `k` of `n`.
    fn factor(&self, k: u64, n: u64) -> f64 {
        let power = |factor: f64, n: u64| factor.powf(n as f64);
        let k_of_n = |n: f64| if n > 0.0 { (k as f64 / n).min(1.0) } else { 1.0 };
        match self {
            Shape::Constant | Shape::Plateau(_) => 1.0,
            Shape::Step { every, factor } => power(*factor, k / (*every).max(1)),
            Shape::MultiStep { at, factor } => {
                power(*factor, at.iter().filter(|at| **at <= k).count() as u64)
            }
            Shape::Exponential { factor } => power(*factor, k),
            Shape::Cosine { minimum } => {
                minimum + (1.0 - minimum) * (1.0 + (PI * k_of_n(n as f64)).cos()) / 2.0
            }
            Shape::OneCycle { rise, division, final_division, linear } => {
                let between = |from: f64, to: f64, part: f64| match linear {
                    true => from + (to - from) * part,
                    false => to + (from - to) / 2.0 * (1.0 + (PI * part).cos()),
                };
                // Of very short runs the rise ends before the first step, as PyTorch has it.
                let (top, last) = (rise * n as f64 - 1.0, n as f64 - 1.0);
                let first = 1.0 / division;
                if (k as f64) < top {
                    return between(first, 1.0, k_of_n(top));
                }
                let fall = last - top;
                let part = if fall > 0.0 { ((k as f64 - top) / fall).min(1.0) } else { 0.0 };
                between(1.0, first / final_division, part)
            }
        }
    }
}

impl Schedule {
    /// Whether its numbers make sense.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<()> {
        self.shape.check()
    }

    /// Factor of the highest rate at step `step` (from 1) of `steps`; beyond the last, the last one's.
    pub fn factor(&self, step: u64, steps: u64, state: &ScheduleState) -> f64 {
        if self.warm_up > 0 && step <= self.warm_up {
            return step as f64 / self.warm_up as f64 * state.factor;
        }
        let k = step.saturating_sub(1).saturating_sub(self.warm_up);
        self.shape.factor(k, steps.saturating_sub(self.warm_up)) * state.factor
    }

    /// The learning rate of step `step` (from 1) of `steps`, `highest` times the factor.
    pub fn rate(&self, highest: f32, step: u64, steps: u64, state: &ScheduleState) -> f32 {
        (f64::from(highest) * self.factor(step, steps, state)) as f32
    }

    /// Takes in what a validation measured; whether the rate falls. Only a plateau asks for it.
    pub fn observe(&self, state: &mut ScheduleState, value: f64) -> bool {
        let Shape::Plateau(plateau) = &self.shape else { return false };
        // What is no number is never better.
        let is_better = state.best.is_none_or(|best| plateau.is_better(value, best));
        if is_better && value.is_finite() {
            (state.best, state.bad) = (Some(value), 0);
        } else {
            state.bad += 1;
        }
        if state.cooling > 0 {
            (state.cooling, state.bad) = (state.cooling - 1, 0);
        }
        if state.bad <= plateau.patience {
            return false;
        }
        (state.cooling, state.bad) = (plateau.cooldown, 0);
        let factor = (state.factor * plateau.factor).max(plateau.minimum);
        let falls = factor < state.factor;
        state.factor = factor;
        falls
    }
}

impl Plateau {
    fn is_better(&self, value: f64, best: f64) -> bool {
        match (self.mode, self.relative) {
            (Mode::Min, true) => value < best - self.threshold * best.abs(),
            (Mode::Min, false) => value < best - self.threshold,
            (Mode::Max, true) => value > best + self.threshold * best.abs(),
            (Mode::Max, false) => value > best + self.threshold,
        }
    }
}

const WARM_UP: &str = "warm-up:";

const KNOWN: &str = "constant, step:EVERY:FACTOR, multi-step:AT,AT:FACTOR, exponential:FACTOR, \
                     cosine[:MINIMUM], one-cycle[:RISE], plateau[:FACTOR[:PATIENCE]], \
                     each after warm-up:STEPS+ or not";

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: &str| {
            Error::invalid(format!("schedule '{text}': {what}; schedules are {KNOWN}"))
        };
        let (warm_up, shape) = match text.strip_prefix(WARM_UP) {
            None => (0, text),
            Some(rest) => {
                let (steps, shape) = rest.split_once('+').ok_or(bad("no shape after a '+'"))?;
                (
                    steps.parse().map_err(|_| bad(&format!("'{steps}' is no number of steps")))?,
                    shape,
                )
            }
        };
        let whole = |text: &str| -> Result<u64> {
            text.trim().parse().map_err(|_| bad(&format!("'{text}' is no whole number")))
        };
        let number = |text: &str| -> Result<f64> {
            text.trim().parse().map_err(|_| bad(&format!("'{text}' is no number")))
        };
        let parts: Vec<&str> = shape.split(':').collect();
        let shape = match parts[..] {
            ["constant"] => Shape::Constant,
            ["step", every, factor] => {
                Shape::Step { every: whole(every)?, factor: number(factor)? }
            }
            ["multi-step", at, factor] => {
                let at = at.split(',').map(whole).collect::<Result<_>>()?;
                Shape::MultiStep { at, factor: number(factor)? }
            }
            ["exponential", factor] => Shape::Exponential { factor: number(factor)? },
            ["cosine"] => Shape::cosine(0.0),
            ["cosine", minimum] => Shape::cosine(number(minimum)?),
            ["one-cycle"] => Shape::one_cycle(),
            ["one-cycle", share] => match Shape::one_cycle() {
                Shape::OneCycle { division, final_division, linear, .. } => {
                    Shape::OneCycle { rise: number(share)?, division, final_division, linear }
                }
                other => other,
            },
            ["plateau"] => Shape::Plateau(Plateau::default()),
            ["plateau", factor] => {
                Shape::Plateau(Plateau { factor: number(factor)?, ..Plateau::default() })
            }
            ["plateau", factor, patience] => {
                let (factor, patience) = (number(factor)?, whole(patience)?);
                Shape::Plateau(Plateau { factor, patience, ..Plateau::default() })
            }
            _ => return Err(bad("not known")),
        };
        let schedule = Schedule { warm_up, shape };
        schedule.check().map_err(|e| bad(&e.to_string()))?;
        Ok(schedule)
    }
}

impl fmt::Display for Schedule {
    /// The text that is parsed; what it can't say is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.warm_up > 0 {
            write!(f, "{WARM_UP}{}+", self.warm_up)?;
        }
        match &self.shape {
            Shape::Constant => write!(f, "constant"),
            Shape::Step { every, factor } => write!(f, "step:{every}:{factor}"),
            Shape::MultiStep { at, factor } => {
                let at: Vec<String> = at.iter().map(u64::to_string).collect();
                write!(f, "multi-step:{}:{factor}", at.join(","))
            }
            Shape::Exponential { factor } => write!(f, "exponential:{factor}"),
            Shape::Cosine { minimum } => write!(f, "cosine:{minimum}"),
            Shape::OneCycle { rise, .. } => write!(f, "one-cycle:{rise}"),
            Shape::Plateau(Plateau { factor, patience, .. }) => {
                write!(f, "plateau:{factor}:{patience}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of densities are often below 0: a share of the best is a distance there too.
    #[test]
    fn a_worse_loss_below_zero_is_no_better() {
        let schedule: Schedule = "plateau:0.5:1".parse().unwrap();
        let mut state = ScheduleState::default();
        let falls = [-1.0, -0.99995, -0.9999, -2.0].map(|loss| schedule.observe(&mut state, loss));
        assert_eq!(falls, [false, false, true, false]);
    }

    #[test]
    fn texts_are_read_and_written() {
        for text in [
            "constant",
            "step:1000:0.5",
            "multi-step:10,20,40:0.1",
            "exponential:0.999",
            "cosine:0.05",
            "one-cycle:0.25",
            "plateau:0.5:3",
            "warm-up:100+cosine:0",
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), text);
            let json = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule, "{json}");
        }
        let short = |text: &str| text.parse::<Schedule>().unwrap().shape;
        assert_eq!(short("cosine"), Shape::cosine(0.0));
        assert_eq!(short("one-cycle"), Shape::one_cycle());
        assert_eq!(short("plateau"), Shape::Plateau(Plateau::default()));
        for (text, what) in [
            ("", "not known"),
            ("cosinus", "cosine[:MINIMUM]"),
            ("step:0:0.5", "1 or more apart"),
            ("step:x:0.5", "'x' is no whole number"),
            ("step:10", "step:EVERY:FACTOR"),
            ("exponential:-1", "must be positive"),
            ("cosine:2", "[0, 1]"),
            ("one-cycle:NaN", "[0, 1]"),
            ("plateau:1", "(0, 1)"),
            ("warm-up:5", "no shape"),
            ("warm-up:a+cosine", "'a' is no number of steps"),
        ] {
            let got = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(got.contains(what) && got.contains(&format!("'{text}'")), "{text}: {got}");
        }
    }

    /// PyTorch 2.15's factors of runs that are too short for a rise.
    #[test]
    fn short_cycles_are_pytorchs() {
        let pytorch: [(&str, &[f64]); 2] = [
            ("one-cycle:0.3", &[0.9944154354509117, 0.46263710266697505, 4e-6]),
            (
                "one-cycle:0.05",
                &[
                    0.9847001941691333,
                    0.894570676417178,
                    0.7379747446237508,
                    0.5412915075774754,
                    0.3376529147965967,
                    0.16136256875027283,
                    0.042117168219124555,
                    4e-6,
                ],
            ),
        ];
        let state = ScheduleState::default();
        for (text, factors) in pytorch {
            let schedule: Schedule = text.parse().unwrap();
            for (k, factor) in factors.iter().enumerate() {
                let ours = schedule.factor(k as u64 + 1, factors.len() as u64, &state);
                assert!((ours - factor).abs() < 1e-12, "{text} {k}: {ours}, {factor}");
            }
        }
    }

    /// Whatever the lengths, factors are numbers between 0 and 1, and the last holds.
    #[test]
    fn odd_lengths_make_no_trouble() {
        let state = ScheduleState::default();
        for text in ["cosine:0.1", "one-cycle", "one-cycle:0", "one-cycle:1", "exponential:0.9"] {
            for warm_up in [0, 1, 5, 100] {
                let shape = text.parse::<Schedule>().unwrap().shape;
                let schedule = Schedule { warm_up, shape };
                for steps in [0, 1, 2, 3, 7, 100, 101, 105] {
                    for step in 0..300 {
                        let factor = schedule.factor(step, steps, &state);
                        assert!(
                            (0.0..=1.0).contains(&factor),
                            "{schedule} {step}/{steps}: {factor}"
                        );
                    }
                    let end = |step: u64| schedule.factor(step, steps, &state);
                    if steps > warm_up && text != "exponential:0.9" && text != "cosine:0.1" {
                        assert_eq!(end(steps), end(steps + 50), "{schedule} of {steps}");
                    }
                }
            }
        }
    }
}
