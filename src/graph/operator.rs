//! Runs a recurrent layer on an engine: the one place where graphs meet the recurrent operator.

use super::activation::Activation;
use super::node::{Direction, RecurrentCell, RecurrentNode, States};
use crate::cell::CellKind;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::layer::{InitialState, Recurrent};
use crate::schedule::Recorder;
use ndarray::{Array3, Array4, ArrayView3, Axis, s};

/// Y \[T, D, B, H\] and the final states \[D, B, H\] of x \[T, B, I\]. A row's steps from its length
/// on are 0 in Y, and its final state is that of its last valid step; a reversed direction starts
/// there.
///
/// # Errors
/// An option that the engine's cells don't have, by its name; a limit of the engine.
pub fn run_recurrent(
    engine: &Engine,
    node: &RecurrentNode,
    x: ArrayView3<'_, f32>,
    lengths: Option<&[usize]>,
    initial: &States,
) -> Result<(Array4<f32>, States)> {
    let (time, batch, _) = x.dim();
    let (hidden, count) = (node.hidden, node.directions.len());
    let lstm = node.cell == RecurrentCell::Lstm;
    let zeros = || Array3::zeros((count, batch, hidden));
    let mut y = Array4::zeros((time, count, batch, hidden));
    let mut h = initial.h.clone().unwrap_or_else(zeros);
    let mut c = initial.c.clone().unwrap_or_else(zeros);
    // Rows of one length run together.
    let all = vec![time; batch];
    let lengths = lengths.unwrap_or(&all);
    let mut distinct = lengths.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    for (d, direction) in node.directions.iter().enumerate() {
        for &length in distinct.iter().filter(|&&length| length > 0) {
            let rows: Vec<usize> = (0..batch).filter(|&row| lengths[row] == length).collect();
            let mut part = x.slice(s![..length, .., ..]).select(Axis(1), &rows);
            if direction.reverse {
                part.invert_axis(Axis(0));
            }
            // h, then c: [S, B, H].
            let mut states = vec![h.index_axis(Axis(0), d).select(Axis(0), &rows)];
            states.extend(lstm.then(|| c.index_axis(Axis(0), d).select(Axis(0), &rows)));
            let words = states.iter().flatten().copied().collect();
            let run = Run { node, direction, sizes: [length, rows.len()] };
            let (outputs, finals) = run.on(engine, part.iter().copied().collect(), words)?;
            let mut outputs = outputs;
            if direction.reverse {
                outputs.invert_axis(Axis(0));
            }
            for (k, &row) in rows.iter().enumerate() {
                y.slice_mut(s![..length, d, row, ..]).assign(&outputs.slice(s![.., k, ..]));
                h.slice_mut(s![d, row, ..]).assign(&finals.slice(s![0, k, ..]));
                if lstm {
                    c.slice_mut(s![d, row, ..]).assign(&finals.slice(s![1, k, ..]));
                }
            }
        }
    }
    Ok((y, States { h: Some(h), c: lstm.then_some(c) }))
}

/// One direction over rows of one length.
struct Run<'a> {
    node: &'a RecurrentNode,
    direction: &'a Direction,
    /// T, B.
    sizes: [usize; 2],
}

impl Run<'_> {
    /// The engine's cell, and whether the recurrent bias of n stands beside that of the input.
    fn cell(&self, from_zeros: bool) -> Result<(CellKind, bool)> {
        let RecurrentNode { cell, clip, coupled, .. } = self.node;
        let no = |what: &str| {
            let title = &self.node.name;
            Err(Error::unsupported(format!("{title}: {what} is not supported yet")))
        };
        if clip.is_some() {
            return no("attribute 'clip'");
        }
        if *coupled {
            return no("attribute 'input_forget' = 1");
        }
        if self.direction.peephole.is_some() {
            return no("input P, peepholes,");
        }
        if self.direction.projection.is_some() {
            return no("a projection");
        }
        let activations = &self.direction.activations[..];
        match cell {
            RecurrentCell::Rnn if *activations == [Activation::Tanh] => {
                Ok((CellKind::RnnTanh, false))
            }
            RecurrentCell::Rnn if *activations == [Activation::Relu] => {
                Ok((CellKind::RnnRelu, false))
            }
            other if activations != other.activations() => no("this choice of activations"),
            RecurrentCell::Lstm => Ok((CellKind::Lstm, false)),
            RecurrentCell::Gru => Ok((CellKind::Gru, false)),
            // R·(r⊙h) is r⊙(R·h) where h is zero.
            RecurrentCell::GruResetBefore if from_zeros && self.sizes[0] == 1 => {
                Ok((CellKind::Gru, true))
            }
            _ => no("attribute 'linear_before_reset' = 0"),
        }
    }

    /// x \[T, B, I\], initial states \[S, B, H\]: the outputs \[T, B, H\], the final states.
    fn on(
        &self,
        engine: &Engine,
        x: Vec<f32>,
        initial: Vec<f32>,
    ) -> Result<(Array3<f32>, Array3<f32>)> {
        let (cell, bias_beside) = self.cell(initial.iter().all(|&h| h == 0.0))?;
        let [time, batch] = self.sizes;
        let (input, hidden) = (self.node.input, self.node.hidden);
        let rows = cell.gates() * hidden;
        let layer =
            Recurrent { name: "layer".to_string(), cell, input, hidden, layers: 1, dropout: 0.0 };
        let mut rec = Recorder::inference();
        let source = rec.input("x", [time * batch, input], false)?;
        let given = rec.input("initial", [cell.states() * batch, hidden], false)?;
        let initial_states = InitialState::Given(vec![given]);
        let out = layer.record(&mut rec, source, [time, batch], &initial_states)?;
        let output = rec.output("output", out.output)?;
        let last = rec.output("last", out.finals[0])?;

        let store = engine.store();
        let dense = |values: &mut dyn Iterator<Item = f32>| values.collect::<Vec<f32>>();
        let weights = self.direction;
        let zeros = || vec![0.0; rows];
        let [mut b_ih, mut b_hh] = match &weights.bias {
            None => [zeros(), zeros()],
            Some(both) => both.each_ref().map(|bias| bias.to_vec()),
        };
        if bias_beside {
            for (b, other) in b_ih[2 * hidden..].iter_mut().zip(&mut b_hh[2 * hidden..]) {
                *b += std::mem::take(other);
            }
        }
        store.set("layer.weight_ih_l0", &dense(&mut weights.weight_ih.iter().copied()))?;
        store.set("layer.weight_hh_l0", &dense(&mut weights.weight_hh.iter().copied()))?;
        store.set("layer.bias_ih_l0", &b_ih)?;
        store.set("layer.bias_hh_l0", &b_hh)?;
        let mut program = engine.load(&rec.finish(), &store)?;
        program.write(source.view.buffer, &x)?;
        program.write(given.view.buffer, &initial)?;
        program.run()?;
        let shaped = |[first, second]: [usize; 2], values: Vec<f32>| {
            Array3::from_shape_vec((first, second, hidden), values)
                .map_err(|e| Error::invalid(format!("{}: {e}", self.node.name)))
        };
        Ok((
            shaped([time, batch], program.read(output.view.buffer)?)?,
            shaped([cell.states(), batch], program.read(last.view.buffer)?)?,
        ))
    }
}
