//! A table look-up.

use super::{Initializer, insert, positive};
use crate::error::Result;
use crate::kernel::View;
use crate::schedule::{Recorder, Var};
use crate::tensor::NamedTensors;

/// output\[n\] = weight\[ids\[n\]\].
#[derive(Clone, Debug)]
pub struct Embedding {
    /// The parameter is `{name}.weight`, \[V, E\].
    pub name: String,
    /// V.
    pub vocabulary: usize,
    /// E.
    pub width: usize,
}

impl Embedding {
    /// Initial weights as PyTorch's: N(0, 1).
    pub fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        let values = generator.normal(self.vocabulary * self.width);
        insert(into, self.weight_name(), &[self.vocabulary, self.width], values);
    }

    /// The parameter's name.
    pub fn weight_name(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// Records the look-up of `ids` \[N\]: \[N, E\].
    ///
    /// # Errors
    /// A size of zero.
    pub fn record(&self, rec: &mut Recorder, ids: View) -> Result<Var> {
        positive("the vocabulary", self.vocabulary)?;
        positive("the embedding's width", self.width)?;
        let (v, e) = (self.vocabulary, self.width);
        let table = rec.parameter(&self.weight_name(), [v, e])?;
        rec.gather(table, ids)
    }
}
