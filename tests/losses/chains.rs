//! Conditional random fields against all paths.

use crate::common::{Worst, engines};
use ndarray::{Array1, Array2, Array3};
use recurra::engine::Engine;
use recurra::kernel::{Control, LossScale};
use recurra::layer::{Crf, Initializer, Sequence};
use recurra::loss::LOSS;
use recurra::oracle::ChainScores;
use recurra::schedule::Recorder;
use recurra::tensor::Precision;
use std::collections::BTreeMap;

/// Emissions [T,B,K] and the scores of a chain, as one list: emissions, transitions, start, end.
#[derive(Clone)]
struct Chain {
    shape: [usize; 3],
    values: Vec<f32>,
    tags: Vec<u32>,
    lengths: Vec<u32>,
}

/// All tags of so many steps, the smallest last step first, so that the first of the best is the one that the
/// layer takes.
fn paths(steps: usize, tags: usize) -> Vec<Vec<usize>> {
    let mut list = vec![Vec::new()];
    for _ in 0..steps {
        let longer = |path: &Vec<usize>| {
            let path = path.clone();
            (0..tags).map(move |tag| [&path[..], &[tag]].concat()).collect::<Vec<_>>()
        };
        list = list.iter().flat_map(longer).collect();
    }
    list.sort_by_key(|path| path.iter().rev().copied().collect::<Vec<_>>());
    list
}

impl Chain {
    fn new(shape: [usize; 3], lengths: Vec<u32>, seed: u64) -> Self {
        let [time, batch, tags] = shape;
        let mut generator = Initializer::new(seed);
        let values = generator.uniform(time * batch * tags + tags * (tags + 2), 2.0);
        let steps = (time * batch) as u32;
        let tags = (0..steps).map(|i| (i * i + i / 2) % tags as u32).collect();
        Chain { shape, values, tags, lengths }
    }

    fn split(values: &[f64], [time, batch, tags]: [usize; 3]) -> (Array3<f64>, ChainScores) {
        let (emissions, rest) = values.split_at(time * batch * tags);
        let (transitions, ends) = rest.split_at(tags * tags);
        let (start, end) = ends.split_at(tags);
        let emissions = Array3::from_shape_vec((time, batch, tags), emissions.to_vec()).unwrap();
        let transitions = Array2::from_shape_vec((tags, tags), transitions.to_vec()).unwrap();
        let [start, end] = [start, end].map(|of| Array1::from(of.to_vec()));
        (emissions, ChainScores { transitions, start, end })
    }

    fn wide(&self) -> Vec<f64> {
        self.values.iter().map(|&x| f64::from(x)).collect()
    }

    /// A row's emissions over its length.
    fn row(&self, emissions: &Array3<f64>, b: usize) -> Vec<Array1<f64>> {
        let steps = 0..self.lengths[b] as usize;
        steps.map(|t| emissions.slice(ndarray::s![t, b, ..]).to_owned()).collect()
    }

    /// −log p by the sum over all paths, the mean over the rows that are not empty.
    fn brute_loss(&self, values: &[f64]) -> f64 {
        let (emissions, scores) = Self::split(values, self.shape);
        let present = self.lengths.iter().filter(|&&length| length > 0).count() as f64;
        let mut loss = 0.0;
        for b in (0..self.shape[1]).filter(|&b| self.lengths[b] > 0) {
            let row = self.row(&emissions, b);
            let all = paths(row.len(), self.shape[2]);
            let sum: f64 = all.iter().map(|path| scores.score(&row, path).exp()).sum();
            let tag = |t: usize| self.tags[t * self.shape[1] + b] as usize;
            let own: Vec<usize> = (0..row.len()).map(tag).collect();
            loss += (sum.ln() - scores.score(&row, &own)) / present;
        }
        loss
    }

    /// By central differences of the sum over all paths.
    fn brute_gradient(&self) -> Vec<f64> {
        let values = self.wide();
        let h = 1e-5;
        let at = |i: usize, h: f64| {
            let mut values = values.clone();
            values[i] += h;
            self.brute_loss(&values)
        };
        (0..values.len()).map(|i| (at(i, h) - at(i, -h)) / (2.0 * h)).collect()
    }

