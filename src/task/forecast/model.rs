//! Recurrent layers over what is known at each step, linear; what its numbers mean.

use super::config::LEAST_SIGMA;
use super::{Distribution, ForecastConfig, Head, NAME};
use crate::error::{Error, Result};
use crate::layer::{InitialState, Initializer, Linear, Memory, Recurrent, RecurrentInit};
use crate::schedule::{Recorder, Var};
use crate::task::TaskModel;
use crate::tensor::NamedTensors;
use std::collections::BTreeMap;

/// A model of forecasts: its layers, and what its numbers mean.
#[derive(Clone, Debug)]
pub struct ForecastModel {
    config: ForecastConfig,
    recurrent: Recurrent,
    linear: Linear,
    init: RecurrentInit,
}

impl ForecastModel {
    /// The same model, keeping so much between forward and backward.
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.recurrent.memory = memory;
        self
    }

    /// The recurrent layers.
    pub fn recurrent(&self) -> &Recurrent {
        &self.recurrent
    }

    /// Numbers that the head tells of one value.
    pub fn each(&self) -> usize {
        self.config.head.loss().predictions()
    }

    /// What the head tells behind each step of `x` \[T·B, inputs\]: \[T·B, steps·J·each\], the numbers of one value
    /// side by side; and final states, where they are not carried.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn record(
        &self,
        rec: &mut Recorder,
        x: Var,
        shape: [usize; 2],
        initial: &InitialState,
    ) -> Result<(Var, Vec<Var>)> {
        let h = self.recurrent.record(rec, x, shape, initial)?;
        let output = rec.dropout(h.output, self.config.recurrent.dropout)?;
        Ok((self.linear.record(rec, output)?, h.finals))
    }

    /// Initial weights as PyTorch's modules draw them, but for what the configuration says.
    pub fn initial_weights(&self, seed: u64) -> NamedTensors {
        let mut generator = Initializer::new(seed);
        let mut weights = NamedTensors::new();
        // Refused in `new`, if at all.
        let _ = self.recurrent.init_with(self.init, &mut generator, &mut weights);
        self.linear.init(&mut generator, &mut weights);
        weights
    }

    /// What the numbers of one value say, in standard deviations, above `base`.
    ///
    /// # Errors
    /// Numbers that are none.
    pub(super) fn distribution(&self, numbers: &[f32], base: f64) -> Result<Distribution> {
        if !numbers.iter().all(|x| x.is_finite()) {
            return Err(Error::invalid("the model's output is no number: its weights are broken"));
        }
        let number = |i: usize| numbers.get(i).map_or(0.0, |&x| f64::from(x));
        let above = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let sigma = || f64::from(LEAST_SIGMA) + above(number(1));
        Ok(match &self.config.head {
            Head::Quantiles(levels) => {
                let mut values: Vec<f64> = numbers.iter().map(|&x| base + f64::from(x)).collect();
                values.sort_by(f64::total_cmp);
                Distribution::Quantiles(levels.iter().map(|&l| f64::from(l)).collect(), values)
            }
            Head::Gaussian => Distribution::Normal(base + number(0), sigma()),
            Head::StudentT => {
                Distribution::Student(base + number(0), sigma(), 2.0 + above(number(2)))
            }
            Head::Mean | Head::Absolute | Head::Huber => Distribution::Point(base + number(0)),
        })
    }
}

impl TaskModel for ForecastModel {
    const TASK: &'static str = NAME;
    type Config = ForecastConfig;

    /// A model from its configuration.
    ///
    /// # Errors
    /// As [`RecurrentConfig::build`](crate::task::RecurrentConfig::build); both directions, as what
    /// is to come would be known; options that don't fit together.
    fn new(mut config: ForecastConfig) -> Result<Self> {
        config.lags.sort_unstable();
        config.lags.dedup();
        config.check()?;
        let (recurrent, init) = config.recurrent.build(config.inputs())?;
        let each = config.head.loss().predictions();
        let output = config.steps() * config.targets() * each;
        let linear = Linear::new("linear", config.recurrent.hidden, output);
        Ok(ForecastModel { config, recurrent, linear, init })
    }

    fn config(&self) -> &ForecastConfig {
        &self.config
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::from([
            ("linear.weight".to_string(), vec![self.linear.output, self.linear.input]),
            ("linear.bias".to_string(), vec![self.linear.output]),
        ]);
        shapes.extend(self.recurrent.all_parameters().into_iter().map(|p| (p.name, p.shape)));
        shapes
    }
}
