//! Which learning rate? A short run whose rate rises from step to step tells (Smith 2017, "Cyclical
//! learning rates for training neural networks"): the loss falls fastest a little below the rates at which
//! it turns up. Here is what makes of such a run's losses an answer and a picture; nothing here trains.

use crate::error::{Error, Result};
use crate::report::{LineChart, Series, Stroke};

/// The fewest steps that tell anything.
const FEWEST: usize = 10;

/// Rates from the lowest to the highest, by equal factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateSweep {
    /// The rate of the first step.
    pub low: f32,
    /// The rate of the last step.
    pub high: f32,
    /// Steps in all.
    pub steps: u64,
}

impl RateSweep {
    /// A sweep over `steps` steps.
    ///
    /// # Errors
    /// The rates are not above 0, not finite or not in order, or there are fewer than ten steps.
    pub fn new(low: f32, high: f32, steps: u64) -> Result<Self> {
        if !(low > 0.0 && high > low && high.is_finite()) {
            return Err(Error::invalid(format!(
                "a sweep of learning rates goes from one above 0 to a larger one, not from {low} to {high}"
            )));
        }
        if steps < FEWEST as u64 {
            return Err(Error::invalid(format!(
                "a sweep of learning rates takes {FEWEST} steps or more, not {steps}"
            )));
        }
        Ok(RateSweep { low, high, steps })
    }

    /// The rate of step `step` (from 1); behind the last step, the last one's.
    pub fn rate(&self, step: u64) -> f32 {
        let share = (step.max(1) - 1) as f64 / (self.steps.max(2) - 1) as f64;
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        (low * (high / low).powf(share.min(1.0))) as f32
    }
}

/// Tells, loss by loss, when a sweep has seen enough: the loss is no number, or its running mean has risen
/// from its lowest by three times what it had fallen (by three tenths of the first loss, where it hardly
/// fell).
#[derive(Clone, Debug, Default)]
pub struct StopRule {
    losses: u32,
    mean: f64,
    first: f64,
    best: f64,
}

impl StopRule {
    /// How much of the running mean is the past.
    const PAST: f64 = 0.8;

    /// Takes the next loss; true: stop.
    pub fn stops(&mut self, loss: f32) -> bool {
        if !loss.is_finite() {
            return true;
        }
        self.losses = self.losses.saturating_add(1);
        self.mean = Self::PAST * self.mean + (1.0 - Self::PAST) * f64::from(loss);
        // The mean starts at 0, which is taken out again.
        let mean = self.mean / (1.0 - Self::PAST.powf(f64::from(self.losses)));
        if self.losses == 1 {
            (self.first, self.best) = (mean, mean);
        }
        self.best = self.best.min(mean);
        let fallen = (self.first - self.best).max(0.1 * self.first.abs());
        self.losses as usize > FEWEST / 2 && mean - self.best > 3.0 * fallen
    }
}

/// What a sweep tells.
#[derive(Clone, Debug, PartialEq)]
pub struct RateFinding {
    /// (rate, loss) as measured, up to where the loss diverged.
    pub measured: Vec<(f32, f32)>,
    /// The losses at the same rates, smoothed.
    pub smooth: Vec<f64>,
    /// The rate at which the loss was no number, or far above its lowest; none where it never was.
    pub diverged: Option<f32>,
    /// The rate of the lowest smoothed loss.
    pub minimum: f32,
    /// The rate at which the smoothed loss falls fastest, by the logarithm of the rate. None where the loss
    /// falls by no more than its noise.
    pub steepest: Option<f32>,
}

