//! What a layer is, which options go together, and the shapes of its weights.

use std::collections::BTreeMap;

use super::super::same_shape;
use super::{Cell, Convolution, Masks, Options};
use crate::error::{Error, Result};

/// One direction of one layer.
#[derive(Clone, Debug)]
pub struct LayerSpec {
    /// The equations.
    pub cell: Cell,
    /// What was chosen of them.
    pub options: Options,
    /// H.
    pub hidden: usize,
}

impl LayerSpec {
    /// G.
    pub fn gates(&self) -> usize {
        match &self.cell {
            Cell::Rnn => 1,
            Cell::Lstm if self.options.coupled => 3,
            Cell::Lstm | Cell::SLstm => 4,
            Cell::Gru | Cell::GruResetBefore | Cell::MinLstm => 3,
            Cell::MinGru => 2,
            Cell::Custom(cell) => cell.gates(),
        }
    }

    /// The widths of the states: P for h, then H for each other one.
    pub fn state_widths(&self) -> Vec<usize> {
        let others = match &self.cell {
            Cell::Lstm => 1,
            Cell::SLstm => 3,
            Cell::Custom(cell) => cell.states().saturating_sub(1),
            _ => 0,
        };
        let mut widths = vec![self.hidden; 1 + others];
        widths[0] = self.width();
        widths
    }

    /// P, the width of h.
    pub fn width(&self) -> usize {
        self.options.projection.unwrap_or(self.hidden)
    }

    /// Whether there is a recurrent product.
    pub fn recurrent(&self) -> bool {
        !matches!(self.cell, Cell::MinGru | Cell::MinLstm)
    }

    /// The shapes of the weights by name, for I `inputs`.
    pub fn weight_shapes(&self, inputs: usize) -> BTreeMap<String, [usize; 2]> {
        let (options, hidden) = (&self.options, self.hidden);
        let rows = self.gates() * hidden;
        let taps = options.convolution.map_or(1, |c| c.taps());
        let normed = options.layer_norm.is_some();
        let peepholes = if options.coupled { 2 } else { 3 };
        let lstm = matches!(self.cell, Cell::Lstm);
        [
            (true, "weight_ih", [rows, inputs * taps]),
            (true, "bias_ih", [1, rows]),
            (self.recurrent(), "weight_hh", [rows, self.width() / options.heads.max(1) * taps]),
            (self.recurrent(), "bias_hh", [1, rows]),
            (options.projection.is_some(), "weight_hr", [self.width(), hidden]),
            (options.peepholes, "weight_peephole", [1, peepholes * hidden]),
            (normed, "norm_ih_weight", [1, rows]),
            (normed && self.recurrent(), "norm_hh_weight", [1, rows]),
            (normed && lstm, "norm_cell_weight", [1, hidden]),
            (normed && lstm, "norm_cell_bias", [1, hidden]),
            (options.batch_norm.is_some(), "batch_norm_weight", [1, rows]),
        ]
        .into_iter()
        .filter(|(present, ..)| *present)
        .map(|(_, name, shape)| (name.to_string(), shape))
        .collect()
    }

    /// Whether these options exist for this cell and go together.
    pub fn check(&self) -> Result<()> {
        let (options, cell) = (&self.options, &self.cell);
        let only = |used: bool, possible: bool, what: &str| match used && !possible {
            true => Err(Error::invalid(format!("{what} with the cell {cell:?}"))),
            false => Ok(()),
        };
        let lstm = matches!(cell, Cell::Lstm);
        only(options.peepholes, lstm, "peepholes")?;
        only(options.coupled, lstm, "coupled gates")?;
        only(options.cell_clip.is_some(), lstm, "a cell clip")?;
        only(options.projection.is_some(), lstm, "a projection")?;
        only(options.heads != 1, self.recurrent(), "heads")?;
        only(options.clip.is_some(), !matches!(cell, Cell::Custom(_)), "a clip")?;
        if let Cell::Custom(custom) = cell
            && (custom.gates() == 0 || custom.states() == 0)
        {
            return Err(Error::invalid("a cell needs a gate and a state"));
        }
        if let Some(chosen) = &options.activations {
            // For all gates alike, or gate by gate.
            let counts = match cell {
                Cell::Rnn => [1, 1],
                Cell::Lstm => [3, 5],
                Cell::Gru | Cell::GruResetBefore => [2, 3],
                _ => [0, 0],
            };
            only(true, counts[0] > 0, "activations")?;
            if chosen.len() != counts[1] {
                same_shape("activations (how many)", &counts[..1], &[chosen.len()])?;
            }
        }
        if options.layer_norm.is_some() && options.batch_norm.is_some() {
            return Err(Error::invalid("the input product has a layer or a batch norm, not both"));
        }
        let numbers = [
            (options.clip, "clip"),
            (options.cell_clip, "cell clip"),
            (options.layer_norm, "layer norm's epsilon"),
            (options.batch_norm, "batch norm's epsilon"),
        ];
        for (number, what) in numbers {
            if number.is_some_and(|value| value.is_nan() || value <= 0.0) {
                return Err(Error::invalid(format!("{what} must be positive, not {number:?}")));
            }
        }
        let (hidden, width, heads) = (self.hidden, self.width(), options.heads);
        if hidden == 0 || width == 0 {
            return Err(Error::invalid("a layer needs at least one unit"));
        }
        if heads == 0 || !hidden.is_multiple_of(heads) || !width.is_multiple_of(heads) {
            let sizes = format!("{hidden} units and a width of {width}");
            return Err(Error::invalid(format!("{heads} heads don't divide {sizes}")));
        }
        match options.convolution {
            Some(c) if c.places() == 0 => Err(Error::invalid("a map without places")),
            Some(c) if c.kernel_height % 2 == 0 || c.kernel_width % 2 == 0 => {
                Err(Error::invalid(format!("a kernel must be odd: {c:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the masks fit T `steps` and B `batch` rows.
    pub fn check_masks(&self, masks: &Masks, steps: usize, batch: usize) -> Result<()> {
        for (mask, name) in [(&masks.valid, "valid rows"), (&masks.resets, "resets")] {
            if let Some(mask) = mask {
                same_shape(name, &[steps, batch], mask.shape())?;
            }
        }
        let possible = if self.recurrent() { [0, 1, self.gates()] } else { [0; 3] };
        if !possible.contains(&masks.recurrent.len()) {
            let count = masks.recurrent.len();
            return Err(Error::invalid(format!(
                "{count} recurrent masks, not one of {possible:?}"
            )));
        }
        for mask in &masks.recurrent {
            same_shape("recurrent mask", &[batch, self.width()], mask.shape())?;
        }
        if masks.zoneout.is_empty() {
            return Ok(());
        }
        let widths = self.state_widths();
        same_shape("zoneout masks (how many)", &[widths.len()], &[masks.zoneout.len()])?;
        for (mask, &width) in masks.zoneout.iter().zip(&widths) {
            if let Some(mask) = mask {
                same_shape("zoneout mask", &[steps * batch, width], mask.shape())?;
            }
        }
        Ok(())
    }
}

impl Convolution {
    /// S.
    pub fn places(&self) -> usize {
        self.height * self.width
    }

    /// How many places a product sees.
    pub fn taps(&self) -> usize {
        self.kernel_height * self.kernel_width
    }
}
