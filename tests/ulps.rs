//! Small layers to the last places, as WebNN's conformance tests compare them: by the distance of
//! float32's bit patterns to the exact result rounded once. Allowed there: lstm 3, gru 6, of a single
//! step from zeros 1 and 3. No bound holds where terms cancel: with float32's 0.1, 3 − 30·0.1 is −4e-8
//! exactly and 0 in float32, and eight hundred million numbers lie between.

mod common;

use common::engines;
use common::reference::reference;
use ndarray::{ArrayD, IxDyn};
use recurra::cell::{Activation, Cell, CellKind};
use recurra::engine::Engine;
use recurra::layer::{InitialState, Initializer, Recurrent};
use recurra::schedule::Recorder;
use recurra::tensor::NamedTensors;

/// How many float32 numbers lie between the two, across zero as well.
fn distance(got: f32, want: f64) -> u64 {
    let place = |x: f32| {
        let bits = i64::from(x.to_bits() & 0x7fff_ffff);
        if x.is_sign_negative() { -bits } else { bits }
    };
    (place(got) - place(want as f32)).unsigned_abs()
}

/// The numbers of WebNN's own tests: small, few of them not exact in binary, hardly any that cancel.
struct Draw(Initializer);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        (((self.0.uniform(1, 0.5)[0] + 0.5) * n as f32) as usize).min(n - 1)
    }

    fn of(&mut self, list: &[f32]) -> f32 {
        list[self.below(list.len())]
    }

    fn parameter(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let n = shape.iter().product();
        match name.trim_start_matches("rnn.") {
            "weight_hh_l0" => vec![0.1; n],
            "weight_ih_l0" if shape[1] == 2 => (0..shape[0])
                .flat_map(|_| match self.of(&[1.0, 2.0, 0.5, 0.0]) {
                    0.0 => [0.0, 0.1],
                    a => [a, -a],
                })
                .collect(),
            "weight_ih_l0" => (0..n).map(|_| self.of(&[1.0, -1.0, 2.0, -2.0, 0.1])).collect(),
            _ => (0..n).map(|_| self.of(&[0.5, 1.0, 2.0])).collect(),
        }
    }
}

struct Problem {
    stack: Recurrent,
    weights: NamedTensors,
    x: Vec<f32>,
    sizes: [usize; 2],
    initial: Vec<f32>,
}

impl Problem {
    /// One or two steps, one to three rows, one or two inputs, two to four units; `single`, one step
    /// from zeros, as WebNN's cells.
    fn new(kind: CellKind, relu: bool, single: bool, seed: u64) -> Self {
        let mut draw = Draw(Initializer::new(seed));
        let steps = if single { 1 } else { 1 + draw.below(2) };
        let (batch, input, hidden) = (1 + draw.below(3), 1 + draw.below(2), 2 + draw.below(3));
        let each = if kind == CellKind::Lstm { 3 } else { 2 };
        let activations = relu.then(|| vec![Activation::Relu; each]);
        let cell = Cell { activations, ..Cell::from(kind) };
        let stack = Recurrent::new("rnn", cell, input, hidden);
        let mut weights = NamedTensors::new();
        for parameter in stack.all_parameters() {
            let values = draw.parameter(&parameter.name, &parameter.shape);
            let tensor = ArrayD::from_shape_vec(IxDyn(&parameter.shape), values).unwrap();
            weights.insert(parameter.name, tensor);
        }
        let x = (0..steps * batch * input).map(|_| draw.of(&[1.0, 2.0, 3.0, 4.0])).collect();
        let given = !single && draw.below(2) == 0;
        let words = stack.cell.states() * batch * hidden;
        let state = |_| if given { draw.of(&[0.5, 1.0, 2.0]) } else { 0.0 };
        let initial = (0..words).map(state).collect();
        Problem { stack, weights, x, sizes: [steps, batch], initial }
    }