/// Looks at the losses of a sweep, one for each rate, in the order they were made.
///
/// # Errors
/// There are not as many losses as rates; the rates don't rise from above 0; or fewer than ten losses come
/// before the first that is no number.
pub fn find_rate(rates: &[f32], losses: &[f32]) -> Result<RateFinding> {
    if rates.len() != losses.len() {
        return Err(Error::shape("the losses of a sweep", &[rates.len()], &[losses.len()]));
    }
    let rises = rates.windows(2).all(|pair| pair[0] < pair[1]);
    if !rises || rates.iter().any(|r| !r.is_finite() || *r <= 0.0) {
        return Err(Error::invalid("the rates of a sweep have to rise, from above 0"));
    }
    let mut rule = StopRule::default();
    let end = losses.iter().position(|&loss| rule.stops(loss));
    let count = end.unwrap_or(losses.len());
    if count < FEWEST {
        return Err(Error::invalid(format!(
            "only {count} losses of the sweep can be used, {FEWEST} are needed: begin with a lower learning \
             rate, or take more steps"
        )));
    }
    let measured: Vec<_> =
        rates[..count].iter().copied().zip(losses[..count].iter().copied()).collect();
    let width = (count as f64 / 40.0).max(1.0);
    let smooth = smoothed(&losses[..count], width);
    let lowest = (0..count).min_by(|&a, &b| smooth[a].total_cmp(&smooth[b])).unwrap_or(0);
    let steepest = steepest(&measured, &smooth, lowest, width);
    Ok(RateFinding {
        diverged: end.map(|i| rates[i]),
        minimum: rates[lowest],
        steepest: steepest.map(|i| rates[i]),
        measured,
        smooth,
    })
}

