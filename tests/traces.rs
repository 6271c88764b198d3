//! Everything a layer computed, on request: all states and gate activations at each step, against
//! the oracle's.

mod common;

use common::reference::{Part, reference};
use common::{engines, normwise_error};
use ndarray::{Array2, s};
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::layer::{Direction, InitialState, Initializer, Merge, Recurrent, Sequence};
use recurra::schedule::{Recorder, Var};
use recurra::tensor::NamedTensors;

/// The conformance suite's bound on outputs, of each tensor's largest element.
const TOLERANCE: f64 = 2.5e-6;

const TIME: usize = 4;
const BATCH: usize = 3;
const HIDDEN: usize = 5;
const LENGTHS: [usize; BATCH] = [2, 4, 0];

fn values(n: usize, seed: u64) -> Vec<f32> {
    Initializer::new(seed).uniform(n, 1.0)
}

struct Problem {
    stack: Recurrent,
    weights: NamedTensors,
    lengths: bool,
}

impl Problem {
    fn new(kind: CellKind, direction: Direction, lengths: bool) -> Self {
        let stack = Recurrent { layers: 2, direction, ..Recurrent::new("rnn", kind, 2, HIDDEN) };
        let mut weights = NamedTensors::new();
        stack.init(&mut Initializer::new(4), &mut weights);
        Problem { stack, weights, lengths }
    }

    fn parts(&self) -> usize {
        2 * self.stack.direction.count()
    }

    fn x(&self) -> Vec<f32> {
        values(TIME * BATCH * 2, 1)
    }

    fn initial(&self, part: usize) -> Vec<f32> {
        values(self.stack.cell.states() * BATCH * HIDDEN, 10 + part as u64)
    }

    /// Outputs by name: of each part `states` and `gates` where they are asked for, and in training
    /// every gradient.
    fn run(&self, engine: &Engine, training: bool, traced: bool) -> Vec<(String, Vec<f32>)> {
        let mut rec = if training { Recorder::training() } else { Recorder::inference() };
        let x = rec.input("x", [TIME * BATCH, 2], true).unwrap();
        let mut floats = vec![(x, self.x())];
        let mut given = Vec::new();
        for n in 0..self.parts() {
            let shape = self.stack.state_shape(BATCH);
            given.push(rec.input(&format!("initial{n}"), shape, true).unwrap());
            floats.push((given[n], self.initial(n)));
        }
        let mut sequence = Sequence::new(TIME, BATCH);
        let lengths = self.lengths.then(|| rec.input_ids("lengths", BATCH).unwrap());
        if let Some(lengths) = lengths {
            sequence = sequence.with_lengths(lengths);
        }
        let initial = InitialState::Given(given.clone());
        let out = self.stack.record(&mut rec, x, sequence, &initial).unwrap();
        assert_eq!(out.traces.len(), self.parts());
        let mut outputs = vec![rec.output("y", out.output).unwrap()];
        let mut names = vec!["y".to_string()];
        for (n, trace) in out.traces.iter().enumerate().filter(|_| traced) {
            outputs.push(trace.states(&mut rec, &format!("states{n}")).unwrap());
            outputs.push(trace.gates(&mut rec, &format!("gates{n}")).unwrap());
            names.extend([format!("states{n}"), format!("gates{n}")]);
        }
        if training {
            let seed = rec.input("seed", [out.output.rows, out.output.columns], false).unwrap();
            floats.push((seed, values(out.output.view.len, 2)));
            rec.seed_gradient(out.output, seed).unwrap();
            for (n, last) in out.finals.iter().enumerate() {
                let seed =
                    rec.input(&format!("seed{n}"), [last.rows, last.columns], false).unwrap();
                floats.push((seed, values(last.view.len, 3)));
                rec.seed_gradient(*last, seed).unwrap();
            }
            rec.backward().unwrap();
            let mut wanted = rec.parameters();
            wanted.push(("x".to_string(), x));
            wanted.extend(given.iter().enumerate().map(|(n, v)| (format!("initial{n}"), *v)));
            for (name, var) in wanted {
                let name = format!("d.{name}");
                let d = Var { view: rec.gradient(var).unwrap(), ..var };
                outputs.push(rec.output(&name, d).unwrap());
                names.push(name);
            }
        }
        let store = engine.store();
        store.set_all(&self.weights).unwrap();
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        for (var, values) in &floats {
            program.write(var.view.buffer, values).unwrap();
        }
        if let Some(lengths) = lengths {
            program.write_u32(lengths.buffer, &LENGTHS.map(|n| n as u32)).unwrap();
        }
        program.run().unwrap();
        let read = outputs.iter().map(|v| program.read(v.view.buffer).unwrap());
        names.into_iter().zip(read).collect()
    }