    /// All outputs and final states, exactly.
    fn exact(&self) -> Vec<f64> {
        let initial = std::slice::from_ref(&self.initial);
        let parts = reference(&self.stack, &self.weights, &self.x, self.sizes, initial, None);
        let outputs = parts[0].states.iter().flat_map(|states| states[0].iter());
        outputs.chain(parts[0].last.iter().flatten()).copied().collect()
    }

    /// The same with every number moved by 2⁻²² of itself, up or down.
    fn moved(&self, seed: u64) -> Vec<f64> {
        let mut generator = Initializer::new(seed);
        let mut shift = |v: &mut f32| {
            *v += *v * generator.uniform(1, 1.0)[0].signum() * f32::EPSILON * 2.0;
        };
        let (mut weights, mut x, mut initial) =
            (self.weights.clone(), self.x.clone(), self.initial.clone());
        weights.values_mut().flatten().for_each(&mut shift);
        x.iter_mut().chain(&mut initial).for_each(&mut shift);
        let (stack, sizes) = (self.stack.clone(), self.sizes);
        Problem { stack, weights, x, sizes, initial }.exact()
    }

    fn run(&self, engine: &Engine) -> Vec<f32> {
        let [time, batch] = self.sizes;
        let mut rec = Recorder::inference();
        let x = rec.input("x", [time * batch, self.stack.input], false).unwrap();
        let given = rec.input("initial", self.stack.state_shape(batch), false).unwrap();
        let states = InitialState::Given(vec![given]);
        let out = self.stack.record(&mut rec, x, self.sizes, &states).unwrap();
        let y = rec.output("y", out.output).unwrap();
        let last = rec.output("last", out.finals[0]).unwrap();
        let store = engine.store();
        store.set_all(&self.weights).unwrap();
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        program.write(x.view.buffer, &self.x).unwrap();
        program.write(given.view.buffer, &self.initial).unwrap();
        program.run().unwrap();
        let mut got = program.read(y.view.buffer).unwrap();
        got.extend(program.read(last.view.buffer).unwrap());
        got
    }
}

/// The distance from |x|, rounded to float32, to the next float32.
fn ulp(x: f64) -> f64 {
    let x = (x as f32).abs();
    f64::from(f32::from_bits(x.to_bits() + 1)) - f64::from(x)
}

#[derive(Debug, Default)]
struct Figures {
    elements: usize,
    /// In distances of bit patterns, whatever cancelled.
    worst: u64,
    /// The same of those elements that half a unit in the last place of everything that goes in moves
    /// by one unit in their own last place at most: how many, and the worst.
    steady: usize,
    worst_steady: u64,
    /// How many of them are further than what WebNN allows.
    beyond: usize,
    /// The largest error in last places of the case's largest number, or of 1.
    normwise: f64,
}

fn measure(engine: &Engine, kind: CellKind, relu: bool, single: bool, allowed: u64) -> Figures {
    let mut figures = Figures::default();
    for seed in 0..if engine.kind() == "cpu" { 3000 } else { 300 } {
        let problem = Problem::new(kind, relu, single, seed);
        let (got, want) = (problem.run(engine), problem.exact());
        assert_eq!(got.len(), want.len());
        let moved: Vec<_> = (0..4).map(|k| problem.moved(seed * 4 + k)).collect();
        let largest = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        for (k, (&got, &want)) in got.iter().zip(&want).enumerate() {
            assert!(got.is_finite(), "{kind:?}: {got}");
            let apart = distance(got, want);
            // Moved by four times that half a unit, so that float32 can hold it.
            let shift = moved.iter().fold(0.0, |m: f64, near| m.max((near[k] - want).abs())) / 4.0;
            figures.elements += 1;
            figures.worst = figures.worst.max(apart);
            if shift <= ulp(want) {
                figures.steady += 1;
                figures.worst_steady = figures.worst_steady.max(apart);
                figures.beyond += usize::from(apart > allowed);
            }
            let error = (f64::from(got) - want).abs() / ulp(largest);
            figures.normwise = figures.normwise.max(error);
        }
    }
    let (name, cell) = (engine.name(), kind.name());
    println!("{name}, {cell}, relu {relu}, single step {single}: {figures:?}");
    // Else the test would be of nothing.
    assert!(figures.elements > 3000 && figures.steady * 7 > figures.elements, "{figures:?}");
    figures
}

