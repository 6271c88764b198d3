//! Names and shapes of a stack's parameters.

use super::Recurrent;
use crate::cell::ParameterShape;
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::schedule::{Recorder, Var};

/// The largest width of anything, and the most layers and taps: sizes of parameters are products of a few of them, which
/// must not wrap, and a list of all parameters must fit in memory before anything looks at their elements.
const MOST_UNITS: usize = 1 << 22;
const MOST_LAYERS: usize = 1 << 12;
const MOST_TAPS: usize = 1 << 12;

impl Recurrent {
    /// Whether the parameters can be listed.
    pub(super) fn check_sizes(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid(format!("'{}': {what}", self.name)));
        if self.layers > MOST_LAYERS {
            let layers = self.layers;
            return refuse(format!("{layers} layers are too many: {MOST_LAYERS} at most"));
        }
        let [map, kernel] = self.convolution.map_or([[1; 2]; 2], |c| [c.map, c.kernel]);
        for (size, most, what) in [
            (self.input, MOST_UNITS, "an input size"),
            (self.hidden, MOST_UNITS, "a hidden size"),
            (self.cell.projection.unwrap_or(1), MOST_UNITS, "a projection"),
            (self.heads, MOST_UNITS, "a number of heads"),
            (map[0].saturating_mul(map[1]), MOST_UNITS, "a map's number of places"),
            (kernel[0].saturating_mul(kernel[1]), MOST_TAPS, "a kernel's number of taps"),
        ] {
            if size > most {
                return refuse(format!("{what} of {size} is too large: {most} at most"));
            }
        }
        Ok(())
    }

    /// The parameters of one layer and direction, PyTorch's names where PyTorch has them, without the
    /// stack's own name: weight_ih \[G·H, I\], weight_hh \[G·H, P/heads\], bias_ih and bias_hh \[G·H\],
    /// weight_hr \[P, H\]; weight_peephole, norm_ih_weight, norm_hh_weight, norm_cell_weight,
    /// norm_cell_bias, batch_norm_weight. A convolution's columns are \[I·taps\] and \[P·taps\], taps
    /// fastest. Of sizes that [`Recurrent::check`] refuses it says no more than that they are large.
    pub fn parameters(&self, layer: usize, direction: usize) -> Vec<ParameterShape> {
        let (cell, h) = (&self.cell, self.hidden);
        let rows = cell.gates().saturating_mul(h);
        let width = cell.width(h);
        let taps = self.convolution.map_or(1, |c| c.taps());
        let mut list = vec![
            ("weight_ih", vec![rows, self.layer_input(layer).saturating_mul(taps)]),
            ("bias_ih", vec![rows]),
        ];
        let normed = cell.layer_norm.is_some();
        if !cell.kind.is_scan() {
            list.insert(
                1,
                ("weight_hh", vec![rows, width.saturating_mul(taps) / self.heads.max(1)]),
            );
            list.push(("bias_hh", vec![rows]));
            if cell.projection.is_some() {
                list.push(("weight_hr", vec![width, h]));
            }
            list.extend(
                cell.unit_parameters()
                    .into_iter()
                    .map(|(name, n)| (name, vec![h.saturating_mul(n)])),
            );
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

/// The parameters as a recording has them.
pub(super) struct Parameters {
    pub ih: Var,
    pub b_ih: Var,
    pub hh: Option<Var>,
    pub b_hh: Option<Var>,
    pub hr: Option<Var>,
    /// Gain of the input product's norm.
    pub gain: Option<Var>,
    /// Parameters by unit: vector number, parameter.
    pub by_unit: Vec<(usize, Var)>,
    pub initial: Option<Var>,
}

impl Parameters {
    /// The vectors by unit, one after the other.
    pub fn gather_by_unit(&self, rec: &mut Recorder, layer: &Recurrent) -> Result<Option<View>> {
        if self.by_unit.is_empty() {
            return Ok(None);
        }
        let shape = [layer.cell.unit_vectors(), layer.hidden];
        let all = rec.temporary_f32("unit_parameters", shape)?.view;
        for &(vector, parameter) in &self.by_unit {
            let n = parameter.view.len;
            let target = all.part(vector * layer.hidden, n);
            rec.copy_rows([1, n], (parameter.view, n), (target, n))?;
        }
        Ok(Some(all))
    }
}

impl Recurrent {
    /// The parameters of one layer and direction.
    pub(super) fn record_parameters(
        &self,
        rec: &mut Recorder,
        place: [usize; 2],
    ) -> Result<Parameters> {
        let mut found = Vec::new();
        for parameter in self.parameters(place[0], place[1]) {
            // A vector is one row.
            let shape = match parameter.shape[..] {
                [rows, columns] => [rows, columns],
                _ => [1, parameter.shape.iter().product()],
            };
            let var = rec.parameter(&format!("{}.{}", self.name, parameter.name), shape)?;
            found.push((parameter.name, var));
        }
        let find = |stem: &str| {
            let name = self.parameter_name(stem, place);
            found.iter().find(|f| f.0 == name).map(|f| f.1)
        };
        let missing = |stem: &str| Error::Missing {
            tensor: stem.to_string(),
            place: format!("layer '{}'", self.name),
        };
        let (mut by_unit, mut vector) = (Vec::new(), 0);
        for (stem, vectors) in self.cell.unit_parameters() {
            by_unit.push((vector, find(stem).ok_or_else(|| missing(stem))?));
            vector += vectors;
        }
        let initial = match self.learned_initial {
            true => {
                let name = format!("{}.{}", self.name, self.parameter_name("initial", place));
                Some(rec.parameter(&name, [1, self.cell.state_words(self.hidden)])?)
            }
            false => None,
        };
        Ok(Parameters {
            ih: rec.in_precision(find("weight_ih").ok_or_else(|| missing("weight_ih"))?)?,
            b_ih: find("bias_ih").ok_or_else(|| missing("bias_ih"))?,
            hh: find("weight_hh"),
            b_hh: find("bias_hh"),
            hr: find("weight_hr").map(|hr| rec.in_precision(hr)).transpose()?,
            gain: find("norm_ih_weight").or(find("batch_norm_weight")),
            by_unit,
            initial,
        })
    }
}
