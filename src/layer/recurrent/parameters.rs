//! Names and shapes of a stack's parameters.

use super::Recurrent;
use crate::cell::ParameterShape;

impl Recurrent {
    /// The parameters of one layer and direction, PyTorch's names where PyTorch has them, without the
    /// stack's own name: weight_ih \[G·H, I\], weight_hh \[G·H, P/heads\], bias_ih and bias_hh \[G·H\],
    /// weight_hr \[P, H\]; weight_peephole, norm_ih_weight, norm_hh_weight, norm_cell_weight,
    /// norm_cell_bias, batch_norm_weight. A convolution's columns are \[I·taps\] and \[P·taps\], taps
    /// fastest.
    pub fn parameters(&self, layer: usize, direction: usize) -> Vec<ParameterShape> {
        let (cell, h) = (&self.cell, self.hidden);
        let rows = cell.gates() * h;
        let width = cell.width(h);
        let taps = self.convolution.map_or(1, |c| c.taps());
        let mut list = vec![
            ("weight_ih", vec![rows, self.layer_input(layer) * taps]),
            ("bias_ih", vec![rows]),
        ];
        let normed = cell.layer_norm.is_some();
        if !cell.kind.is_scan() {
            list.insert(1, ("weight_hh", vec![rows, width * taps / self.heads]));
            list.push(("bias_hh", vec![rows]));
            if cell.projection.is_some() {
                list.push(("weight_hr", vec![width, h]));
            }
            list.extend(cell.unit_parameters().into_iter().map(|(name, n)| (name, vec![n * h])));
        }
        if normed {
            list.push(("norm_ih_weight", vec![rows]));
        }
        if self.batch_norm.is_some() {
            list.push(("batch_norm_weight", vec![rows]));
        }
        let make = |(stem, shape): (&str, Vec<usize>)| ParameterShape {
            name: self.parameter_name(stem, [layer, direction]),
            shape,
        };
        list.into_iter().map(make).collect()
    }

    /// `{stem}_l{layer}`, with `_reverse` for the second direction, or the only one where that goes
    /// backwards (as ONNX's reverse layers have no name of their own, they keep the plain one).
    pub(super) fn parameter_name(&self, stem: &str, [layer, direction]: [usize; 2]) -> String {
        let suffix = if direction == 1 { "_reverse" } else { "" };
        format!("{stem}_l{layer}{suffix}")
    }

    /// All parameters of the stack with their full names, learned initial states included.
    pub fn all_parameters(&self) -> Vec<ParameterShape> {
        let mut list = Vec::new();
        for layer in 0..self.layers {
            for d in 0..self.direction.count() {
                list.extend(self.parameters(layer, d));
                if self.learned_initial {
                    let name = self.parameter_name("initial", [layer, d]);
                    list.push(ParameterShape {
                        name,
                        shape: vec![self.cell.state_words(self.hidden)],
                    });
                }
            }
        }
        for parameter in &mut list {
            parameter.name = format!("{}.{}", self.name, parameter.name);
        }
        list
    }
}
