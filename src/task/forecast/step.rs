//! One step at a time, with states that the host holds.

use super::ForecastModel;
use crate::engine::{Engine, Program, Store};
use crate::error::Result;
use crate::kernel::BufferId;
use crate::layer::InitialState;
use crate::schedule::Recorder;
use crate::task::{TaskModel, load_recording};
use crate::tensor::NamedTensors;

/// One step of rows whose states come from the host and go there.
pub(super) struct Step {
    program: Program,
    _store: Store,
    x: BufferId,
    told: BufferId,
    states: Vec<[BufferId; 2]>,
    pub(super) rows: usize,
}

/// A state of one row: for each layer its vectors, one behind the other.
pub(super) type RowState = Vec<Vec<f32>>;

impl Step {
    pub(super) fn new(
        model: &ForecastModel,
        engine: &Engine,
        weights: &NamedTensors,
        rows: usize,
    ) -> Result<Self> {
        let mut rec = Recorder::inference();
        let x = rec.input("x", [rows, model.config().inputs()], false)?;
        let shape = model.recurrent().state_shape(rows);
        let given: Vec<_> = (0..model.recurrent().layers)
            .map(|layer| rec.input(&format!("initial.l{layer}"), shape, false))
            .collect::<Result<_>>()?;
        let before: Vec<BufferId> = given.iter().map(|var| var.view.buffer).collect();
        let (told, finals) = model.record(&mut rec, x, [1, rows], &InitialState::Given(given))?;
        let told = rec.output("told", told)?.view.buffer;
        let mut states = Vec::new();
        for (layer, (from, to)) in before.into_iter().zip(finals).enumerate() {
            states.push([from, rec.output(&format!("final.l{layer}"), to)?.view.buffer]);
        }
        let (program, store) = load_recording(engine, rec, weights)?;
        Ok(Step { program, _store: store, x: x.view.buffer, told, states, rows })
    }

    /// Goes a step on: what the head tells. `states` \[S·rows, H\] of each layer.
    pub(super) fn go(&mut self, x: &[f32], states: &mut [Vec<f32>]) -> Result<Vec<f32>> {
        self.program.write(self.x, x)?;
        for (ids, state) in self.states.iter().zip(states.iter()) {
            self.program.write(ids[0], state)?;
        }
        self.program.run()?;
        for (ids, state) in self.states.iter().zip(states.iter_mut()) {
            *state = self.program.read(ids[1])?;
        }
        self.program.read(self.told)
    }

    pub(super) fn zeros(&self, model: &ForecastModel) -> Vec<Vec<f32>> {
        let [a, b] = model.recurrent().state_shape(self.rows);
        vec![vec![0.0; a * b]; self.states.len()]
    }
}

/// The state of one row among states of several, and back.
pub(super) fn row_of(states: &[Vec<f32>], row: usize, [rows, hidden]: [usize; 2]) -> RowState {
    let one = |state: &Vec<f32>| {
        let blocks = state.chunks(rows * hidden);
        blocks.flat_map(|block| block[row * hidden..(row + 1) * hidden].to_vec()).collect()
    };
    states.iter().map(one).collect()
}

pub(super) fn set_row(
    states: &mut [Vec<f32>],
    row: usize,
    [rows, hidden]: [usize; 2],
    from: &RowState,
) {
    for (state, own) in states.iter_mut().zip(from) {
        for (block, own) in state.chunks_mut(rows * hidden).zip(own.chunks(hidden)) {
            block[row * hidden..(row + 1) * hidden].copy_from_slice(own);
        }
    }
}
