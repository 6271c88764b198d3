//! Losses of elements, and how much takes part in a loss.

use super::{Binding, Kernel, LossScale, View, spread};
use bytemuck::{Pod, Zeroable};

/// Elements that one workgroup takes.
pub(crate) const CHUNK: usize = 1024;

/// The uniform block of `shaders/loss_total.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct LossTotalParams {
    /// Terms to count.
    pub count: u32,
    /// Neighbouring terms that share a flag.
    pub run: u32,
    /// First flag.
    pub flags_offset: u32,
    /// First target.
    pub targets_offset: u32,
    /// The target that takes no part.
    pub ignored: u32,
    /// Classes V.
    pub classes: u32,
    /// First class weight.
    pub weights_offset: u32,
    /// What each term counts.
    pub factor: f32,
}

/// total\[0\] = factor·Σₙ w(n) over the terms that take part: those whose flag has its lowest bit and whose
/// target is not ignored. w is 1, or the class weight of the target.
#[derive(Clone, Debug)]
pub struct LossTotal {
    /// Sizes and offsets.
    pub params: LossTotalParams,
    /// There are flags.
    pub flags: bool,
    /// A target is ignored.
    pub ignoring: bool,
    /// Classes have weights.
    pub weights: bool,
}

impl LossTotal {
    /// How many of the flags are set, times `factor`.
    pub fn of_flags(flags: View, factor: f32) -> Self {
        let params = LossTotalParams {
            count: flags.len as u32,
            run: 1,
            flags_offset: flags.offset as u32,
            targets_offset: 0,
            ignored: 0,
            classes: 1,
            weights_offset: 0,
            factor,
        };
        LossTotal { params, flags: true, ignoring: false, weights: false }
    }

    fn targets(&self) -> bool {
        self.ignoring || self.weights
    }
}

impl Kernel for LossTotal {
    fn name(&self) -> &'static str {
        "loss_total"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.count, p.run, p.classes])?;
        if self.flags || self.targets() { Ok(()) } else { Err("there is nothing to count") }
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let mut list = vec![Binding::write("total", 1)];
        if self.flags {
            list.push(flags(p.flags_offset, p.count, p.run));
        }
        if self.targets() {
            let targets = Binding::read_u32("targets", (p.targets_offset + p.count) as usize);
            list.push(targets.moving(p.count as usize));
        }
        if self.weights {
            list.push(class_weights(p.weights_offset, p.classes));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        named([
            ("HAS_flags", self.flags),
            ("HAS_targets", self.targets()),
            ("IGNORING", self.ignoring),
            ("WEIGHTED", self.weights),
        ])
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        [1, 1, 1]
    }
    fn flops(&self) -> u64 {
        2 * u64::from(self.params.count)
    }
}

/// Flags of `count` terms, `run` neighbours sharing one.
pub(super) fn flags(offset: u32, count: u32, run: u32) -> Binding {
    let words = count.div_ceil(run.max(1)) as usize;
    Binding::read_u32("flags", offset as usize + words).moving(words)
}

/// A weight a class.
pub(super) fn class_weights(offset: u32, classes: u32) -> Binding {
    Binding::read("class_weights", (offset + classes) as usize).moving(classes as usize)
}

/// Those of the names that hold, as defines.
pub(super) fn named<const N: usize>(
    flags: [(&'static str, bool); N],
) -> Vec<(&'static str, String)> {
    flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
}

/// What an element contributes, from its predictions and the wanted value y; see [`ElementLoss`].
#[derive(Clone, Debug, PartialEq)]
pub enum ElementForm {
    /// w·y·softplus(−x) + (1 − y)·softplus(x), of a logit x; with `positive` weights w by column, else 1.
    BinaryCrossEntropy {
        /// There are weights of the positive class.
        positive: bool,
    },
    /// (x − y)².
    Squared,
    /// |x − y|, of slope 0 at 0.
    Absolute,
    /// r²/2 where |r| = |x − y| ≤ δ, else δ·(|r| − δ/2); δ is the parameter `shape`.
    Huber,
    /// max(τ·(y − x), (τ − 1)·(y − x)) for each level τ, summed over them; of slope 0 at 0.
    Quantile(Vec<f32>),
    /// log σ + (y − μ)²/(2σ²) + log(2π)/2 of x = (μ, s), σ = `shape` + softplus(s).
    Gaussian,
    /// −log of Student's density of x = (μ, s, r), σ = `shape` + softplus(s), ν = 2 + softplus(r).
    StudentT,
}

impl ElementForm {
    /// Predictions an element, which lie side by side.
    pub fn each(&self) -> usize {
        match self {
            ElementForm::Quantile(levels) => levels.len(),
            ElementForm::Gaussian => 2,
            ElementForm::StudentT => 3,
            _ => 1,
        }
    }

    /// What the shader calls it.
    pub fn name(&self) -> &'static str {
        match self {
            ElementForm::BinaryCrossEntropy { .. } => "binary_cross_entropy",
            ElementForm::Squared => "squared",
            ElementForm::Absolute => "absolute",
            ElementForm::Huber => "huber",
            ElementForm::Quantile(_) => "quantile",
            ElementForm::Gaussian => "gaussian",
            ElementForm::StudentT => "student_t",
        }
    }

    fn define(&self) -> &'static str {
        match self {
            ElementForm::BinaryCrossEntropy { .. } => "BINARY",
            ElementForm::Squared => "SQUARED",
            ElementForm::Absolute => "ABSOLUTE",
            ElementForm::Huber => "HUBER",
            ElementForm::Quantile(_) => "QUANTILE",
            ElementForm::Gaussian => "GAUSSIAN",
            ElementForm::StudentT => "STUDENT_T",
        }
    }

    /// Whether it has weights by column.
    pub fn positive(&self) -> bool {
        matches!(self, ElementForm::BinaryCrossEntropy { positive: true })
    }

    fn flops(&self) -> u64 {
        match self {
            ElementForm::Squared | ElementForm::Absolute | ElementForm::Huber => 4,
            ElementForm::Quantile(levels) => 4 * levels.len() as u64,
            ElementForm::BinaryCrossEntropy { .. } | ElementForm::Gaussian => 40,
            ElementForm::StudentT => 120,
        }
    }
}

