//! Penalties on a layer's outputs.

use super::{Binding, Kernel, LossScale, spread};
use bytemuck::{Pod, Zeroable};

/// Elements that one workgroup takes.
const CHUNK: usize = 4096;

/// The uniform block of `shaders/activation_penalty.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ActivationPenaltyParams {
    /// Rows T·B.
    pub rows: u32,
    /// Rows of a step, B.
    pub batch: u32,
    /// Elements of a row.
    pub width: u32,
    /// First element of the outputs.
    pub h_offset: u32,
    /// First element of their gradient.
    pub gradient_offset: u32,
    /// Rows that share a flag.
    pub places: u32,
    /// What the mean is multiplied with.
    pub rate: f32,
}

/// rate times the mean of h², or of (h(t+1) − h(t))², over the elements that take part (Merity 2017);
/// its partial sums, a workgroup each, and on request its gradient.
#[derive(Clone, Debug)]
pub struct ActivationPenalty {
    /// Sizes, offsets, rate.
    pub params: ActivationPenaltyParams,
    /// Of the change from step to step instead of the outputs.
    pub temporal: bool,
    /// There are flags \[T,B\].
    pub flags: bool,
    /// Compute the gradient.
    pub gradient: bool,
    /// Add to the gradient that is there.
    pub accumulate: bool,
    /// The gradient is times the loss scale.
    pub scaled: bool,
}

impl ActivationPenalty {
    /// How many partial sums so many elements give.
    pub fn partials(elements: usize) -> usize {
        elements.div_ceil(CHUNK).max(1)
    }

    fn elements(&self) -> usize {
        self.params.rows as usize * self.params.width as usize
    }
}

impl Kernel for ActivationPenalty {
    fn name(&self) -> &'static str {
        "activation_penalty"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.rows, p.batch, p.width, p.places])?;
        if self.scaled && !self.gradient {
            return Err("there is no gradient to scale");
        }
        let whole = p.rows.is_multiple_of(p.batch) && p.batch.is_multiple_of(p.places);
        if whole { Ok(()) } else { Err("the rows are no whole number of steps") }
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, n) = (&self.params, self.elements());
        let mut list = vec![
            Binding::read("h", p.h_offset as usize + n).moving(n),
            Binding::write("losses", Self::partials(n)),
        ];
        if self.gradient {
            let gradient = Binding::write("gradient", p.gradient_offset as usize + n);
            list.push(gradient.moving(if self.accumulate { 2 * n } else { n }));
        }
        if self.flags {
            list.push(Binding::read_u32("flags", (p.rows / p.places) as usize));
        }
        if self.scaled {
            list.push(Binding::read("loss_scale", LossScale::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags = [
            ("TEMPORAL", self.temporal),
            ("HAS_flags", self.flags),
            ("HAS_gradient", self.gradient),
            ("ACCUMULATE", self.accumulate),
        ];
        let mut list = if self.scaled { LossScale::defines() } else { Vec::new() };
        list.push(("CHUNK", CHUNK.to_string()));
        list.extend(flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())));
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(Self::partials(self.elements()))
    }
    fn flops(&self) -> u64 {
        6 * self.elements() as u64
    }
}