    /// The best of all paths, −1 behind its end, and its score.
    fn brute_best(&self) -> (Vec<f64>, Vec<f64>) {
        let [time, batch, tags] = self.shape;
        let (emissions, scores) = Self::split(&self.wide(), self.shape);
        let (mut best, mut most) = (vec![-1.0; time * batch], vec![0.0; batch]);
        for b in (0..batch).filter(|&b| self.lengths[b] > 0) {
            let row = self.row(&emissions, b);
            let mut chosen = (f64::NEG_INFINITY, Vec::new());
            for path in paths(row.len(), tags) {
                let score = scores.score(&row, &path);
                if score > chosen.0 {
                    chosen = (score, path);
                }
            }
            most[b] = chosen.0;
            for (t, tag) in chosen.1.into_iter().enumerate() {
                best[t * batch + b] = tag as f64;
            }
        }
        (best, most)
    }

    /// What the layer gives: loss, gradient (as the values lie), path, score.
    fn run(&self, engine: &Engine, masked: bool) -> BTreeMap<String, Vec<f32>> {
        self.run_in(engine, masked, Precision::F32)
    }

    fn run_in(
        &self,
        engine: &Engine,
        masked: bool,
        precision: Precision,
    ) -> BTreeMap<String, Vec<f32>> {
        let [time, batch, tags] = self.shape;
        let crf = Crf::new("crf", tags);
        let mut rec = Recorder::training().with_precision(precision);
        let emissions = rec.input("emissions", [time * batch, tags], true).unwrap();
        let stored = rec.in_precision(emissions).unwrap();
        let targets = rec.input_ids("tags", time * batch).unwrap();
        let mut sequence = Sequence::new(time, batch);
        sequence = match masked {
            true => sequence.with_mask(rec.input("mask", [time, batch], false).unwrap().view),
            false => sequence.with_lengths(rec.input_ids("lengths", batch).unwrap()),
        };
        crf.record_loss(&mut rec, stored, targets, sequence).unwrap();
        crf.record_decode(&mut rec, "best", stored, sequence).unwrap();
        rec.backward().unwrap();
        let parameters: BTreeMap<_, _> = rec.parameters().into_iter().collect();
        let of = ["crf.transitions", "crf.start", "crf.end"].map(|name| parameters[name]);
        for (number, var) in [emissions].into_iter().chain(of).enumerate() {
            let view = rec.gradient(var).unwrap();
            let gradient = recurra::schedule::Var { view, needs_gradient: false, ..var };
            rec.output(&format!("d{number}"), gradient).unwrap();
        }
        let recording = rec.finish();
        let store = engine.store();
        let mut at = time * batch * tags;
        for (name, shape) in crf.shapes() {
            let n: usize = shape.iter().product();
            store.set(&name, &self.values[at..at + n]).unwrap();
            at += n;
        }
        let mut program = engine.load(&recording, &store).unwrap();
        program.set_control(Control::new(1, 0));
        program.write(emissions.view.buffer, &self.values[..time * batch * tags]).unwrap();
        program.write_u32(targets.buffer, &self.tags).unwrap();
        if masked {
            let mask: Vec<f32> = (0..time * batch)
                .map(|i| f32::from(u8::from(((i / batch) as u32) < self.lengths[i % batch])))
                .collect();
            program.write(program.find("mask").unwrap(), &mask).unwrap();
        } else {
            program.write_u32(program.find("lengths").unwrap(), &self.lengths).unwrap();
        }
        program.run().unwrap();
        let read = |name: &str| program.read(program.find(name).unwrap()).unwrap();
        let gradient = (0..4).flat_map(|number| read(&format!("d{number}"))).collect();
        let mut results = BTreeMap::from([
            ("loss".to_string(), read(LOSS)[..1].to_vec()),
            ("gradient".to_string(), gradient),
        ]);
        for name in ["best", "best.scores"] {
            results.insert(name.to_string(), read(name));
        }
        results
    }
}

/// Central differences in float64 are good to 1e-9 or so, float32 sums to 1e-6.
const TOLERANCE: f64 = 2e-6;

