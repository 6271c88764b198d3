//! Layers upon layers, each of one direction or two, on plain arrays.

use ndarray::{Array2, Array3, Axis};

use super::super::same_shape;
use super::super::tape::{Node, Tape};
use super::{LayerSpec, Masks, WeightNodes, Weights, layer};
use crate::error::{Error, Result};

/// How the outputs of two directions become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Side by side, forward first.
    Concat,
    /// a + b.
    Sum,
    /// a⊙b.
    Mul,
    /// (a + b)/2.
    Average,
}

/// What stands in the last output's rows that aren't valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    /// A constant, which has no gradient.
    Value(f64),
    /// What the layers computed from the states that were carried past these rows.
    Repeat,
}

/// A recurrent network.
#[derive(Clone, Debug)]
pub struct Stack {
    /// For each layer its directions, one or two.
    pub layers: Vec<Vec<LayerSpec>>,
    /// How two become one.
    pub merge: Merge,
    /// Each layer but the first adds the output below to its own, where the widths are equal.
    pub residual: bool,
    /// Each layer but the first sees [network's input, output below].
    pub skip: bool,
    /// The last layer's padded rows.
    pub padding: Padding,
}

/// Everything that a network's run depends on, and the gradients that come back from outside.
/// What is by layer and direction is indexed so.
#[derive(Clone, Debug)]
pub struct StackInput {
    /// `[T, B, I]`.
    pub x: Array3<f64>,
    /// The weights.
    pub weights: Vec<Vec<Weights>>,
    /// The states `[B, ·]` before the first step of each direction.
    pub initial: Vec<Vec<Vec<Array2<f64>>>>,
    /// The masks.
    pub masks: Vec<Vec<Masks>>,
    /// Multipliers (dropout) on what each layer sees, `[T, B, ·]`.
    pub between: Vec<Option<Array3<f64>>>,
    /// Multipliers on each weight_hh (Merity, Keskar, Socher 2017).
    pub weight_drop: Vec<Vec<Option<Array2<f64>>>>,
    /// The gradient with respect to the output, of its shape.
    pub d_output: Array3<f64>,
    /// The gradients with respect to the final states, of `initial`'s shapes.
    pub d_finals: Vec<Vec<Vec<Array2<f64>>>>,
}

/// What a network computes.
#[derive(Clone, Debug)]
pub struct StackForward {
    /// `[T, B, ·]`.
    pub output: Array3<f64>,
    /// Each direction's states after its last step.
    pub finals: Vec<Vec<Vec<Array2<f64>>>>,
    /// With batch norm, μ and v of each direction.
    pub statistics: Vec<Vec<Option<[Array2<f64>; 2]>>>,
    /// See [`Tape::margin`].
    pub margin: f64,
}

/// What a network computes, with all gradients.
#[derive(Clone, Debug)]
pub struct StackResult {
    /// `[T, B, ·]`.
    pub output: Array3<f64>,
    /// Each direction's states after its last step.
    pub finals: Vec<Vec<Vec<Array2<f64>>>>,
    /// With batch norm, μ and v of each direction.
    pub statistics: Vec<Vec<Option<[Array2<f64>; 2]>>>,
    /// See [`Tape::margin`].
    pub margin: f64,
    /// `[T, B, I]`.
    pub d_x: Array3<f64>,
    /// By name.
    pub d_weights: Vec<Vec<Weights>>,
    /// For one initial state shared by all rows, the sum over the rows is its gradient.
    pub d_initial: Vec<Vec<Vec<Array2<f64>>>>,
}

impl Stack {
    /// The width of the output of layer `l`; 0 where there is no such layer.
    pub fn width(&self, l: usize) -> usize {
        let mut widths = self.layers.get(l).into_iter().flatten().map(|d| d.width());
        match self.merge {
            Merge::Concat => widths.sum(),
            _ => widths.next().unwrap_or(0),
        }
    }

    /// The width of what layer `l` sees, for a network of I `inputs`.
    pub fn input_width(&self, l: usize, inputs: usize) -> usize {
        match l {
            0 => inputs,
            _ => self.width(l - 1) + if self.skip { inputs } else { 0 },
        }
    }

