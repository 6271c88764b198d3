//! What the tests share: a run of a stack.

use recurra::engine::Engine;
use recurra::kernel::Control;
use recurra::layer::{InitialState, Initializer, Recurrent};
use recurra::schedule::{Recorder, Var};
use std::collections::BTreeMap;

/// Results of float32 beside others of float32 or better: some units of 1.2e-7.
pub const NEAR: f32 = 1e-6;

pub fn sigmoid(a: f32) -> f32 {
    1.0 / (1.0 + (-a).exp())
}

pub fn random(n: usize, seed: u64) -> Vec<f32> {
    Initializer::new(seed).uniform(n, 1.0)
}

/// Any weights, the same for the same name; multiples of 1/64, so that sums of two are exact.
fn some(name: &str, n: usize) -> Vec<f32> {
    let seed = name.bytes().fold(7u64, |s, b| s * 31 + u64::from(b));
    random(n, seed).into_iter().map(|v| (v * 64.0).round() / 64.0).collect()
}

/// A stack's run: what goes in.
pub struct Run<'a> {
    stack: &'a Recurrent,
    /// T, B.
    sizes: [usize; 2],
    /// By parameter, its name without the stack's: its shape and its values.
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    x: Vec<f32>,
    /// Of all parts, one after the other.
    initial: Vec<f32>,
    training: bool,
}

/// And what comes out; of gates and final states the first part's.
pub struct Out {
    pub y: Vec<f32>,
    pub last: Vec<f32>,
    pub gates: Vec<f32>,
}

impl<'a> Run<'a> {
    /// Weights, inputs and initial states are 0.
    pub fn zeros(stack: &'a Recurrent, sizes: [usize; 2]) -> Self {
        let [time, batch] = sizes;
        let weights = stack.all_parameters().into_iter().map(|parameter| {
            let values = vec![0.0; parameter.shape.iter().product()];
            let stem = parameter.name.strip_prefix("rnn.").unwrap().to_string();
            (stem, (parameter.shape, values))
        });
        let [rows, columns] = stack.state_shape(batch);
        let parts = stack.layers * stack.direction.count();
        Run {
            stack,
            sizes,
            weights: weights.collect(),
            x: vec![0.0; time * batch * stack.input],
            initial: vec![0.0; parts * rows * columns],
            training: false,
        }
    }

    /// None of them is.
    pub fn random(stack: &'a Recurrent, sizes: [usize; 2]) -> Self {
        let mut run = Run::zeros(stack, sizes);
        for (name, (_, values)) in &mut run.weights {
            *values = some(name, values.len());
        }
        run.x = random(run.x.len(), 1);
        run.initial = random(run.initial.len(), 2);
        run
    }

    /// Changes the values of one parameter.
    pub fn weight(mut self, name: &str, change: impl FnOnce(&mut [f32])) -> Self {
        change(&mut self.weights.get_mut(name).unwrap().1);
        self
    }

    /// Parameters of that name in every layer become [n, n] blocks of the identity, one under the other.
    pub fn identities(mut self, name: &str) -> Self {
        for (full, (shape, values)) in &mut self.weights {
            if full.starts_with(name) {
                let n = shape[1];
                let entries = (0..values.len()).map(|k| f32::from(k / n % n == k % n));
                *values = entries.collect();
            }
        }
        self
    }

    pub fn x(mut self, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), self.x.len());
        self.x = values;
        self
    }

    pub fn initial(mut self, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), self.initial.len());
        self.initial = values;
        self
    }

    /// With dropout.
    pub fn training(mut self) -> Self {
        self.training = true;
        self
    }

    pub fn on(self, engine: &Engine) -> Out {
        let [time, batch] = self.sizes;
        let mut rec = if self.training { Recorder::training() } else { Recorder::inference() };
        let x = rec.input("x", [time * batch, self.stack.input], false).unwrap();
        let shape = self.stack.state_shape(batch);
        let parts = self.stack.layers * self.stack.direction.count();
        let given: Vec<_> =
            (0..parts).map(|n| rec.input(&format!("initial{n}"), shape, false).unwrap()).collect();
        let initial = InitialState::Given(given.clone());
        let out = self.stack.record(&mut rec, x, self.sizes, &initial).unwrap();
        let y = rec.output("y", out.output).unwrap();
        let last = rec.output("last", out.finals[0]).unwrap();
        let gates = out.traces[0].gates(&mut rec, "gates").unwrap();
        let store = engine.store();
        for (name, (_, values)) in &self.weights {
            store.set(&format!("rnn.{name}"), values).unwrap();
        }
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        program.set_control(Control::new(1, 99));
        program.write(x.view.buffer, &self.x).unwrap();
        for (var, own) in given.iter().zip(self.initial.chunks(shape[0] * shape[1])) {
            program.write(var.view.buffer, own).unwrap();
        }
        program.run().unwrap();
        let read = |var: Var| program.read(var.view.buffer).unwrap();
        Out { y: read(y), last: read(last), gates: read(gates) }
    }
}
