//! Runs a recurrent layer on an engine: the one place where graphs meet the recurrent operator.

use super::node::{Direction, RecurrentCell, RecurrentNode, States};
use crate::cell::{Cell, CellKind};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::layer::{self, InitialState, Recurrent, Sequence};
use crate::schedule::Recorder;
use ndarray::{Array3, Array4, ArrayView2, ArrayView3, Axis, s};

/// Y \[T, D, B, P\] and the final states \[D, B, ·\] of x \[T, B, I\]. A row's steps from its length
/// on are 0 in Y, and its final state is that of its last valid step; a reversed direction starts
/// there.
///
/// # Errors
/// An option that the cell does not have, by its name; a limit of the engine.
pub fn run_recurrent(
    engine: &Engine,
    node: &RecurrentNode,
    x: ArrayView3<'_, f32>,
    lengths: Option<&[usize]>,
    initial: &States,
) -> Result<(Array4<f32>, States)> {
    let (time, batch, _) = x.dim();
    let (width, count) = (node.output(), node.directions.len());
    let lstm = node.cell == RecurrentCell::Lstm;
    let mut y = Array4::zeros((time, count, batch, width));
    let mut h = Array3::zeros((count, batch, width));
    let mut c = Array3::zeros((count, batch, if lstm { node.hidden } else { 0 }));
    for (given, state) in [(&initial.h, &mut h), (&initial.c, &mut c)] {
        if let Some(given) = given {
            if given.shape() != state.shape() {
                return Err(Error::shape(&*node.name, state.shape(), given.shape()));
            }
            state.assign(given);
        }
    }
    // Nothing to run: the states stay.
    if time > 0 && batch > 0 {
        let x: Vec<f32> = x.iter().copied().collect();
        for (d, direction) in node.directions.iter().enumerate() {
            let run = Run { node, direction, sizes: [time, batch], lengths };
            let (mut h, mut c) = (h.index_axis_mut(Axis(0), d), c.index_axis_mut(Axis(0), d));
            let states: Vec<f32> = h.iter().chain(c.iter()).copied().collect();
            let (outputs, finals) = run.on(engine, &x, &states)?;
            y.slice_mut(s![.., d, .., ..]).assign(&outputs);
            let (last_h, last_c) = finals.split_at(batch * width);
            let fit = |e: ndarray::ShapeError| Error::invalid(format!("{}: {e}", node.name));
            h.assign(&ArrayView2::from_shape((batch, width), last_h).map_err(fit)?);
            let shape = c.raw_dim();
            c.assign(&ArrayView2::from_shape(shape, last_c).map_err(fit)?);
        }
    }
    Ok((y, States { h: Some(h), c: lstm.then_some(c) }))
}

/// One direction.
struct Run<'a> {
    node: &'a RecurrentNode,
    direction: &'a Direction,
    /// T, B.
    sizes: [usize; 2],
    lengths: Option<&'a [usize]>,
}

impl Run<'_> {
    fn layer(&self) -> Result<Recurrent> {
        let RecurrentNode { cell, clip, coupled, input, hidden, .. } = *self.node;
        let kind = match cell {
            RecurrentCell::Rnn => CellKind::RnnTanh,
            RecurrentCell::Lstm => CellKind::Lstm,
            RecurrentCell::Gru => CellKind::Gru,
            RecurrentCell::GruResetBefore => CellKind::GruResetBefore,
        };
        let chosen = &self.direction.activations;
        if chosen.is_empty() {
            let name = &self.node.name;
            return Err(Error::unsupported(format!("{name}: its activations are not known")));
        }
        let cell = Cell {
            activations: (chosen[..] != *cell.activations()).then(|| chosen.clone()),
            peepholes: self.direction.peephole.is_some(),
            projection: self.direction.projection.as_ref().map(|p| p.nrows()),
            clip,
            coupled,
            ..Cell::from(kind)
        };
        let direction = match self.direction.reverse {
            true => layer::Direction::Reverse,
            false => layer::Direction::Forward,
        };
        Ok(Recurrent { direction, ..Recurrent::new("layer", cell, input, hidden) })
    }

    /// x \[T·B·I\] and an initial state, h \[B, P\] and c \[B, H\]: the outputs \[T, B, P\], the final
    /// state.
    fn on(&self, engine: &Engine, x: &[f32], initial: &[f32]) -> Result<(Array3<f32>, Vec<f32>)> {
        let layer = self.layer()?;
        let [time, batch] = self.sizes;
        let mut rec = Recorder::inference();
        let source = rec.input("x", [time * batch, self.node.input], false)?;
        let given = rec.input("initial", layer.state_shape(batch), false)?;
        let mut sequence = Sequence::new(time, batch);
        let mut lengths = None;
        if let Some(list) = self.lengths {
            let ids = rec.input_ids("lengths", batch)?;
            sequence = sequence.with_lengths(ids);
            lengths = Some((ids, list.iter().map(|&n| n as u32).collect::<Vec<_>>()));
        }
        let states = InitialState::Given(vec![given]);
        let out = layer.record(&mut rec, source, sequence, &states)?;
        let output = rec.output("output", out.output)?;
        let last = rec.output("last", out.finals[0])?;

        let store = engine.store();
        for parameter in layer.all_parameters() {
            let n: usize = parameter.shape.iter().product();
            let values = self.parameter(&parameter.name, n);
            store.set(&parameter.name, &values)?;
        }
        let mut program = engine.load(&rec.finish(), &store)?;
        program.write(source.view.buffer, x)?;
        program.write(given.view.buffer, initial)?;
        if let Some((ids, list)) = lengths {
            program.write_u32(ids.buffer, &list)?;
        }
        program.run()?;
        let outputs = program.read(output.view.buffer)?;
        let outputs = Array3::from_shape_vec((time, batch, self.node.output()), outputs)
            .map_err(|e| Error::invalid(format!("{}: {e}", self.node.name)))?;
        Ok((outputs, program.read(last.view.buffer)?))
    }

    /// The values of a parameter by its name; zeros where the layer has none.
    fn parameter(&self, name: &str, n: usize) -> Vec<f32> {
        let w = self.direction;
        let [b_ih, b_hh] = match &w.bias {
            Some([b_ih, b_hh]) => [Some(b_ih), Some(b_hh)],
            None => [None, None],
        };
        let all = |values: &mut dyn Iterator<Item = &f32>| values.copied().collect();
        match name {
            "layer.weight_ih_l0" => all(&mut w.weight_ih.iter()),
            "layer.weight_hh_l0" => all(&mut w.weight_hh.iter()),
            "layer.bias_ih_l0" => b_ih.map_or_else(|| vec![0.0; n], |b| b.to_vec()),
            "layer.bias_hh_l0" => b_hh.map_or_else(|| vec![0.0; n], |b| b.to_vec()),
            "layer.weight_hr_l0" => all(&mut w.projection.iter().flatten()),
            "layer.weight_peephole_l0" => all(&mut w.peephole.iter().flatten()),
            _ => vec![0.0; n],
        }
    }
}
