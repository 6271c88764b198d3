//! A recurrent stack on an engine, through the public interface.

use recurra::cell::{Cell, CellKind};
use recurra::engine::Engine;
use recurra::kernel::View;
use recurra::layer::{InitialState, Recurrent};
use recurra::schedule::{Recorder, Var};
use std::collections::BTreeMap;

/// Weights, inputs and, for a training step, the gradients of the loss.
#[derive(Clone)]
pub struct Stack {
    pub cell: CellKind,
    /// T, B, I, H, L.
    pub sizes: [usize; 5],
    /// [T, B, I].
    pub x: Vec<f32>,
    /// For each layer its weights in PyTorch's order: weight_ih, weight_hh, bias_ih, bias_hh.
    pub weights: Vec<[Vec<f32>; 4]>,
    /// For each layer h [B, H], then c.
    pub initial: Vec<Vec<f32>>,
    /// The gradients of the outputs [T, B, H] and of each layer's final states; none, inference.
    pub seeds: Option<(Vec<f32>, Vec<Vec<f32>>)>,
}

impl Stack {
    /// What came out, by name: `output`, `final_l0` …, and of a training step `grad/input`,
    /// `grad/initial_l0` …, `grad/weight_ih_l0` …
    ///
    /// The program runs twice, and must give the same bits.
    pub fn run(&self, engine: &Engine) -> BTreeMap<String, Vec<f32>> {
        let [time, batch, input, hidden, layers] = self.sizes;
        let cell = self.cell;
        let states = [Cell::from(cell).states() * batch, hidden];
        let training = self.seeds.is_some();
        let mut rec = if training { Recorder::training() } else { Recorder::inference() };
        let mut written: Vec<(View, &[f32])> = Vec::new();

        let x = rec.input("input", [time * batch, input], true).unwrap();
        written.push((x.view, &self.x));
        let mut given = Vec::new();
        for (l, state) in self.initial.iter().enumerate() {
            let var = rec.input(&format!("initial_l{l}"), states, true).unwrap();
            written.push((var.view, state));
            given.push(var);
        }
        let layer = Recurrent { layers, ..Recurrent::new("rnn", cell, input, hidden) };
        let initial = InitialState::Given(given.clone());
        let out = layer.record(&mut rec, x, [time, batch], &initial).unwrap();
        assert_eq!(out.finals.len(), layers);

        let mut results = vec![("output".to_string(), out.output)];
        results.extend(out.finals.iter().enumerate().map(|(l, v)| (format!("final_l{l}"), *v)));
        if let Some((d_output, d_finals)) = &self.seeds {
            let seed = rec.input("d_output", [time * batch, hidden], false).unwrap();
            written.push((seed.view, d_output));
            rec.seed_gradient(out.output, seed).unwrap();
            for (l, (values, last)) in d_finals.iter().zip(&out.finals).enumerate() {
                let seed = rec.input(&format!("d_final_l{l}"), states, false).unwrap();
                written.push((seed.view, values));
                rec.seed_gradient(*last, seed).unwrap();
            }
            rec.backward().unwrap();
            let mut wanted = vec![("grad/input".to_string(), x)];
            wanted
                .extend(given.iter().enumerate().map(|(l, v)| (format!("grad/initial_l{l}"), *v)));
            for (name, var) in rec.parameters() {
                wanted.push((format!("grad/{}", name.strip_prefix("rnn.").unwrap()), var));
            }
            results.extend(gradients(&rec, wanted));
        }
        let outputs: Vec<_> =
            results.into_iter().map(|(n, v)| (rec.output(&n, v).unwrap().view, n)).collect();

        let store = engine.store();
        for (l, weights) in self.weights.iter().enumerate() {
            let shapes = layer.parameters(l, 0);
            for (parameter, values) in shapes.iter().zip(weights) {
                assert_eq!(parameter.shape.iter().product::<usize>(), values.len());
                store.set(&format!("rnn.{}", parameter.name), values).unwrap();
            }
        }
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        for (view, values) in written {
            program.write(view.buffer, values).unwrap();
        }
        let mut read = || -> BTreeMap<String, Vec<f32>> {
            program.run().unwrap();
            let values = |view: &View| program.read(view.buffer).unwrap();
            outputs.iter().map(|(view, name)| (name.clone(), values(view))).collect()
        };
        let first = read();
        for (name, again) in read() {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&first[&name]), bits(&again), "{name} differs in the second run");
        }
        first
    }
}

/// The gradients of `wanted`, each as a matrix that can be made an output.
pub fn gradients(rec: &Recorder, wanted: Vec<(String, Var)>) -> Vec<(String, Var)> {
    let gradient = |(name, var): (String, Var)| {
        let view = rec.gradient(var).unwrap_or_else(|| panic!("{name} was not computed"));
        (name, Var { view, ..var })
    };
    wanted.into_iter().map(gradient).collect()
}