    fn check(&self, input: &StackInput) -> Result<()> {
        let count = [self.layers.len()];
        if self.layers.is_empty() {
            return Err(Error::invalid("a recurrent network needs at least one layer"));
        }
        let counts = [
            ("weights", input.weights.len()),
            ("initial states", input.initial.len()),
            ("masks", input.masks.len()),
            ("dropout multipliers", input.between.len()),
            ("weight drop", input.weight_drop.len()),
            ("d_finals", input.d_finals.len()),
        ];
        for (name, got) in counts {
            same_shape(&format!("{name} (how many)"), &count, &[got])?;
        }
        let (steps, batch, inputs) = input.x.dim();
        for (l, directions) in self.layers.iter().enumerate() {
            let widths: Vec<_> = directions.iter().map(|direction| direction.width()).collect();
            match (&widths[..], self.merge) {
                ([_], _) | ([_, _], Merge::Concat) => {}
                ([a, b], _) if a == b => {}
                _ => return Err(Error::invalid(format!("layer {l}: directions of {widths:?}"))),
            }
            let counts = [
                ("weights", input.weights[l].len()),
                ("initial states", input.initial[l].len()),
                ("masks", input.masks[l].len()),
                ("weight drop", input.weight_drop[l].len()),
                ("d_finals", input.d_finals[l].len()),
            ];
            for (name, got) in counts {
                same_shape(&format!("{name} of layer {l} (how many)"), &[widths.len()], &[got])?;
            }
            if let Some(m) = &input.between[l] {
                let shape = [steps, batch, self.input_width(l, inputs)];
                same_shape(&format!("dropout multipliers of layer {l}"), &shape, m.shape())?;
            }
            for (d, initial) in input.initial[l].iter().enumerate() {
                let got: Vec<_> = input.d_finals[l][d].iter().map(|s| s.dim()).collect();
                let want: Vec<_> = initial.iter().map(|s| s.dim()).collect();
                if got != want || want.first().is_some_and(|&(rows, _)| rows != batch) {
                    let shapes = format!("batch {batch}, initial {want:?}, d_finals {got:?}");
                    return Err(Error::invalid(format!("states of layer {l}: {shapes}")));
                }
            }
        }
        let last = &input.masks[self.layers.len() - 1];
        if last.iter().any(|masks| masks.valid != last[0].valid) {
            return Err(Error::invalid("the last layer's directions have different valid rows"));
        }
        let width = self.width(self.layers.len() - 1);
        same_shape("d_output", &[steps, batch, width], input.d_output.shape())
    }
}

/// A network on a tape.
struct Recorded<'t> {
    x: Vec<Node<'t>>,
    weights: Vec<Vec<WeightNodes<'t>>>,
    initial: Vec<Vec<Vec<Node<'t>>>>,
    outputs: Vec<Node<'t>>,
    finals: Vec<Vec<Vec<Node<'t>>>>,
    statistics: Vec<Vec<Option<[Node<'t>; 2]>>>,
}

/// Runs the network; d_output and d_finals are checked but play no part.
pub fn forward(stack: &Stack, input: &StackInput) -> Result<StackForward> {
    let tape = Tape::new();
    let (_, batch, width) = input.d_output.dim();
    Ok(record(&tape, stack, input)?.values(&tape, [batch, width]))
}

/// Runs the network, and goes back from d_output and d_finals to everything that went in.
pub fn run(stack: &Stack, input: &StackInput) -> Result<StackResult> {
    run_on(&Tape::new(), stack, input)
}

/// The same on an empty tape of the caller's.
///
/// # Errors
/// As [`run`].
pub fn run_on(tape: &Tape, stack: &Stack, input: &StackInput) -> Result<StackResult> {
    let recorded = record(tape, stack, input)?;
    let d_output = input.d_output.outer_iter().map(|d| d.to_owned());
    let mut seeds: Vec<_> = recorded.outputs.iter().copied().zip(d_output).collect();
    let finals = recorded.finals.iter().flatten().flatten().copied();
    seeds.extend(finals.zip(input.d_finals.iter().flatten().flatten().cloned()));
    let gradients = tape.backward(&seeds)?;
    let (_, batch, inputs) = input.x.dim();
    let StackForward { output, finals, statistics, margin } =
        recorded.values(tape, [batch, input.d_output.dim().2]);
    Ok(StackResult {
        output,
        finals,
        statistics,
        margin,
        d_x: of_steps(recorded.x.iter().map(|&x| gradients.of(x)), [batch, inputs]),
        d_weights: by_direction(&recorded.weights, |weights| {
            weights.iter().map(|(name, &w)| (name.clone(), gradients.of(w))).collect()
        }),
        d_initial: by_direction(&recorded.initial, |states| {
            states.iter().map(|&state| gradients.of(state)).collect()
        }),
    })
}

