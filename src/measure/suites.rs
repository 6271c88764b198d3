//! The configurations that others have published, so that figures can stand side by side.

use super::RecurrentShape;
use crate::cell::CellKind;
use crate::layer::Memory;
use crate::tensor::Precision;

/// A list of shapes with its source.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The name on the command line.
    pub name: &'static str,
    /// Whose configurations they are.
    pub source: &'static str,
    /// The shapes.
    pub shapes: Vec<RecurrentShape>,
}

/// An LSTM of T, B and as wide an input as it has units, without options.
fn square(cell: CellKind, time: usize, batch: usize, hidden: usize) -> RecurrentShape {
    RecurrentShape {
        cell,
        time,
        batch,
        input: hidden,
        hidden,
        layers: 1,
        heads: 1,
        bidirectional: false,
        shortest: time,
        memory: Memory::Keep,
        precision: Precision::F32,
    }
}

impl Suite {
    /// All suites. One shape of each cell, width and number of heads comes first, then a second one of each, and so on: a
    /// suite that is cut off has some of all.
    pub fn all() -> Vec<Suite> {
        let suites = [flashrnn(), deepbench(), appleyard(), small(), varlen()];
        suites.map(|suite| Suite { shapes: in_turn(suite.shapes), ..suite }).into()
    }

    /// The same shapes with activations in another precision.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.shapes.iter_mut().for_each(|shape| shape.precision = precision);
        self
    }

    /// The suite of that name.
    pub fn find(name: &str) -> Option<Suite> {
        Suite::all().into_iter().find(|suite| suite.name == name)
    }
}

/// The first shape of each kind, then the second of each, in the order that the kinds have.
fn in_turn(shapes: Vec<RecurrentShape>) -> Vec<RecurrentShape> {
    let kind = |shape: &RecurrentShape| (shape.cell, shape.hidden, shape.heads);
    let mut placed: Vec<(usize, RecurrentShape)> = Vec::new();
    for shape in shapes {
        let before = placed.iter().filter(|(_, other)| kind(other) == kind(&shape)).count();
        placed.push((before, shape));
    }
    // Stable: within a turn they stay in their order.
    placed.sort_by_key(|(turn, _)| *turn);
    placed.into_iter().map(|(_, shape)| shape).collect()
}

fn flashrnn() -> Suite {
    let lstm = |time, batch| square(CellKind::Lstm, time, batch, 768);
    let mut shapes = vec![lstm(1024, 16)];
    shapes.extend([2, 4, 8, 32, 64, 128, 256].map(|batch| lstm(1024, batch)));
    shapes.extend([256, 512, 2048].map(|time| lstm(time, 16)));
    let heads = |size: usize| RecurrentShape { heads: 768 / size, ..lstm(1024, 16) };
    shapes.extend([16, 32, 64, 128, 256].map(heads));
    let source =
        "Poeppel, Beck and Hochreiter 2024, FlashRNN: width 768, sweeps of B, T and head size";
    Suite { name: "flashrnn", source, shapes }
}

fn deepbench() -> Suite {
    let mut shapes = Vec::new();
    for hidden in [512, 1024, 2048, 4096] {
        shapes.extend([16, 32, 64, 128].map(|batch| square(CellKind::Lstm, 25, batch, hidden)));
    }
    shapes.extend([16, 32, 64].map(|batch| square(CellKind::Lstm, 150, batch, 256)));
    for hidden in [1024, 1536, 2048, 2560, 2816] {
        shapes.extend([187, 375, 750, 1500].map(|time| square(CellKind::Gru, time, 32, hidden)));
    }
    for hidden in [1760, 2048, 2560] {
        shapes.extend([16, 32, 64, 128].map(|batch| square(CellKind::RnnTanh, 50, batch, hidden)));
    }
    Suite { name: "deepbench", source: "Baidu Research, DeepBench: recurrent layers", shapes }
}

fn appleyard() -> Suite {
    let shape = RecurrentShape { layers: 4, ..square(CellKind::Lstm, 100, 64, 512) };
    let source = "Appleyard, Kocisky and Blunsom 2016: four layers of 512";
    Suite { name: "appleyard", source, shapes: vec![shape] }
}

fn small() -> Suite {
    let shape = |[time, batch, input, hidden]: [usize; 4]| RecurrentShape {
        input,
        ..square(CellKind::Lstm, time, batch, hidden)
    };
    let shapes = [[3047, 6, 104, 40], [3854, 16, 112, 128], [2721, 6, 128, 72]].map(shape);
    let source = "long sequences of few units, as (T, B, I, H)";
    Suite { name: "small", source, shapes: shapes.to_vec() }
}

fn varlen() -> Suite {
    let mut shapes = Vec::new();
    for cell in [CellKind::Lstm, CellKind::Gru] {
        let whole = square(cell, 4000, 32, 256);
        shapes.extend([RecurrentShape { shortest: 10, ..whole }, whole]);
    }
    let source = "lengths of 10 to 4000 steps in no order, and all of 4000 beside them";
    Suite { name: "varlen", source, shapes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_and_width_comes_early() {
        let suite = Suite::find("deepbench").unwrap();
        assert_eq!(suite.shapes.len(), 51);
        let kind = |shape: &RecurrentShape| (shape.cell, shape.hidden);
        // 512 to 4096 and 256; 1024 to 2816; 1760 to 2560.
        let mut first: Vec<_> = suite.shapes[..13].iter().map(kind).collect();
        assert_eq!((first[0], suite.shapes[0].batch), ((CellKind::Lstm, 512), 16));
        first.dedup();
        assert_eq!(first.len(), 13);
        for shape in &suite.shapes {
            assert!(first.contains(&kind(shape)), "{shape:?}");
        }
    }

    #[test]
    fn every_shape_is_one_that_records() {
        for suite in Suite::all() {
            assert!(!suite.shapes.is_empty());
            let shortened = |shape: &RecurrentShape| RecurrentShape {
                time: shape.time.min(12),
                shortest: shape.shortest.min(12),
                ..*shape
            };
            for shape in &suite.shapes {
                assert!(shortened(shape).record(true).is_ok(), "{}: {shape:?}", suite.name);
            }
            let mut seen = Vec::new();
            for shape in &suite.shapes {
                assert!(!seen.contains(&shape), "{} has {shape:?} twice", suite.name);
                seen.push(shape);
            }
        }
        assert!(Suite::find("flashrnn").is_some() && Suite::find("none").is_none());
    }
}
