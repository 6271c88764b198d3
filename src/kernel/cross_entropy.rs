//! Softmax and cross-entropy in one kernel, with the gradient.

use super::{Binding, GROUP, Kernel, LossScale, View, spread};
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/cross_entropy.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CrossEntropyParams {
    /// Rows N.
    pub rows: u32,
    /// Classes V.
    pub classes: u32,
    /// First logit.
    pub logits_offset: u32,
    /// First target.
    pub targets_offset: u32,
    /// What the gradient is multiplied with: 1/N for the mean.
    pub scale: f32,
}

/// losses\[n\] = log Σᵥ exp(x\[n,v\]) − x\[n,target\[n\]\] in nats;
/// d_logits\[n,v\] = scale·(softmax(x\[n\])\[v\] − \[v = target\[n\]\]).
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Sizes and offsets.
    pub params: CrossEntropyParams,
    /// Write `d_logits`.
    pub gradient: bool,
    /// Times the loss scale.
    pub scaled: bool,
}

impl CrossEntropy {
    /// `logits` \[N,V\] against `targets` \[N\]. With `gradient`, that of the mean over the rows.
    pub fn new(classes: usize, logits: View, targets: View, gradient: bool) -> Self {
        CrossEntropy {
            params: CrossEntropyParams {
                rows: targets.len as u32,
                classes: classes as u32,
                logits_offset: logits.offset as u32,
                targets_offset: targets.offset as u32,
                scale: 1.0 / targets.len as f32,
            },
            gradient,
            scaled: false,
        }
    }

    /// Threads a row: enough that each has about eight classes.
    fn lanes(&self) -> usize {
        (self.params.classes as usize / 8).next_power_of_two().clamp(8, GROUP)
    }
}

impl Kernel for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn check(&self) -> Result<(), &'static str> {
        if self.scaled && !self.gradient {
            return Err("there is no gradient to scale");
        }
        super::all_positive(&[self.params.rows, self.params.classes])
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let words = p.rows as usize * p.classes as usize;
        let mut list = vec![
            Binding::read("logits", p.logits_offset as usize + words).moving(words),
            Binding::read_u32("targets", (p.targets_offset + p.rows) as usize),
            Binding::write("losses", p.rows as usize),
        ];
        if self.gradient {
            list.push(Binding::write("d_logits", words));
        }
        if self.scaled {
            list.push(Binding::read("loss_scale", LossScale::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = if self.scaled { LossScale::defines() } else { Vec::new() };
        list.push(("LANES", self.lanes().to_string()));
        if self.gradient {
            list.push(("GRADIENT", String::new()));
        }
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.rows as usize).div_ceil(GROUP / self.lanes()))
    }
    fn flops(&self) -> u64 {
        8 * u64::from(self.params.rows) * u64::from(self.params.classes)
    }
}
