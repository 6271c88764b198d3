//! The first value that is no number.

use super::view::gate_names;
use super::{Microscope, Place};
use crate::error::Result;
use crate::recording::Role;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where the first value lies that is no number, in the order in which values are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// The layer and direction, `lstm.l0`; or the parameter.
    pub place: String,
    /// What it is: `gate f`, `h`, `the gradient of h` …; `weight` of a parameter.
    pub what: String,
    /// The time step, from 0; none of a parameter.
    pub time: Option<usize>,
    /// The batch row.
    pub row: Option<usize>,
    /// The hidden unit.
    pub unit: Option<usize>,
    /// NaN or an infinity.
    pub value: f32,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} is {}", self.what, self.place, self.value)?;
        let places = [("time step", self.time), ("row", self.row), ("unit", self.unit)];
        for (what, number) in places {
            if let Some(number) = number {
                write!(f, ", {what} {number}")?;
            }
        }
        Ok(())
    }
}

fn bad(values: &[f32]) -> Option<(usize, f32)> {
    let at = values.iter().position(|x| !x.is_finite())?;
    Some((at, values[at]))
}

impl Trouble {
    /// In a tensor that is of no time step.
    pub(super) fn of(place: &str, what: &str, values: &[f32]) -> Option<Self> {
        let (_, value) = bad(values)?;
        let (place, what) = (place.to_string(), what.to_string());
        Some(Trouble { place, what, time: None, row: None, unit: None, value })
    }

    pub(super) fn find(scope: &Microscope) -> Result<Option<Self>> {
        for buffer in scope.recording.buffers().iter().filter(|b| b.role == Role::Parameter) {
            let values = scope.store.get(&buffer.name)?;
            if let Some(found) = Trouble::of(&buffer.name, "weight", &values) {
                return Ok(Some(found));
            }
        }
        for place in scope.places() {
            if let Some(found) = forward(scope, place)? {
                return Ok(Some(found));
            }
        }
        let mut places: Vec<_> = scope.places().collect();
        places.reverse();
        for place in places {
            if let Some(found) = backward(scope, place)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The times of a place in the direction's order.
fn times(place: Place, time: usize) -> Vec<usize> {
    match place.stack.direction.is_reverse(place.direction) {
        false => (0..time).collect(),
        true => (0..time).rev().collect(),
    }
}

/// The first bad gate or state of a layer.
fn forward(scope: &Microscope, place: Place) -> Result<Option<Trouble>> {
    let (stack, names) = (place.stack, place.scope());
    let (h, cell) = (stack.hidden, &stack.cell);
    let (gates, states) = (scope.output(&names.gates())?, scope.output(&names.states())?);
    let valid = scope.output(&names.valid())?;
    let (row, words) = (cell.saved() * h, cell.state_words(h));
    let [time, batch] = scope.shape(place)?;
    let gate_names = gate_names(cell);
    for t in times(place, time) {
        let own = &gates[t * batch * row..][..batch * row];
        // What rows that take no part have there means nothing.
        let of_row = |(b, own): (usize, &[f32])| Some((b * row + bad(own)?.0, bad(own)?.1));
        let rows = own.chunks(row).enumerate().filter(|(b, _)| valid[t * batch + b] > 0.0);
        if let Some((at, value)) = rows.filter_map(of_row).next() {
            let gate = at % row / h;
            let what = match gate_names.get(gate) {
                Some(name) => format!("gate {name}"),
                None => "what is kept for backward".to_string(),
            };
            return Ok(Some(Trouble {
                place: names.name,
                what,
                time: Some(t),
                row: Some(at / row),
                unit: Some(at % h),
                value,
            }));
        }
        let own = &states[t * batch * words..][..batch * words];
        if let Some((at, value)) = bad(own) {
            return Ok(Some(of_state(place, names.name, t, batch, at, value, "")));
        }
    }
    Ok(None)
}

/// A word of a state: h \[B, P\], then the others \[B, H\].
fn of_state(
    place: Place,
    name: String,
    t: usize,
    batch: usize,
    at: usize,
    value: f32,
    prefix: &str,
) -> Trouble {
    let (h, width) = (place.stack.hidden, place.stack.cell.width(place.stack.hidden));
    let (what, row, unit) = match at.checked_sub(batch * width) {
        None => ("h".to_string(), at / width, at % width),
        Some(rest) => {
            let state = ["c", "n", "m"].get(rest / (batch * h)).copied().unwrap_or("a state");
            (state.to_string(), rest % (batch * h) / h, rest % h)
        }
    };
    Trouble {
        place: name,
        what: format!("{prefix}{what}"),
        time: Some(t),
        row: Some(row),
        unit: Some(unit),
        value,
    }
}

/// The first bad gradient of a layer, in the order of backward.
fn backward(scope: &Microscope, place: Place) -> Result<Option<Trouble>> {
    let (stack, names) = (place.stack, place.scope());
    let h = stack.hidden;
    let (width, words) = (stack.cell.width(h), stack.cell.state_words(h));
    let (carry, d_output) = (scope.output(&names.carry())?, scope.output(&names.d_output())?);
    let [time, batch] = scope.shape(place)?;
    for t in times(place, time).into_iter().rev() {
        let above = &d_output[t * batch * width..][..batch * width];
        let own = &carry[t * batch * words..][..batch * words];
        if let Some((at, value)) = bad(above) {
            let prefix = "the gradient from above of ";
            return Ok(Some(of_state(place, names.name, t, batch, at, value, prefix)));
        }
        if let Some((at, value)) = bad(own) {
            let prefix = "the gradient from later steps of ";
            return Ok(Some(of_state(place, names.name, t, batch, at, value, prefix)));
        }
    }
    Ok(None)
}
