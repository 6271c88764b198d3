//! Softmax and cross-entropy in one kernel, with the gradient.

use super::losses::{class_weights, flags, named};
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
    /// What the gradient is multiplied with: 1/N for the mean; with a total, after it was divided by that.
    pub scale: f32,
    /// The target that takes no part.
    pub ignored: u32,
    /// Neighbouring rows that share a flag.
    pub run: u32,
    /// First flag.
    pub flags_offset: u32,
    /// First class weight.
    pub weights_offset: u32,
    /// Label smoothing ε.
    pub smoothing: f32,
}

/// losses\[n\] = log Σᵥ exp(x\[n,v\]) − x\[n,target\[n\]\] in nats;
/// d_logits\[n,v\] = scale·(softmax(x\[n\])\[v\] − \[v = target\[n\]\]).
///
/// With options, of the rows that take part, with class weights w and label smoothing ε:
/// losses\[n\] = −Σᵥ aᵥ·log softmax(x\[n\])\[v\], aᵥ = (1 − ε)·w(target)·\[v = target\] + ε/V·w(v).
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Sizes and offsets.
    pub params: CrossEntropyParams,
    /// Write `d_logits`.
    pub gradient: bool,
    /// Times the loss scale.
    pub scaled: bool,
    /// There are flags of the rows.
    pub flags: bool,
    /// A target is ignored.
    pub ignoring: bool,
    /// Classes have weights.
    pub weights: bool,
    /// Labels are smoothed.
    pub smoothing: bool,
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
                ignored: 0,
                run: 1,
                flags_offset: 0,
                weights_offset: 0,
                smoothing: 0.0,
            },
            gradient,
            scaled: false,
            flags: false,
            ignoring: false,
            weights: false,
            smoothing: false,
        }
    }

    /// What the mean divides by is counted on the device, and bound as `total`.
    pub fn counted(&self) -> bool {
        self.flags || self.ignoring || self.weights
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
        super::all_positive(&[self.params.rows, self.params.classes, self.params.run])
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
        if self.flags {
            list.push(flags(p.flags_offset, p.rows, p.run));
        }
        if self.weights {
            list.push(class_weights(p.weights_offset, p.classes));
        }
        if self.counted() && self.gradient {
            list.push(Binding::read("total", 1));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = if self.scaled { LossScale::defines() } else { Vec::new() };
        list.push(("LANES", self.lanes().to_string()));
        list.extend(named([
            ("GRADIENT", self.gradient),
            ("HAS_flags", self.flags),
            ("IGNORING", self.ignoring),
            ("WEIGHTED", self.weights),
            ("SMOOTHING", self.smoothing),
            ("COUNTED", self.counted()),
            ("OPTIONS", self.counted() || self.smoothing),
        ]));
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