/// The uniform block of `shaders/element_loss.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ElementLossParams {
    /// Elements N·D.
    pub count: u32,
    /// Elements of a row, D.
    pub width: u32,
    /// Neighbouring elements that share a flag.
    pub run: u32,
    /// First prediction.
    pub prediction_offset: u32,
    /// First wanted value.
    pub wanted_offset: u32,
    /// First element of the gradient.
    pub gradient_offset: u32,
    /// First flag.
    pub flags_offset: u32,
    /// First weight of the positive classes.
    pub positive_offset: u32,
    /// What the gradient is multiplied with; with flags, after it was divided by the total.
    pub factor: f32,
    /// δ, or the least σ.
    pub shape: f32,
}

/// losses\[g\] = Σ over a workgroup's elements that take part of a loss of predictions \[N, D·k\] (those of an
/// element side by side) against wanted values \[N, D\], and on request its gradient, factor/total·dL.
#[derive(Clone, Debug)]
pub struct ElementLoss {
    /// Sizes, offsets, factor.
    pub params: ElementLossParams,
    /// Which loss.
    pub form: ElementForm,
    /// There are flags, and a total of them.
    pub flags: bool,
    /// Compute the gradient.
    pub gradient: bool,
    /// Add to the gradient that is there.
    pub accumulate: bool,
    /// The gradient is times the loss scale.
    pub scaled: bool,
}

impl ElementLoss {
    /// How many partial sums so many elements give.
    pub fn partials(elements: usize) -> usize {
        elements.div_ceil(CHUNK).max(1)
    }
}

impl Kernel for ElementLoss {
    fn name(&self) -> &'static str {
        "element_loss"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.count, p.width, p.run, self.form.each() as u32])?;
        if (self.scaled || self.accumulate) && !self.gradient {
            return Err("there is no gradient to scale or to add to");
        }
        if !p.count.is_multiple_of(p.width) { Err("a row is not whole") } else { Ok(()) }
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, count) = (&self.params, self.params.count as usize);
        let predictions = count * self.form.each();
        let mut list = vec![
            Binding::read("prediction", p.prediction_offset as usize + predictions)
                .moving(predictions),
            Binding::read("wanted", p.wanted_offset as usize + count).moving(count),
            Binding::write("losses", Self::partials(count)),
        ];
        if self.gradient {
            let gradient = Binding::write("gradient", p.gradient_offset as usize + predictions);
            list.push(gradient.moving(predictions * if self.accumulate { 2 } else { 1 }));
        }
        if self.flags {
            list.push(flags(p.flags_offset, p.count, p.run));
        }
        if self.flags && self.gradient {
            list.push(Binding::read("total", 1));
        }
        if self.form.positive() {
            let width = p.width as usize;
            list.push(Binding::read("positive", p.positive_offset as usize + width).moving(width));
        }
        if self.scaled {
            list.push(Binding::read("loss_scale", LossScale::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = if self.scaled { LossScale::defines() } else { Vec::new() };
        list.push((self.form.define(), String::new()));
        list.push(("EACH", self.form.each().to_string()));
        list.push(("CHUNK", CHUNK.to_string()));
        if let ElementForm::Quantile(levels) = &self.form {
            let levels: Vec<String> = levels.iter().map(|level| format!("{level:?}")).collect();
            list.push(("LEVELS", levels.join(" ")));
        }
        list.extend(named([
            ("HAS_flags", self.flags),
            ("HAS_positive", self.form.positive()),
            ("GRADIENT", self.gradient),
            ("ACCUMULATE", self.accumulate),
        ]));
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(Self::partials(self.params.count as usize))
    }
    fn flops(&self) -> u64 {
        u64::from(self.params.count) * self.form.flops()
    }
}
