//! Networks with their data, made from a seed, and their gradients against central differences.

use crate::common::random::Generator;
use ndarray::{Array2, Array3};
use recurra::oracle::recurrent::{
    Cell, CustomCell, LayerSpec, Masks, Merge, Options, Padding, Stack, StackInput, forward, run,
};

/// Which gates a recurrent mask tells apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variational {
    No,
    Shared,
    PerGate,
}

/// A network, its sizes, and which of its masks it has.
#[derive(Clone, Debug)]
pub struct Case {
    pub stack: Stack,
    /// T, B (with a convolution B·S), I.
    pub sizes: [usize; 3],
    pub valid: bool,
    pub resets: bool,
    pub variational: Variational,
    pub zoneout: bool,
    pub dropout: bool,
    pub weight_drop: bool,
    pub zero_initial: bool,
    /// Of the weights.
    pub scale: f64,
}

pub fn spec(cell: Cell, hidden: usize, options: Options) -> LayerSpec {
    LayerSpec { cell, options, hidden }
}

pub fn plain_stack(layers: Vec<Vec<LayerSpec>>) -> Stack {
    Stack {
        layers,
        merge: Merge::Concat,
        residual: false,
        skip: false,
        padding: Padding::Value(0.0),
    }
}

/// A layer and the same one backward.
pub fn both(spec: LayerSpec) -> Vec<LayerSpec> {
    let mut reverse = spec.clone();
    reverse.options.reverse = !spec.options.reverse;
    vec![spec, reverse]
}

impl Case {
    /// One layer of one direction, T = 4, B = 2 (or two maps), I = 3, no masks.
    pub fn one(spec: LayerSpec) -> Self {
        let batch = 2 * spec.options.convolution.map_or(1, |c| c.places());
        Case::of(plain_stack(vec![vec![spec]]), [4, batch, 3])
    }

    pub fn of(stack: Stack, sizes: [usize; 3]) -> Self {
        Case {
            stack,
            sizes,
            valid: false,
            resets: false,
            variational: Variational::No,
            zoneout: false,
            dropout: false,
            weight_drop: false,
            zero_initial: false,
            scale: 0.8,
        }
    }

    /// Data for it.
    pub fn input(&self, seed: u64) -> StackInput {
        let mut random = Generator(seed);
        let [steps, batch, inputs] = self.sizes;
        let mut input = StackInput {
            x: random.array((steps, batch, inputs), 1.5),
            weights: vec![],
            initial: vec![],
            masks: vec![],
            between: vec![],
            weight_drop: vec![],
            d_output: Array3::zeros((0, 0, 0)),
            d_finals: vec![],
        };
        // Some rows end early, one may be empty; the same rows for all layers.
        let lengths: Vec<_> =
            (0..batch).map(|b| if b == 0 { steps } else { random.below(steps + 1) }).collect();
        let valid = Array2::from_shape_fn((steps, batch), |(t, b)| t < lengths[b]);
        let resets = random.flags(steps, batch, 4);
        for (l, directions) in self.stack.layers.iter().enumerate() {
            let width = self.stack.input_width(l, inputs);
            let shape = (steps, batch, width);
            input.between.push(self.dropout.then(|| random.multipliers(shape, 0.7)));
            input.weights.push(vec![]);
            input.initial.push(vec![]);
            input.masks.push(vec![]);
            input.weight_drop.push(vec![]);
            input.d_finals.push(vec![]);
            for spec in directions {
                let shapes = spec.weight_shapes(width);
                let drop = shapes.get("weight_hh").filter(|_| self.weight_drop);
                let drop = drop.map(|&shape| random.multipliers(shape, 0.8));
                input.weight_drop[l].push(drop);
                let weights = shapes.into_iter().map(|(name, shape)| {
                    let mut weights = random.array(shape, self.scale);
                    if name.starts_with("norm_") && name.ends_with("weight") {
                        weights += 1.0;
                    }
                    (name, weights)
                });
                input.weights[l].push(weights.collect());
                input.initial[l].push(self.states(spec, &mut random, false));
                input.d_finals[l].push(self.states(spec, &mut random, true));
                let masks = self.masks(spec, &valid, &resets, &mut random);
                input.masks[l].push(masks);
            }
        }
        let width = self.stack.width(self.stack.layers.len() - 1);
        input.d_output = random.array((steps, batch, width), 1.0);
        input
    }

    fn states(&self, spec: &LayerSpec, random: &mut Generator, d: bool) -> Vec<Array2<f64>> {
        let widths = spec.state_widths().into_iter().enumerate();
        let states = widths.map(|(s, width)| {
            let shape = (self.sizes[1], width);
            match self.zero_initial && !d {
                true => Array2::zeros(shape),
                // sLSTM's n is a sum of positive terms.
                false if !d && matches!(spec.cell, Cell::SLstm) && s == 2 => {
                    random.array(shape, 0.5) + 1.0
                }
                false => random.array(shape, 1.0),
            }
        });
        states.collect()
    }