    fn reference(&self) -> Vec<Part> {
        let initial: Vec<_> = (0..self.parts()).map(|n| self.initial(n)).collect();
        let lengths = self.lengths.then_some(&LENGTHS[..]);
        reference(&self.stack, &self.weights, &self.x(), [TIME, BATCH], &initial, lengths)
    }

    fn valid(&self, t: usize, b: usize) -> bool {
        !self.lengths || t < LENGTHS[b]
    }
}

/// h [T+1, B, H], then c: slot t lies before step t in forward order, behind it in reverse.
fn expected_states(part: &Part, states: usize) -> Vec<f64> {
    let mut all = Vec::new();
    for state in 0..states {
        for slot in 0..=TIME {
            let array = match (part.reverse, slot) {
                (false, 0) => &part.initial[state],
                (false, _) => &part.states[slot - 1][state],
                (true, TIME) => &part.initial[state],
                (true, _) => &part.states[slot][state],
            };
            all.extend(array.iter());
        }
    }
    all
}

/// The equations of docs/operator.md from the oracle's states: the blocks kept of step t, [B, H] each.
fn expected_gates(kind: CellKind, part: &Part, t: usize) -> Vec<Array2<f64>> {
    let w = &part.weights;
    let h = &part.before(t)[0];
    let x = part.input[t].dot(&w["weight_ih"].t()) + &w["bias_ih"];
    let recurrent = |h: &Array2<f64>| h.dot(&w["weight_hh"].t()) + &w["bias_hh"];
    let r = recurrent(h);
    let block =
        |of: &Array2<f64>, n: usize| of.slice(s![.., n * HIDDEN..(n + 1) * HIDDEN]).to_owned();
    let sum = |n: usize| block(&x, n) + block(&r, n);
    let sigmoid = |a: Array2<f64>| a.mapv(|a| 1.0 / (1.0 + (-a).exp()));
    let tanh = |a: Array2<f64>| a.mapv(f64::tanh);
    match kind {
        CellKind::RnnTanh => vec![tanh(sum(0))],
        CellKind::RnnRelu => vec![sum(0).mapv(|a| a.max(0.0))],
        CellKind::Lstm => vec![sigmoid(sum(0)), sigmoid(sum(1)), tanh(sum(2)), sigmoid(sum(3))],
        CellKind::Gru => {
            let reset = sigmoid(sum(0));
            let n = tanh(block(&x, 2) + &reset * block(&r, 2));
            vec![reset, sigmoid(sum(1)), n, block(&r, 2)]
        }
        _ => {
            let reset = sigmoid(sum(0));
            let heard = &reset * h;
            let n = tanh(block(&x, 2) + block(&recurrent(&heard), 2));
            vec![reset, sigmoid(sum(1)), n, heard]
        }
    }
}

const KINDS: [CellKind; 5] =
    [CellKind::RnnTanh, CellKind::RnnRelu, CellKind::Lstm, CellKind::Gru, CellKind::GruResetBefore];