fn record<'t>(tape: &'t Tape, stack: &Stack, input: &StackInput) -> Result<Recorded<'t>> {
    stack.check(input)?;
    let x: Vec<_> = input.x.outer_iter().map(|x| tape.input(x.to_owned())).collect();
    let on_tape = |states: &Vec<Array2<f64>>| -> Vec<_> {
        states.iter().map(|state| tape.input(state.clone())).collect()
    };
    let mut recorded = Recorded {
        outputs: x.clone(),
        x,
        weights: by_direction(&input.weights, |weights| {
            weights.iter().map(|(name, w)| (name.clone(), tape.input(w.clone()))).collect()
        }),
        initial: by_direction(&input.initial, on_tape),
        finals: vec![],
        statistics: vec![],
    };
    for (l, directions) in stack.layers.iter().enumerate() {
        // What this layer sees: the output below, beside the network's input, dropped out.
        let below = match stack.skip && l > 0 {
            true => pairs(&recorded.x, &recorded.outputs, |x, y| Node::concat(Axis(1), &[x, y])),
            false => recorded.outputs.clone(),
        };
        let seen = match &input.between[l] {
            Some(multipliers) => {
                let multipliers = multipliers.outer_iter().map(|m| tape.input(m.to_owned()));
                pairs(&below, &multipliers.collect::<Vec<_>>(), |x, m| x * m)
            }
            None => below.clone(),
        };
        let mut runs = vec![];
        for (d, spec) in directions.iter().enumerate() {
            let mut weights = recorded.weights[l][d].clone();
            if let Some(m) = &input.weight_drop[l][d] {
                let u = weights.get_mut("weight_hh").ok_or_else(|| {
                    Error::invalid(format!("weight drop, but layer {l} has no weight_hh"))
                })?;
                same_shape("weight drop", &u.shape(), m.shape())?;
                *u = *u * tape.input(m.clone());
            }
            let initial = &recorded.initial[l][d];
            runs.push(layer(tape, spec, &weights, &seen, initial, &input.masks[l][d])?);
        }
        let merged = match &runs[..] {
            [one] => one.outputs.clone(),
            [a, b] => pairs(&a.outputs, &b.outputs, |a, b| match stack.merge {
                Merge::Concat => Node::concat(Axis(1), &[a, b]),
                Merge::Sum => a + b,
                Merge::Mul => a * b,
                Merge::Average => (a + b).scale(0.5),
            }),
            _ => return Err(Error::invalid("a layer has one direction or two")),
        };
        let added = stack.residual && l > 0 && stack.width(l) == stack.width(l - 1);
        recorded.outputs =
            if added { pairs(&recorded.outputs, &merged, |x, y| x + y) } else { merged };
        recorded.statistics.push(runs.iter().map(|run| run.statistics).collect());
        recorded.finals.push(runs.into_iter().map(|run| run.finals).collect());
    }
    let last = input.masks.last().and_then(|masks| masks.first());
    if let (Padding::Value(value), Some(valid)) =
        (stack.padding, last.and_then(|m| m.valid.as_ref()))
    {
        for (t, output) in recorded.outputs.iter_mut().enumerate() {
            let padding = tape.input(Array2::from_elem(output.shape(), value));
            *output = output.choose(&valid.row(t).to_owned().insert_axis(Axis(1)), padding);
        }
    }
    Ok(recorded)
}

impl Recorded<'_> {
    /// The values alone; `[batch, width]` is the shape of a step's output.
    fn values(&self, tape: &Tape, [batch, width]: [usize; 2]) -> StackForward {
        let array = |node: Node<'_>| (*node.value()).clone();
        StackForward {
            output: of_steps(self.outputs.iter().map(|&y| array(y)), [batch, width]),
            finals: by_direction(&self.finals, |states| states.iter().map(|&s| array(s)).collect()),
            statistics: by_direction(&self.statistics, |pair| pair.map(|pair| pair.map(array))),
            margin: tape.margin(),
        }
    }
}

/// `[T, B, ·]` from T arrays.
fn of_steps(steps: impl Iterator<Item = Array2<f64>>, [rows, columns]: [usize; 2]) -> Array3<f64> {
    let steps: Vec<_> = steps.collect();
    let mut all = Array3::zeros((steps.len(), rows, columns));
    for (mut to, from) in all.outer_iter_mut().zip(steps) {
        to.assign(&from);
    }
    all
}

fn pairs<'t>(
    a: &[Node<'t>],
    b: &[Node<'t>],
    f: impl Fn(Node<'t>, Node<'t>) -> Node<'t>,
) -> Vec<Node<'t>> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

/// The same nesting by layer and direction, each element through `f`.
fn by_direction<A, B>(all: &[Vec<A>], f: impl Fn(&A) -> B) -> Vec<Vec<B>> {
    all.iter().map(|directions| directions.iter().map(&f).collect()).collect()
}