/// At each step the height of the line that fits its neighbours best, weighted by a bell curve of standard
/// deviation `width` (in steps). Unlike a running mean of the past it does not move the curve to higher
/// rates, and unlike a mean it does not bend the ends.
fn smoothed(losses: &[f32], width: f64) -> Vec<f64> {
    let reach = (3.0 * width).ceil() as usize;
    let fit = |i: usize| {
        let near = i.saturating_sub(reach)..(i + reach + 1).min(losses.len());
        let (mut w, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for j in near {
            let away = j as f64 - i as f64;
            let (weight, loss) = ((-0.5 * (away / width).powi(2)).exp(), f64::from(losses[j]));
            (w, x, y) = (w + weight, x + weight * away, y + weight * loss);
            (xx, xy) = (xx + weight * away * away, xy + weight * away * loss);
        }
        // There are always two neighbours or more, so that the line is one.
        (xx * y - x * xy) / (w * xx - x * x)
    };
    (0..losses.len()).map(fit).collect()
}

/// Where the smoothed loss falls fastest before its lowest, if it falls by more than its noise.
fn steepest(measured: &[(f32, f32)], smooth: &[f64], lowest: usize, width: f64) -> Option<usize> {
    let start = smooth[0];
    let squares: f64 = measured[..=lowest]
        .iter()
        .zip(smooth)
        .map(|((_, loss), smooth)| (f64::from(*loss) - smooth).powi(2))
        .sum();
    let noise = (squares / (lowest + 1) as f64).sqrt();
    // The lowest of many means is below the others by a few of their deviations, and those of the ends are
    // twice as large.
    let by_chance = 6.0 * noise / (2.0 * std::f64::consts::PI.sqrt() * width).sqrt();
    let fallen = start - smooth[lowest];
    if fallen <= by_chance.max(2e-3 * start.abs()) {
        return None;
    }
    // Over a few steps on both sides, as a single step's slope is mostly noise.
    let reach = (2.0 * width).ceil() as usize;
    let slope = |i: usize| {
        let (from, to) = (i.saturating_sub(reach), (i + reach).min(smooth.len() - 1));
        let ln = |i: usize| f64::from(measured[i].0).ln();
        (smooth[to] - smooth[from]) / (ln(to) - ln(from))
    };
    (reach.min(lowest)..=lowest).min_by(|&a, &b| slope(a).total_cmp(&slope(b)))
}

impl RateFinding {
    /// The learning rate to try: where the loss falls fastest. None where it does not fall.
    pub fn suggestion(&self) -> Option<f32> {
        self.steepest
    }

    /// A tenth of the rate of the lowest loss: the other rule of thumb, mostly near the first. None where the
    /// loss does not fall.
    pub fn tenth_of_minimum(&self) -> Option<f32> {
        self.steepest.map(|_| self.minimum / 10.0)
    }

    /// What was found, in a few lines.
    pub fn text(&self) -> String {
        let (last, _) = self.measured.last().copied().unwrap_or_default();
        let end = match self.diverged {
            Some(rate) => format!("at {rate:.2e} it diverged"),
            None => format!("it was still sound at the last rate, {last:.2e}"),
        };
        let (Some(steepest), Some(tenth)) = (self.steepest, self.tenth_of_minimum()) else {
            return format!(
                "The loss did not fall by more than its noise; {end}.\n\
                 No rate can be named: sweep over more steps, or from a lower to a higher rate."
            );
        };
        let mut text = format!(
            "Learning rate {steepest:.2e}: there the loss falls fastest.\n\
             A tenth of the rate of the lowest loss ({:.2e}) would be {tenth:.2e}; {end}.",
            self.minimum
        );
        // The lowest loss of a run that does not turn up is just its end.
        if self.diverged.is_none() && self.minimum >= last * 0.8 {
            text.push_str(
                "\nThe loss was still falling at the end: a sweep to higher rates would tell more.",
            );
        }
        text
    }

    /// The picture: losses as measured and smoothed over the rates, and the rates that were found. Put it
    /// into a report, or write it with [`LineChart::write_svg`].
    pub fn chart(&self) -> LineChart {
        let rates = || self.measured.iter().map(|p| f64::from(p.0));
        let raw = rates().zip(self.measured.iter().map(|p| f64::from(p.1)));
        let smooth = rates().zip(self.smooth.iter().copied());
        let lowest = self.smooth.iter().copied().fold(f64::MAX, f64::min);
        let first = self.smooth.first().copied().unwrap_or(lowest);
        let span = (first - lowest).max(0.05 * first.abs()).max(1e-6);
        let mut chart = LineChart::new("Loss by learning rate", "learning rate", "loss")
            .log_x()
            .y_range(lowest - 0.15 * span, first + 0.5 * span)
            .series(Series::new("measured", raw).stroke(Stroke::Faint))
            .series(Series::new("smoothed", smooth));
        if let (Some(steepest), Some(tenth)) = (self.steepest, self.tenth_of_minimum()) {
            chart = chart
                .mark(f64::from(steepest), format!("steepest {steepest:.1e}"))
                .mark(f64::from(tenth), format!("minimum/10 {tenth:.1e}"))
                .mark(f64::from(self.minimum), format!("minimum {:.1e}", self.minimum));
        }
        chart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep() -> Vec<f32> {
        let sweep = RateSweep::new(1e-6, 10.0, 200).unwrap();
        (1..=200).map(|step| sweep.rate(step)).collect()
    }

    /// Noise of −1 to 1 that is the same every time.
    fn noise(i: usize) -> f64 {
        f64::from((i as u32).wrapping_mul(2654435761) >> 8) / f64::from(1 << 23) - 1.0
    }

    /// Falls from 4 to 2 around 10⁻³, rises without bounds from 10⁻¹ on.
    fn curve(rate: f32, i: usize, loud: f64) -> f32 {
        let x = f64::from(rate).log10();
        let fall = 2.0 / (1.0 + (-4.0 * (x + 3.0)).exp());
        (4.0 - fall + (20.0 * f64::from(rate)).powi(2) + loud * noise(i)) as f32
    }

    #[test]
    fn rates_rise_by_equal_factors() {
        let sweep = RateSweep::new(1e-4, 1.0, 41).unwrap();
        assert_eq!([sweep.rate(1), sweep.rate(41), sweep.rate(99)], [1e-4, 1.0, 1.0]);
        assert!((sweep.rate(21) / 1e-2 - 1.0).abs() < 1e-5);
        for (low, high, steps) in [
            (0.0, 1.0, 50),
            (1.0, 1.0, 50),
            (f32::NAN, 1.0, 50),
            (1e-3, f32::INFINITY, 50),
            (1e-3, 1.0, 9),
        ] {
            assert!(RateSweep::new(low, high, steps).is_err());
        }
    }

    #[test]
    fn the_steepest_place_is_found_under_noise() {
        for loud in [0.0, 0.1, 0.3] {
            let rates = sweep();
            let losses: Vec<f32> =
                rates.iter().enumerate().map(|(i, &r)| curve(r, i, loud)).collect();
            let found = find_rate(&rates, &losses).unwrap();
            let best = found.suggestion().unwrap();
            assert!((3e-4..3e-3).contains(&best), "{loud}: {best}");
            assert!((2e-3..5e-2).contains(&found.minimum), "{loud}: {}", found.minimum);
            let diverged = found.diverged.unwrap();
            assert!((0.05..2.0).contains(&diverged), "{loud}: {diverged}");
            assert!(found.text().contains("falls fastest") && found.text().contains("diverged"));
            let svg = found.chart().svg();
            assert!(svg.contains("steepest") && svg.contains("minimum/10"));
        }
    }

    #[test]
    fn a_nan_ends_the_sweep() {
        let rates = sweep();
        let mut losses: Vec<f32> = rates.iter().map(|&r| curve(r, 0, 0.0).min(4.0)).collect();
        losses[120..].fill(f32::NAN);
        let found = find_rate(&rates, &losses).unwrap();
        assert_eq!((found.measured.len(), found.diverged), (120, Some(rates[120])));
        assert!((3e-4..3e-3).contains(&found.suggestion().unwrap()));
        losses[3] = f32::INFINITY;
        let error = find_rate(&rates, &losses).unwrap_err().to_string();
        assert!(error.contains("only 3 losses") && error.contains("lower learning rate"));
    }

    #[test]
    fn flat_and_noisy_and_rising_losses_suggest_nothing() {
        let rates = sweep();
        let flat = vec![3.0; 200];
        let noisy = |seed: usize| -> Vec<f32> {
            (0..200).map(|i| (3.0 + 0.2 * noise(i + 977 * seed)) as f32).collect()
        };
        let rising: Vec<f32> = (0..200).map(|i| 3.0 + i as f32 / 100.0).collect();
        for losses in [flat, rising].into_iter().chain((0..100).map(noisy)) {
            let found = find_rate(&rates, &losses).unwrap();
            assert_eq!((found.suggestion(), found.tenth_of_minimum()), (None, None));
            assert!(found.text().contains("No rate can be named"));
            assert!(found.chart().svg().contains("<svg"));
        }
    }

    #[test]
    fn a_loss_that_only_falls_asks_for_higher_rates() {
        let rates = sweep();
        let losses: Vec<f32> = (0..200).map(|i| 5.0 - i as f32 / 100.0).collect();
        let found = find_rate(&rates, &losses).unwrap();
        assert_eq!(found.diverged, None);
        assert!(found.text().contains("higher rates"));
        // Losses below zero, as of densities, are no other case.
        let below: Vec<f32> = losses.iter().map(|l| l - 100.0).collect();
        assert!(find_rate(&rates, &below).unwrap().suggestion().is_some());
    }

    #[test]
    fn what_is_no_sweep_is_refused() {
        assert!(find_rate(&[1.0], &[1.0, 2.0]).is_err());
        assert!(find_rate(&[], &[]).is_err());
        assert!(find_rate(&[0.1; 20], &[1.0; 20]).is_err());
        let falling: Vec<f32> = sweep().into_iter().rev().collect();
        assert!(find_rate(&falling, &[1.0; 200]).unwrap_err().to_string().contains("have to rise"));
    }
}
