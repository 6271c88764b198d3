//! What the microscope shows of a step.

use super::{Microscope, Place, spectral_radius, total};
use crate::cell::{Cell, CellKind};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// One look at a training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The training step, from 1; 0 where it is of none, which is left out in files.
    #[serde(default, skip_serializing_if = "is_none")]
    pub step: u64,
    /// Each recurrent layer and direction, from the first on.
    pub layers: Vec<LayerView>,
    /// How far the step moved each parameter; empty where it was not taken.
    pub updates: Vec<UpdateRatio>,
}

fn is_none(step: &u64) -> bool {
    *step == 0
}

/// A parameter's update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRatio {
    /// The parameter's name.
    pub parameter: String,
    /// ‖w after − w before‖ / ‖w before‖.
    pub ratio: f32,
}

/// What flowed through one layer and direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerView {
    /// `lstm.l0`, `lstm.l0_reverse` …
    pub name: String,
    /// The cell's name.
    pub cell: String,
    /// The gradients that came back.
    pub gradients: Gradients,
    /// What share of a gate's activations lies at its ends.
    pub gates: Vec<GateView>,
    /// ρ of the recurrent weights of each gate (of heads the largest), with the gate's name; none of a scan.
    pub spectral_radius: Vec<(String, f32)>,
    /// Steps in which the median unit forgets half of its state, by its gates; none where no gate says so.
    pub half_life: Option<f32>,
    /// The same of the tenth of the units that remember longest: they remember for longer.
    pub long_half_life: Option<f32>,
}

/// Norms of the loss's gradient, over all rows and units, and how they change from step to step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gradients {
    /// ‖dL/dh(t)‖ of each step t, in the order of time, behind the step: what later steps, the layers above and
    /// the loss give.
    pub h: Vec<f32>,
    /// ‖dL/dc(t)‖ of the other states behind each step: what later steps give them, and what h(t) does, which comes
    /// from them. Empty where there are none.
    pub c: Vec<f32>,
    /// Whether the way by h(t) is in `c`: under zoneout, of custom cells, and with other activations than an LSTM's own
    /// it has what later steps give alone.
    #[serde(default)]
    pub c_by_way_of_h: bool,
    /// What is left of a gradient one step further back, as a factor of its norm, the geometric mean over the
    /// steps: under 1 gradients vanish, over 1 they explode. None where no gradient came.
    pub kept: Option<f32>,
}

impl Gradients {
    /// Steps over which a gradient shrinks to half (or grows to twice) its norm.
    pub fn half_distance(&self) -> Option<f32> {
        self.kept.filter(|&kept| kept > 0.0).map(|kept| 0.5f32.ln().abs() / kept.ln().abs())
    }
}

/// A gate of a layer, over all steps, rows and units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateView {
    /// i, f, g, o; r, z, n …
    pub name: String,
    /// The mean activation.
    pub mean: f32,
    /// The share at the lower end: σ under 0.05, tanh under −0.9, relu at 0.
    pub low: f32,
    /// The share at the upper end: σ over 0.95, tanh over 0.9.
    pub high: f32,
}

/// Where a gate's activations end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Range {
    Sigmoid,
    Tanh,
    Relu,
    /// No end that is told.
    Open,
}

