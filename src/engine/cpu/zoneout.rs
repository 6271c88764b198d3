//! Zoneout: how much of a state stays; `zone` of `shaders/shared/step.wgsl`.

use super::control;
use super::dropout::threefry2x32;
use crate::kernel::{StepParams, Zoneout};

/// The rates of one step, and the key of its random words.
#[derive(Clone, Copy)]
pub struct Zone {
    mode: Zoneout,
    rates: [f32; 2],
    widths: [usize; 2],
    key: [u32; 2],
    step: u32,
    /// Rows before those of this step.
    first: usize,
}

impl Zone {
    pub fn new(p: &StepParams, mode: Zoneout, words: &[f32]) -> Self {
        // Kernels of a layer with zoneout that touch no state have no control buffer.
        let mode = if mode == Zoneout::Draw && words.is_empty() { Zoneout::Off } else { mode };
        let control = if words.is_empty() { Default::default() } else { control(words) };
        Zone {
            mode,
            rates: [p.zoneout_h, p.zoneout_c],
            widths: [p.width as usize, p.hidden as usize],
            key: [control.seed_low, control.seed_high ^ p.stream],
            step: control.step,
            first: (p.first + p.t) as usize * p.batch as usize,
        }
    }

    /// The same at another step.
    pub fn at(self, t: usize, batch: usize) -> Self {
        Zone { first: t * batch, ..self }
    }

    pub fn is_on(&self) -> bool {
        self.mode != Zoneout::Off
    }

    /// z of unit `unit` of row `row`.
    #[inline(always)]
    pub fn get(&self, state: usize, row: usize, unit: usize) -> f32 {
        let other = usize::from(state > 0);
        match self.mode {
            Zoneout::Off => 0.0,
            Zoneout::Expect => self.rates[other],
            Zoneout::Draw => {
                let element = (self.first + row) * self.widths[other] + unit;
                let word = threefry2x32(self.key, [element as u32, self.step])[other];
                let u = (word >> 8) as f32 / (1 << 24) as f32;
                if u < self.rates[other] { 1.0 } else { 0.0 }
            }
        }
    }

    /// new = z⊙old + (1−z)⊙new, for units from `first` on.
    #[inline(always)]
    pub fn mix(&self, state: usize, row: usize, first: usize, old: &[f32], new: &mut [f32]) {
        for (unit, (new, old)) in new.iter_mut().zip(old).enumerate() {
            let z = self.get(state, row, first + unit);
            *new = z * old + (1.0 - z) * *new;
        }
    }

    /// passed = z⊙d, d = (1−z)⊙d, for units from `first` on.
    #[inline(always)]
    pub fn split(&self, state: usize, row: usize, first: usize, d: &mut [f32], passed: &mut [f32]) {
        for (unit, (d, passed)) in d.iter_mut().zip(passed).enumerate() {
            let z = self.get(state, row, first + unit);
            *passed = z * *d;
            *d *= 1.0 - z;
        }
    }
}
