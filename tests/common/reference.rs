//! A stack's run in the oracle, with everything that it computed at each step.

use ndarray::{Array2, Axis, concatenate};
use recurra::cell::{Activation, CellKind};
use recurra::layer::{Direction, Merge, Recurrent};
use recurra::oracle::recurrent as oracle;
use recurra::oracle::tape::{Node, Tape};
use recurra::tensor::NamedTensors;

/// One layer and direction: what it heard and all its states.
pub struct Part {
    /// [B, ·] at each step.
    pub input: Vec<Array2<f64>>,
    /// Before the first step of its direction: h, and c of an LSTM.
    pub initial: Vec<Array2<f64>>,
    /// After each step: h, and c.
    pub states: Vec<Vec<Array2<f64>>>,
    /// After the last step of its direction.
    pub last: Vec<Array2<f64>>,
    pub reverse: bool,
    pub weights: oracle::Weights,
}

impl Part {
    /// h, and c, that step t starts from.
    pub fn before(&self, t: usize) -> &[Array2<f64>] {
        let time = self.states.len();
        match self.reverse {
            false if t == 0 => &self.initial,
            false => &self.states[t - 1],
            true if t + 1 == time => &self.initial,
            true => &self.states[t + 1],
        }
    }
}

fn activation(of: &Activation) -> oracle::Activation {
    match of {
        Activation::Relu => oracle::Activation::Relu,
        Activation::Tanh => oracle::Activation::Tanh,
        Activation::Sigmoid => oracle::Activation::Sigmoid,
        other => panic!("{other:?} has no use here"),
    }
}

/// Runs a stack of RNN, LSTM or GRU without dropout over x [T·B, I]; initial states by part, h [B, H]
/// and then c. Of two directions the outputs are side by side.
pub fn reference(
    stack: &Recurrent,
    weights: &NamedTensors,
    x: &[f32],
    [time, batch]: [usize; 2],
    initial: &[Vec<f32>],
    lengths: Option<&[usize]>,
) -> Vec<Part> {
    let wide = |values: &[f32], rows: usize| -> Array2<f64> {
        let columns = values.len() / rows;
        let values = values.iter().map(|&v| v.into()).collect();
        Array2::from_shape_vec((rows, columns), values).unwrap()
    };
    let cell = match stack.cell.kind {
        CellKind::RnnTanh | CellKind::RnnRelu => oracle::Cell::Rnn,
        CellKind::Lstm => oracle::Cell::Lstm,
        CellKind::Gru => oracle::Cell::Gru,
        CellKind::GruResetBefore => oracle::Cell::GruResetBefore,
        other => panic!("{other:?} has no use here"),
    };
    let own = (stack.cell.kind == CellKind::RnnRelu).then(|| vec![oracle::Activation::Relu]);
    let chosen = stack.cell.activations.as_ref().map(|list| list.iter().map(activation).collect());
    let valid = lengths.map(|l| Array2::from_shape_fn((time, batch), |(t, b)| t < l[b]));
    let masks = oracle::Masks { valid, ..oracle::Masks::default() };
    let width = x.len() / (time * batch) * batch;
    let mut below: Vec<Array2<f64>> = x.chunks(width).map(|x| wide(x, batch)).collect();
    let mut parts = Vec::new();
    for l in 0..stack.layers {
        let mut outputs: Vec<Vec<Array2<f64>>> = Vec::new();
        for d in 0..stack.direction.count() {
            let reverse = stack.direction.is_reverse(d);
            let suffix = format!("_l{l}{}", if d == 1 { "_reverse" } else { "" });
            let named = stack.parameters(l, d).into_iter().map(|parameter| {
                let tensor = &weights[&format!("{}.{}", stack.name, parameter.name)];
                let rows = if parameter.shape.len() == 2 { parameter.shape[0] } else { 1 };
                let stem = parameter.name.strip_suffix(&suffix).unwrap().to_string();
                (stem, wide(&tensor.iter().copied().collect::<Vec<_>>(), rows))
            });
            let weights: oracle::Weights = named.collect();
            let spec = oracle::LayerSpec {
                cell: cell.clone(),
                options: oracle::Options {
                    activations: chosen.clone().or_else(|| own.clone()),
                    reverse,
                    ..oracle::Options::default()
                },
                hidden: stack.hidden,
            };
            let tape = Tape::new();
            let on = |array: &Array2<f64>| tape.input(array.clone());
            let nodes = weights.iter().map(|(name, w)| (name.clone(), on(w))).collect();
            let seen: Vec<Node<'_>> = below.iter().map(on).collect();
            let words = batch * stack.hidden;
            let start = initial[parts.len()].chunks(words).map(|s| wide(s, batch));
            let start: Vec<Array2<f64>> = start.collect();
            let from: Vec<Node<'_>> = start.iter().map(on).collect();
            let run = oracle::layer(&tape, &spec, &nodes, &seen, &from, &masks).unwrap();
            let values = |nodes: &Vec<Node<'_>>| -> Vec<Array2<f64>> {
                nodes.iter().map(|node| (*node.value()).clone()).collect()
            };
            outputs.push(values(&run.outputs));
            parts.push(Part {
                input: below.clone(),
                initial: start,
                states: run.states.iter().map(values).collect(),
                last: values(&run.finals),
                reverse,
                weights,
            });
        }
        assert!(matches!(stack.direction, Direction::Both(Merge::Concat)) || outputs.len() == 1);
        let beside = |t: usize| {
            let views: Vec<_> = outputs.iter().map(|steps| steps[t].view()).collect();
            concatenate(Axis(1), &views).unwrap()
        };
        below = (0..time).map(beside).collect();
    }
    parts
}