    fn masks(
        &self,
        spec: &LayerSpec,
        valid: &Array2<bool>,
        resets: &Array2<bool>,
        random: &mut Generator,
    ) -> Masks {
        let [steps, batch, _] = self.sizes;
        let count = match self.variational {
            _ if !spec.recurrent() => 0,
            Variational::No => 0,
            Variational::Shared => 1,
            Variational::PerGate => spec.gates(),
        };
        let shape = (batch, spec.width());
        let recurrent = (0..count).map(|_| random.multipliers(shape, 0.7)).collect();
        let widths = spec.state_widths().into_iter().enumerate();
        // Kept or not for h, a rate for the others.
        let zoneout = widths.map(|(s, width)| {
            let shape = (steps * batch, width);
            Some(match s {
                0 => random.flags(shape.0, shape.1, 3).mapv(|keep| f64::from(u8::from(keep))),
                _ => random.array(shape, 0.5) + 0.5,
            })
        });
        Masks {
            valid: self.valid.then(|| valid.clone()),
            resets: self.resets.then(|| resets.clone()),
            zoneout: if self.zoneout { zoneout.collect() } else { vec![] },
            recurrent,
        }
    }

    /// Data for which no max, clamp or activation is near its border.
    pub fn smooth_input(&self, seed: u64) -> StackInput {
        for attempt in 0..20_000 {
            let input = self.input(seed.wrapping_mul(1_000_003) + attempt);
            if forward(&self.stack, &input).unwrap().margin > 6e-3 {
                return input;
            }
        }
        panic!("no seed keeps {self:?} away from the borders");
    }
}

/// Σ d_output⊙output + Σ d_final⊙final.
pub fn loss(stack: &Stack, input: &StackInput) -> f64 {
    let run = forward(stack, input).unwrap();
    let finals = run.finals.iter().flatten().flatten();
    let d_finals = input.d_finals.iter().flatten().flatten();
    let of_finals: f64 = finals.zip(d_finals).map(|(s, d)| (s * d).sum()).sum();
    (&run.output * &input.d_output).sum() + of_finals
}

/// Every tensor with a gradient, by name, flat.
fn tensors(input: &mut StackInput) -> Vec<(String, &mut [f64])> {
    let mut all = vec![("x".to_string(), input.x.as_slice_mut().unwrap())];
    for (l, directions) in input.weights.iter_mut().enumerate() {
        for (d, weights) in directions.iter_mut().enumerate() {
            for (name, w) in weights {
                all.push((format!("{name} {l}.{d}"), w.as_slice_mut().unwrap()));
            }
        }
    }
    for (l, directions) in input.initial.iter_mut().enumerate() {
        for (d, states) in directions.iter_mut().enumerate() {
            for (s, state) in states.iter_mut().enumerate() {
                all.push((format!("state {s} {l}.{d}"), state.as_slice_mut().unwrap()));
            }
        }
    }
    all
}

/// Compares gradients with five-point central differences, at most `most` elements of a tensor.
pub fn check_gradients(case: &Case, seed: u64, most: usize) {
    let mut input = case.smooth_input(seed);
    let result = run(&case.stack, &input).unwrap();
    let mut gradients = StackInput {
        x: result.d_x,
        weights: result.d_weights,
        initial: result.d_initial,
        ..input.clone()
    };
    let mut random = Generator(seed);
    for (k, (name, gradient)) in tensors(&mut gradients).into_iter().enumerate() {
        assert_eq!(gradient.len(), tensors(&mut input)[k].1.len(), "{name}");
        let all = gradient.len();
        let chosen: Vec<usize> = match all <= most {
            true => (0..all).collect(),
            false => (0..most).map(|_| random.below(all)).collect(),
        };
        for e in chosen {
            let at = tensors(&mut input)[k].1[e];
            // Whether an n is 0 decides what an sLSTM does.
            if at == 0.0 && case.zero_initial && name.starts_with("state 2") {
                continue;
            }
            let mut moved = |step: f64| {
                tensors(&mut input)[k].1[e] = at + step;
                let loss = loss(&case.stack, &input);
                tensors(&mut input)[k].1[e] = at;
                loss
            };
            // Large weights bend the loss.
            let h = 2e-4 * (0.8 / case.scale).powi(2);
            let near = moved(h) - moved(-h);
            let want = (8.0 * near - (moved(2.0 * h) - moved(-2.0 * h))) / (12.0 * h);
            let got = gradient[e];
            let bound = 1e-7 * want.abs() + 2e-9;
            assert!(
                (got - want).abs() <= bound,
                "{name}[{e}]: got {got}, the difference says {want}, seed {seed}, {case:#?}"
            );
        }
    }
}

/// Two gates and two states, nothing that the built-in cells have.
#[derive(Debug)]
pub struct Odd;

impl CustomCell for Odd {
    fn gates(&self) -> usize {
        2
    }

    fn states(&self) -> usize {
        2
    }

    fn forward(&self, x: &[f64], r: &[f64], old: &[f64], new: &mut [f64]) {
        new[1] = 0.7 * old[1] + (x[0] + r[0] * old[0]).sin();
        new[0] = (new[1] + x[1] * r[1]).tanh() * 0.9 - 0.2 * old[0];
    }
}
