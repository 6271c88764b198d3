//! A length of zero is no bad input.

use crate::common::engines;
use recurra::cell::{Cell, CellKind};
use recurra::engine::Engine;
use recurra::layer::{Direction, InitialState, Initializer, Merge, Padding, Recurrent, Sequence};
use recurra::schedule::{Recorder, Var};
use recurra::tensor::NamedTensors;

const TIME: usize = 3;
const BATCH: usize = 2;
const HIDDEN: usize = 4;

fn values(n: usize) -> Vec<f32> {
    Initializer::new(n as u64).uniform(n, 1.0)
}

/// Two layers, of one direction or two.
struct Problem {
    stack: Recurrent,
    lengths: [u32; BATCH],
    padding: Padding,
}

/// By part: what goes in and what comes out.
struct Part {
    initial: Vec<f32>,
    last: Vec<f32>,
    /// The gradients of both.
    d_initial: Vec<f32>,
    d_last: Vec<f32>,
}

impl Problem {
    /// The outputs and the parts of a training step.
    fn run(&self, engine: &Engine) -> (Vec<f32>, Vec<Part>) {
        let mut rec = Recorder::training();
        let x = rec.input("x", [TIME * BATCH, 3], true).unwrap();
        let shape = self.stack.state_shape(BATCH);
        let words = shape[0] * shape[1];
        let count = 2 * self.stack.direction.count();
        let state = |n| rec.input(&format!("initial{n}"), shape, true).unwrap();
        let given: Vec<Var> = (0..count).map(state).collect();
        let lengths = rec.input_ids("lengths", BATCH).unwrap();
        let sequence = Sequence::new(TIME, BATCH).with_lengths(lengths).with_padding(self.padding);
        let initial = InitialState::Given(given.clone());
        let out = self.stack.record(&mut rec, x, sequence, &initial).unwrap();
        let mut seeds = Vec::new();
        for (n, last) in out.finals.iter().enumerate() {
            let seed = rec.input(&format!("seed{n}"), shape, false).unwrap();
            rec.seed_gradient(*last, seed).unwrap();
            seeds.push(seed);
        }
        rec.backward().unwrap();
        let y = rec.output("y", out.output).unwrap();
        let mut results = Vec::new();
        for (n, (&state, &last)) in given.iter().zip(&out.finals).enumerate() {
            let last = rec.output(&format!("last{n}"), last).unwrap();
            let d = Var { view: rec.gradient(state).unwrap(), ..state };
            results.push((last, rec.output(&format!("d{n}"), d).unwrap()));
        }
        let mut weights = NamedTensors::new();
        self.stack.init(&mut Initializer::new(5), &mut weights);
        let store = engine.store();
        store.set_all(&weights).unwrap();
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        program.write(x.view.buffer, &values(TIME * BATCH * 3)).unwrap();
        program.write_u32(lengths.buffer, &self.lengths).unwrap();
        let mut written = Vec::new();
        for (n, (state, seed)) in given.iter().zip(&seeds).enumerate() {
            // sLSTM's n is positive.
            let initial = values(words + n).split_off(n).into_iter().map(|v| v.abs() + 0.1);
            let initial: Vec<f32> = initial.collect();
            let d_last = values(words + 7 + n).split_off(7 + n);
            program.write(state.view.buffer, &initial).unwrap();
            program.write(seed.view.buffer, &d_last).unwrap();
            written.push((initial, d_last));
        }
        program.run().unwrap();
        let read = |var: &Var| program.read(var.view.buffer).unwrap();
        let parts = results.iter().zip(written).map(|((last, d), (initial, d_last))| Part {
            initial,
            last: read(last),
            d_initial: read(d),
            d_last,
        });
        (read(&y), parts.collect())
    }

    /// Row b of each state of a part: of h, then of the others.
    fn row(&self, values: &[f32], b: usize) -> Vec<f32> {
        let width = self.stack.cell.width(HIDDEN);
        let (h, others) = values.split_at(BATCH * width);
        let others = others.chunks(BATCH * HIDDEN);
        let others = others.flat_map(|s| s[b * HIDDEN..][..HIDDEN].to_vec());
        h[b * width..][..width].iter().copied().chain(others).collect()
    }

    /// What the outputs of row b are that is empty.
    fn padding(&self, parts: &[Part], b: usize) -> Vec<f32> {
        let width = self.stack.output_width();
        match self.padding {
            Padding::Value(value) => vec![value; width],
            Padding::Repeat => {
                let top = &parts[parts.len() / 2..];
                let own = width / top.len();
                top.iter().flat_map(|part| self.row(&part.initial, b)[..own].to_vec()).collect()
            }
        }
    }

    fn check(&self, engine: &Engine) {
        let Problem { stack, lengths, .. } = self;
        let what = format!(
            "{engine:?} {:?} {:?} {:?} {lengths:?}",
            stack.cell.kind, stack.cell.projection, stack.direction
        );
        let (y, parts) = self.run(engine);
        for (b, &length) in lengths.iter().enumerate() {
            let empty = length == 0;
            for (n, part) in parts.iter().enumerate() {
                let same = self.row(&part.last, b) == self.row(&part.initial, b);
                assert_eq!(same, empty, "{what}: final state of row {b}, part {n}");
                if empty {
                    let [d, want] = [&part.d_initial, &part.d_last].map(|d| self.row(d, b));
                    assert_eq!(d, want, "{what}: gradient of row {b}, part {n}");
                }
            }
            let width = stack.output_width();
            for t in (0..TIME).filter(|_| empty) {
                let got = &y[(t * BATCH + b) * width..][..width];
                assert_eq!(got, self.padding(&parts, b), "{what}: step {t}, row {b}");
            }
        }
    }
}

/// Outputs are the padding, final states the initial ones, to the bit; gradients pass through.
#[test]
fn a_length_of_zero_is_legal() {
    let plain = CellKind::ALL.map(Cell::from);
    let projected = Cell { projection: Some(2), ..Cell::from(CellKind::Lstm) };
    for engine in engines() {
        for cell in plain.iter().chain([&projected]) {
            for direction in
                [Direction::Forward, Direction::Reverse, Direction::Both(Merge::Concat)]
            {
                for (lengths, padding) in [
                    ([0, 3], Padding::Value(-1.5)),
                    ([0, 2], Padding::Repeat),
                    ([0, 0], Padding::Value(0.0)),
                ] {
                    let stack = Recurrent::new("rnn", cell.clone(), 3, HIDDEN);
                    let stack = Recurrent { layers: 2, direction, ..stack };
                    Problem { stack, lengths, padding }.check(&engine);
                }
            }
        }
    }
}