impl Range {
    fn ends(self) -> (f32, f32) {
        match self {
            Range::Sigmoid => (0.05, 0.95),
            Range::Tanh => (-0.9, 0.9),
            Range::Relu => (f32::MIN_POSITIVE, f32::INFINITY),
            Range::Open => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }
}

/// The gates of a cell in the order in which they are saved, with the range of each.
pub(super) fn gate_names(cell: &Cell) -> Vec<String> {
    gates(cell).into_iter().map(|gate| gate.0).collect()
}

fn gates(cell: &Cell) -> Vec<(String, Range)> {
    use Range::{Open, Relu, Sigmoid, Tanh};
    let list: &[(&str, Range)] = match cell.kind {
        CellKind::RnnTanh => &[("h", Tanh)],
        CellKind::RnnRelu => &[("h", Relu)],
        CellKind::Lstm if cell.coupled => &[("i", Sigmoid), ("g", Tanh), ("o", Sigmoid)],
        CellKind::Lstm => &[("i", Sigmoid), ("f", Sigmoid), ("g", Tanh), ("o", Sigmoid)],
        CellKind::Gru | CellKind::GruResetBefore => &[("r", Sigmoid), ("z", Sigmoid), ("n", Tanh)],
        CellKind::Slstm => &[("i", Open), ("f", Open), ("z", Tanh), ("o", Sigmoid)],
        CellKind::MinGru => &[("z", Sigmoid), ("n", Open)],
        CellKind::MinLstm => &[("f", Sigmoid), ("i", Sigmoid), ("n", Open)],
        CellKind::Custom => &[],
    };
    let custom = cell.activations.is_some();
    let named =
        list.iter().map(|&(name, range)| (name.to_string(), if custom { Open } else { range }));
    let unnamed = (list.len()..cell.gates()).map(|gate| (format!("gate {gate}"), Open));
    named.chain(unnamed).collect()
}

/// What a unit keeps of its state in a step, from its gates' activations; none where no gate says so.
fn keep(cell: &Cell) -> Option<(usize, bool)> {
    if cell.activations.is_some() {
        return None;
    }
    // (the gate, whether what is kept is 1 minus it)
    match cell.kind {
        CellKind::Lstm if cell.coupled => Some((0, true)),
        CellKind::Lstm | CellKind::Slstm => Some((1, false)),
        CellKind::Gru | CellKind::GruResetBefore => Some((1, false)),
        CellKind::MinGru => Some((0, true)),
        _ => None,
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

impl LayerView {
    pub(super) fn read(scope: &Microscope, place: Place) -> Result<Self> {
        let (stack, names) = (place.stack, place.scope());
        let cell = &stack.cell;
        let all = scope.output(&names.gates())?;
        let valid = scope.output(&names.valid())?;
        let (half_life, long_half_life) = half_lives(cell, stack.hidden, &all, &valid);
        Ok(LayerView {
            cell: cell.name().to_string(),
            gradients: Gradients::read(scope, place)?,
            gates: gate_views(cell, stack.hidden, &all, &valid),
            spectral_radius: radii(scope, place)?,
            half_life,
            long_half_life,
            name: names.name,
        })
    }
}

/// The rows of gates that take part.
fn taking_part<'a>(all: &'a [f32], row: usize, valid: &[f32]) -> impl Iterator<Item = &'a [f32]> {
    all.chunks(row).zip(valid).filter(|(_, valid)| **valid > 0.0).map(|(row, _)| row)
}

fn gate_views(cell: &Cell, hidden: usize, all: &[f32], valid: &[f32]) -> Vec<GateView> {
    let row = cell.saved() * hidden;
    let list = gates(cell).into_iter().enumerate();
    list.map(|(gate, (name, range))| {
        let rows = taking_part(all, row, valid);
        let own = rows.flat_map(|row| &row[gate * hidden..][..hidden]);
        let (low, high) = range.ends();
        let (mut sum, mut under, mut over, mut count) = (0.0, 0u64, 0u64, 0u64);
        for &x in own {
            sum += f64::from(x);
            under += u64::from(x < low);
            over += u64::from(x > high);
            count += 1;
        }
        let share = |n: u64| (n as f64 / count.max(1) as f64) as f32;
        let mean = (sum / count.max(1) as f64) as f32;
        GateView { name, mean, low: share(under), high: share(over) }
    })
    .collect()
}

/// ln ½ / mean ln(kept) of each unit over steps and rows: the median and the 90th of a hundred.
fn half_lives(
    cell: &Cell,
    hidden: usize,
    all: &[f32],
    valid: &[f32],
) -> (Option<f32>, Option<f32>) {
    let Some((gate, rest)) = keep(cell) else { return (None, None) };
    let row = cell.saved() * hidden;
    let rows = taking_part(all, row, valid).count().max(1) as f64;
    let mut lives: Vec<f32> = (0..hidden)
        .map(|unit| {
            let logs = taking_part(all, row, valid).map(|row| {
                let value = row[gate * hidden + unit];
                let kept = if rest { 1.0 - value } else { value };
                f64::from(kept).max(1e-30).ln()
            });
            (0.5f64.ln() / (logs.sum::<f64>() / rows).min(-1e-9)) as f32
        })
        .collect();
    lives.sort_by(f32::total_cmp);
    let at = |part: f64| lives.get((part * hidden as f64) as usize).copied();
    (at(0.5), at(0.9))
}

impl Gradients {
    fn read(scope: &Microscope, place: Place) -> Result<Self> {
        let (stack, names) = (place.stack, place.scope());
        let (width, states) = (stack.cell.width(stack.hidden), stack.cell.states());
        let carry = scope.output(&names.carry())?;
        let d_output = scope.output(&names.d_output())?;
        let words = stack.cell.state_words(stack.hidden);
        let [time, batch] = scope.shape(place)?;
        let known = states > 1 && total::is_known(place);
        let output = known.then(|| total::Output::read(scope, place)).transpose()?;
        let [behind, gates] = match &output {
            Some(_) => [scope.output(&names.states())?, scope.output(&names.gates())?],
            None => [Vec::new(), Vec::new()],
        };
        let row = |t: usize| &carry[t * batch * words..][..batch * words];
        let (mut h, mut c, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for t in 0..time {
            let (own, others) = row(t).split_at(batch * width);
            let above = &d_output[t * batch * width..][..batch * width];
            let total: Vec<f32> = own.iter().zip(above).map(|(a, b)| a + b).collect();
            let (n, m) = (norm(&total), norm(others));
            h.push(n as f32);
            if let Some(output) = &output {
                let own = &behind[t * batch * words..][..batch * words];
                let saved = gates.len() / time.max(1);
                let own = [row(t), above, own, &gates[t * saved..][..saved]];
                c.push(norm(&output.of_step(own, batch)) as f32);
            } else if states > 1 {
                c.push(m as f32);
            }
            whole.push(n.hypot(m));
        }
        // What leaves a step, against what came to it: row t's gradient, one step further back.
        let reverse = stack.direction.is_reverse(place.direction);
        let further = |t: usize| match reverse {
            false => t.checked_sub(1),
            true => Some(t + 1).filter(|&next| next < time),
        };
        let (mut sum, mut count) = (0.0, 0);
        for (t, &came) in whole.iter().enumerate() {
            let left = norm(row(further(t).unwrap_or(time)));
            if came > 0.0 && left > 0.0 {
                sum += (left / came).ln();
                count += 1;
            }
        }
        let kept = (count > 0).then(|| (sum / f64::from(count)).exp() as f32);
        Ok(Gradients { h, c, c_by_way_of_h: known, kept })
    }
}

/// ρ of each gate's recurrent weights.
fn radii(scope: &Microscope, place: Place) -> Result<Vec<(String, f32)>> {
    let stack = place.stack;
    let (h, heads) = (stack.hidden, stack.heads);
    let square = stack.cell.width(h) == h && stack.convolution.is_none();
    if stack.cell.kind.is_scan() || !square {
        return Ok(Vec::new());
    }
    let suffix = if place.direction == 1 { "_reverse" } else { "" };
    let name = format!("{}.weight_hh_l{}{suffix}", stack.name, place.layer);
    let weights = scope.store.get(&name)?;
    let depth = h / heads;
    let radius = |(gate, name): (usize, String)| {
        let of_head = |head: usize| {
            let first = (gate * h + head * depth) * depth;
            spectral_radius(&weights[first..first + depth * depth], depth)
        };
        (name, (0..heads).map(of_head).fold(0.0, f32::max))
    };
    Ok(gate_names(&stack.cell).into_iter().enumerate().map(radius).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of padding hold zeros, which are no gates.
    #[test]
    fn padding_is_no_gate() {
        let cell = Cell::from(CellKind::Lstm);
        let row = cell.saved();
        // One unit; the second and the last row take no part.
        let mut all = vec![0.5; 4 * row];
        all[row..2 * row].fill(0.0);
        all[3 * row..].fill(f32::NAN);
        let valid = [1.0, 0.0, 1.0, 0.0];
        for gate in gate_views(&cell, 1, &all, &valid) {
            assert_eq!((gate.mean, gate.low, gate.high), (0.5, 0.0, 0.0), "{}", gate.name);
        }
        // Half of the state at each step.
        let (half, long) = half_lives(&cell, 1, &all, &valid);
        assert!((half.unwrap() - 1.0).abs() < 1e-6 && (long.unwrap() - 1.0).abs() < 1e-6);
    }
}
