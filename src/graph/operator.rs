//! Runs a recurrent layer on an engine: the one place where graphs meet the recurrent operator.

use super::node::{Direction, RecurrentCell, RecurrentNode, States};
use crate::cell::{Cell, CellKind};
use crate::engine::{Engine, Program};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::layer::{self, InitialState, Recurrent, Sequence};
use crate::schedule::Recorder;
use ndarray::{Array3, Array4, ArrayView2, ArrayView3, Axis, s};
use std::collections::VecDeque;

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
    Layers::default().run(engine, node, x, lengths, initial)
}

/// Sizes that a node's layers stay loaded for.
const SIZES: usize = 4;

/// What a node's layers are loaded for: T, B, and whether rows have lengths.
type Size = ([usize; 2], bool);

/// The layers of one node, a direction each, loaded for the last sizes.
#[derive(Default)]
pub(super) struct Layers(VecDeque<(Size, Vec<Loaded>)>);

impl Layers {
    /// As [`run_recurrent`], of the same node each time.
    pub fn run(
        &mut self,
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
            let fit = |e: ndarray::ShapeError| Error::invalid(format!("{}: {e}", node.name));
            let size = ([time, batch], lengths.is_some());
            for (d, layer) in self.loaded(engine, node, size)?.iter_mut().enumerate() {
                let (mut h, mut c) = (h.index_axis_mut(Axis(0), d), c.index_axis_mut(Axis(0), d));
                let states: Vec<f32> = h.iter().chain(c.iter()).copied().collect();
                let (outputs, finals) = layer.run(&x, lengths, &states)?;
                let outputs = Array3::from_shape_vec((time, batch, width), outputs).map_err(fit)?;
                y.slice_mut(s![.., d, .., ..]).assign(&outputs);
                let (last_h, last_c) = finals.split_at(batch * width);
                h.assign(&ArrayView2::from_shape((batch, width), last_h).map_err(fit)?);
                let shape = c.raw_dim();
                c.assign(&ArrayView2::from_shape(shape, last_c).map_err(fit)?);
            }
        }
        Ok((y, States { h: Some(h), c: lstm.then_some(c) }))
    }

    /// The directions' layers, loaded for a size.
    fn loaded(
        &mut self,
        engine: &Engine,
        node: &RecurrentNode,
        size: Size,
    ) -> Result<&mut [Loaded]> {
        let place = match self.0.iter().position(|(own, _)| *own == size) {
            Some(place) => place,
            None => {
                let load = |direction| Source { node, direction }.load(engine, size);
                let layers = node.directions.iter().map(load).collect::<Result<_>>()?;
                self.0.truncate(SIZES - 1);
                self.0.push_front((size, layers));
                0
            }
        };
        // The one that was asked for longest ago is at the end.
        if let Some(found) = self.0.remove(place) {
            self.0.push_front(found);
        }
        Ok(self.0.front_mut().map_or(&mut [], |(_, layers)| layers))
    }
}

/// A direction's layer, loaded.
struct Loaded {
    program: Program,
    x: BufferId,
    initial: BufferId,
    lengths: Option<BufferId>,
    output: BufferId,
    last: BufferId,
}

impl Loaded {
    /// x \[T·B·I\] and an initial state, h \[B, P\] and c \[B, H\]: the outputs \[T, B, P\], the final
    /// state.
    fn run(
        &mut self,
        x: &[f32],
        lengths: Option<&[usize]>,
        initial: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        self.program.write(self.x, x)?;
        self.program.write(self.initial, initial)?;
        if let (Some(id), Some(lengths)) = (self.lengths, lengths) {
            let lengths: Vec<u32> = lengths.iter().map(|&n| n as u32).collect();
            self.program.write_u32(id, &lengths)?;
        }
        self.program.run()?;
        Ok((self.program.read(self.output)?, self.program.read(self.last)?))
    }
}

/// What a direction's layer is made of.
struct Source<'a> {
    node: &'a RecurrentNode,
    direction: &'a Direction,
}

impl Source<'_> {
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

    fn load(&self, engine: &Engine, ([time, batch], has_lengths): Size) -> Result<Loaded> {
        let layer = self.layer()?;
        let mut rec = Recorder::inference();
        let x = rec.input("x", [time * batch, self.node.input], false)?;
        let given = rec.input("initial", layer.state_shape(batch), false)?;
        let mut sequence = Sequence::new(time, batch);
        let mut lengths = None;
        if has_lengths {
            let list = rec.input_ids("lengths", batch)?;
            sequence = sequence.with_lengths(list);
            lengths = Some(list.buffer);
        }
        let states = InitialState::Given(vec![given]);
        let out = layer.record(&mut rec, x, sequence, &states)?;
        let output = rec.output("output", out.output)?.view.buffer;
        let last = rec.output("last", out.finals[0])?.view.buffer;

        let store = engine.store();
        for parameter in layer.all_parameters() {
            let n: usize = parameter.shape.iter().product();
            let values = self.parameter(&parameter.name, n);
            store.set(&parameter.name, &values)?;
        }
        let program = engine.load(&rec.finish(), &store)?;
        let (x, initial) = (x.view.buffer, given.view.buffer);
        Ok(Loaded { program, x, initial, lengths, output, last })
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