const DIRECTIONS: [Direction; 3] =
    [Direction::Forward, Direction::Reverse, Direction::Both(Merge::Concat)];

#[test]
fn traces_are_the_oracles_states_and_gates() {
    let mut worst: f64 = 0.0;
    for engine in engines() {
        for kind in KINDS {
            for direction in DIRECTIONS {
                for (lengths, training) in [(false, false), (true, false), (true, true)] {
                    let problem = Problem::new(kind, direction, lengths);
                    let got = problem.run(&engine, training, true);
                    let of = |name: String| &got.iter().find(|g| g.0 == name).unwrap().1;
                    for (n, part) in problem.reference().iter().enumerate() {
                        let what = format!("{engine:?} {kind:?} {direction:?} {lengths} part {n}");
                        let states = problem.stack.cell.states();
                        let want = expected_states(part, states);
                        let error = normwise_error(&what, of(format!("states{n}")), &want);
                        assert!(error <= TOLERANCE, "{what}: states {error:.1e}");
                        // A slot too far is noticed.
                        let mut shifted = want.clone();
                        shifted.rotate_left(BATCH * HIDDEN);
                        let apart = normwise_error(&what, of(format!("states{n}")), &shifted);
                        assert!(apart > 1e3 * TOLERANCE, "{what}");
                        worst = worst.max(error);

                        // Steps that a row takes no part in have no gates.
                        let gates = of(format!("gates{n}"));
                        let blocks = expected_gates(kind, part, 0).len();
                        assert_eq!(gates.len(), TIME * BATCH * blocks * HIDDEN);
                        let (mut kept, mut want) = (Vec::new(), Vec::new());
                        for t in 0..TIME {
                            let expected = expected_gates(kind, part, t);
                            for b in (0..BATCH).filter(|&b| problem.valid(t, b)) {
                                let row = (t * BATCH + b) * blocks * HIDDEN;
                                kept.extend_from_slice(&gates[row..row + blocks * HIDDEN]);
                                want.extend(expected.iter().flat_map(|g| g.row(b).to_vec()));
                            }
                        }
                        let error = normwise_error(&what, &kept, &want);
                        assert!(error <= TOLERANCE, "{what}: gates {error:.1e}");
                        want.rotate_left(HIDDEN);
                        assert!(normwise_error(&what, &kept, &want) > 1e3 * TOLERANCE, "{what}");
                        worst = worst.max(error);
                    }
                }
            }
        }
    }
    println!("largest error {worst:.1e}");
}

/// To the bit: what is asked for before backward changes neither outputs nor gradients.
#[test]
fn asking_for_traces_leaves_gradients_alone() {
    for engine in engines() {
        for kind in KINDS {
            for direction in DIRECTIONS {
                let problem = Problem::new(kind, direction, true);
                let plain = problem.run(&engine, true, false);
                let traced = problem.run(&engine, true, true);
                assert_eq!(traced.len(), plain.len() + 2 * problem.parts());
                for (name, want) in &plain {
                    let got = &traced.iter().find(|g| g.0 == *name).unwrap().1;
                    assert_eq!(got, want, "{engine:?} {kind:?} {direction:?}: {name}");
                }
                assert!(plain.iter().any(|(name, d)| name == "d.x" && d.iter().any(|&v| v != 0.0)));
            }
        }
    }
}

/// A name that is taken is refused.
#[test]
fn a_taken_name_is_refused() {
    let mut rec = Recorder::inference();
    let x = rec.input("x", [2, 2], false).unwrap();
    let stack = Recurrent::new("rnn", CellKind::Gru, 2, 3);
    let out = stack.record(&mut rec, x, [2, 1], &InitialState::Zero).unwrap();
    let message = out.traces[0].states(&mut rec, "x").unwrap_err().to_string();
    assert!(message.contains("'x'"), "{message}");
    assert!(out.traces[0].gates(&mut rec, "x").is_err());
}