const CELLS: [(CellKind, u64, u64); 3] =
    [(CellKind::Lstm, 3, 1), (CellKind::Gru, 6, 3), (CellKind::GruResetBefore, 6, 3)];

/// WebNN's tests have relu everywhere. Where nothing cancels its bounds hold for the GRU always, and for the
/// LSTM, which has more roundings one after the other, nearly always: of a single step one element in a thousand is 2
/// off, not 1; of several, on the CPU, one in five thousand 4, not 3.
#[test]
fn with_webnns_activations_its_bounds_hold() {
    for engine in engines() {
        for (kind, several, one) in CELLS {
            for (single, allowed, most) in [(false, several, 5000), (true, one, 500)] {
                let figures = measure(&engine, kind, true, single, allowed);
                let few = if kind == CellKind::Lstm { figures.steady / most } else { 0 };
                assert!(figures.beyond <= few, "{engine:?} {kind:?}: {figures:?}");
                assert!(figures.worst_steady <= allowed + 1, "{engine:?} {kind:?}: {figures:?}");
            }
        }
    }
}

/// With σ and tanh, a few last places of small results are lost: each is within 4 units of its own. A
/// GRU keeps its bound, as it has 1 − z as σ of the opposite; an LSTM for all but one in a thousand.
/// Beside the largest number the same bounds hold for every element, whatever cancels.
#[test]
fn with_the_usual_activations_they_hold() {
    for engine in engines() {
        for (kind, several, _) in CELLS {
            for single in [false, true] {
                let figures = measure(&engine, kind, false, single, several);
                assert!(figures.normwise <= several as f64, "{engine:?} {kind:?}: {figures:?}");
                let few = if kind == CellKind::Lstm { figures.steady / 1000 } else { 0 };
                assert!(figures.beyond <= few, "{engine:?} {kind:?}: {figures:?}");
            }
        }
    }
}

#[test]
fn distances_are_counted_right() {
    assert_eq!(distance(1.0, 1.0), 0);
    assert_eq!(distance(1.0 + f32::EPSILON, 1.0), 1);
    assert_eq!(distance(1.0 - f32::EPSILON, 1.0), 2);
    assert_eq!(distance(-3.84, -3.84), 0);
    assert_eq!(distance(0.0, -0.0), 0);
    assert_eq!(distance(f32::from_bits(2), -f64::from(f32::from_bits(3))), 5);
    assert!(distance(f32::NAN, 1.0) > 1 << 20 && distance(-1.0, 1.0) > 1 << 20);
    // Half a unit off is rounded away.
    assert_eq!(distance(1.0, 1.0 + 0.4 * f64::from(f32::EPSILON)), 0);
    assert_eq!(ulp(1.0), f64::from(f32::EPSILON));
    // A mistake in the last gate of one unit is seen.
    let problem = Problem::new(CellKind::Lstm, true, true, 3);
    let mut wrong = Problem::new(CellKind::Lstm, true, true, 3);
    let bias = wrong.weights.get_mut("rnn.bias_hh_l0").unwrap();
    let last = bias.len() - 1;
    bias[[last]] *= 1.0 + 8.0 * f32::EPSILON;
    let cpu = Engine::cpu(Some(1)).unwrap();
    let far = wrong.run(&cpu).into_iter().zip(problem.exact()).map(|(g, w)| distance(g, w)).max();
    assert!(far.unwrap() > 2, "{far:?}");
}