#[test]
fn chains_are_the_sum_over_all_paths() {
    let chains = [
        Chain::new([1, 1, 1], vec![1], 1),
        Chain::new([1, 2, 4], vec![1, 1], 2),
        Chain::new([4, 3, 3], vec![4, 2, 3], 3),
        Chain::new([5, 4, 2], vec![5, 0, 1, 4], 4),
        Chain::new([3, 2, 5], vec![3, 3], 5),
    ];
    for (number, chain) in chains.iter().enumerate() {
        let (loss, gradient) = (chain.brute_loss(&chain.wide()), chain.brute_gradient());
        let (path, scores) = chain.brute_best();
        // The oracle, which the conformance suite trusts, has the same.
        let (emissions, table) = Chain::split(&chain.wide(), chain.shape);
        let [time, batch, _] = chain.shape;
        let takes = Array2::from_shape_fn((time, batch), |(t, b)| (t as u32) < chain.lengths[b]);
        let tags =
            Array2::from_shape_fn((time, batch), |(t, b)| chain.tags[t * batch + b] as usize);
        let oracle = table.likelihood(&emissions, &tags, &takes).unwrap();
        assert!((oracle.loss - loss).abs() < 1e-12 * loss.abs().max(1.0));
        let of = &oracle.scores;
        let all = oracle.emissions.iter().chain(&of.transitions).chain(&of.start).chain(&of.end);
        for (got, want) in all.zip(&gradient) {
            assert!((got - want).abs() < 1e-8, "{got} {want}");
        }
        let (best, most) = table.best(&emissions, &takes).unwrap();
        let best: Vec<f64> = best.iter().map(|tag| tag.map_or(-1.0, |tag| tag as f64)).collect();
        assert_eq!(best, path);
        assert!(most.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 1e-12));
        // A chain of one tag can't be wrong.
        let single = chain.shape[2] == 1;
        for engine in engines() {
            for masked in [false, true] {
                let got = chain.run(&engine, masked);
                let mut worst = Worst::default();
                if single {
                    assert!(got["loss"][0] == 0.0 && got["gradient"].iter().all(|&d| d == 0.0));
                } else {
                    worst.see("loss", &got["loss"], &[loss]);
                    worst.see("gradient", &got["gradient"], &gradient);
                }
                worst.see("scores", &got["best.scores"], &scores);
                worst.check(&format!("chain {number} on {}", engine.name()), TOLERANCE);
                let got: Vec<f64> = got["best"].iter().map(|&tag| f64::from(tag)).collect();
                assert_eq!(got, path, "chain {number} on {}", engine.name());
            }
        }
    }
}

/// Of equal paths the one with the smaller tags is taken, and without any step there is no loss.
#[test]
fn equal_paths_and_empty_rows() {
    for engine in engines() {
        let mut chain = Chain::new([6, 2, 3], vec![6, 3], 9);
        chain.values.fill(0.0);
        let got = chain.run(&engine, false);
        let path = got["best"]
            .iter()
            .enumerate()
            .all(|(i, &tag)| tag == if (i / 2) < [6, 3][i % 2] { 0.0 } else { -1.0 });
        assert!(path && got["best.scores"] == [0.0, 0.0], "{:?}", got["best"]);
        chain.values[..6 * 2 * 3].fill(f32::NAN);
        chain.lengths = vec![0, 0];
        let got = chain.run(&engine, false);
        assert!(got["loss"] == [0.0] && got["gradient"].iter().all(|&d| d == 0.0));
        assert!(got["best"].iter().all(|&tag| tag == -1.0));
    }
}

#[test]
fn bits_are_the_same_for_any_number_of_threads() {
    let chain = Chain::new([40, 7, 19], vec![40, 3, 17, 22, 40, 1, 9], 12);
    let of = |threads| {
        let got = chain.run(&Engine::cpu(Some(threads)).unwrap(), false);
        got.into_values().flatten().map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = of(1);
    assert!([2, 3, 4].into_iter().all(|threads| of(threads) == one));
}

/// With emissions in f16 all gradients are times the loss scale, those of the scores too.
#[test]
fn gradients_in_f16_are_scaled() {
    let Some(engine) = crate::common::gpu_engine() else { return };
    if !engine.supports(Precision::F16) {
        return;
    }
    let mut chain = Chain::new([9, 3, 5], vec![9, 4, 7], 21);
    // What f16 holds.
    chain.values.iter_mut().for_each(|x| *x = (*x * 64.0).round() / 64.0);
    let wide = chain.run(&engine, false);
    let short = chain.run_in(&engine, false, Precision::F16);
    for name in ["loss", "best", "best.scores"] {
        assert_eq!(wide[name], short[name], "{name}");
    }
    let scale = LossScale::new(&[]).scale();
    let scaled: Vec<f32> = short["gradient"].iter().map(|d| d / scale).collect();
    assert!(crate::common::apart(&scaled, &wide["gradient"]) < 1e-6);
}
