//! Both engines and the oracle against PyTorch's stacks: two directions, projections, lengths and
//! padding, batch_first, packed sequences, modules without biases. `goldens/make.py` wrote the files.

mod common;

use common::golden::Golden;
use common::stack::gradients;
use common::{Worst, engines};
use ndarray::{Array2, Array3, Axis};
use recurra::cell::{Cell, CellKind};
use recurra::engine::Engine;
use recurra::layer::{Direction, InitialState, Merge, Padding, Recurrent, Sequence, pack_indices};
use recurra::oracle::recurrent as oracle;
use recurra::schedule::{Recorder, Var};
use std::collections::BTreeMap;

/// Of each tensor's largest element, as for the plain cells.
const TOLERANCE: f64 = 1e-5;
/// The oracle computes in float64; the files hold results rounded once.
const ROUNDED: f64 = 6.1e-8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// [T, B, ·].
    Time,
    /// [B, T, ·].
    Batch,
    /// The rows of a PackedSequence.
    Packed,
}

/// As `STACKS` and `PROJECTED` of make.py, so that files made again with easier cases are noticed:
/// T, B, I, H, L; P or 0.
type Row = (Form, [usize; 5], bool, usize, &'static [usize], f32);

const STACKS: [Row; 9] = [
    (Form::Time, [5, 3, 2, 4, 2], true, 0, &[], 0.0),
    (Form::Time, [6, 4, 3, 5, 2], false, 0, &[2, 5, 1, 3], 0.0),
    (Form::Time, [6, 4, 3, 4, 2], true, 0, &[3, 1, 6, 3], -1.5),
    (Form::Batch, [4, 3, 2, 5, 1], true, 0, &[], 0.0),
    (Form::Batch, [5, 3, 3, 4, 2], true, 0, &[4, 5, 2], 0.75),
    (Form::Packed, [5, 4, 3, 4, 2], true, 0, &[2, 5, 2, 3], 0.0),
    // The LSTM's alone.
    (Form::Time, [4, 3, 2, 5, 2], false, 3, &[], 0.0),
    (Form::Time, [5, 3, 2, 4, 2], true, 3, &[2, 5, 3], 2.5),
    (Form::Packed, [4, 3, 2, 5, 2], true, 2, &[1, 4, 3], 0.0),
];

/// As `UNBIASED` and `UNBIASED_PROJECTED`: of modules with bias=False.
const UNBIASED: [Row; 3] = [
    (Form::Time, [4, 2, 2, 3, 1], false, 0, &[], 0.0),
    (Form::Time, [4, 3, 2, 3, 2], true, 0, &[2, 4, 1], 0.0),
    // The LSTM's alone.
    (Form::Time, [3, 2, 2, 4, 2], true, 2, &[], 0.0),
];

/// Results by the names of the file, without the case's prefix.
type Results<T> = BTreeMap<String, Vec<T>>;

#[derive(Clone)]
struct Case {
    form: Form,
    time: usize,
    batch: usize,
    layer: Recurrent,
    lengths: Vec<usize>,
    padding: f32,
    biased: bool,
    /// All tensors of the file that go in, by the names they have there; zeros for the biases that a
    /// module does not have.
    given: BTreeMap<String, Vec<f32>>,
    /// All that came out.
    wanted: Results<f64>,
}

/// The rows that a cell has: those with a projection are the LSTM's.
fn count(kind: CellKind, rows: &[Row]) -> usize {
    rows.iter().filter(|row| kind == CellKind::Lstm || row.3 == 0).count()
}

fn is_bias(name: &str) -> bool {
    name.starts_with("bias_") || name.starts_with("grad/bias_")
}

impl Case {
    fn open(kind: CellKind, number: usize) -> Self {
        let golden = Golden::open(&format!("{}_stacks", kind.name()));
        Case::read(kind, STACKS[number], &golden, &format!("case{number}/"), true)
    }

    fn unbiased(kind: CellKind, number: usize) -> Self {
        let prefix = format!("{}/case{number}/", kind.name());
        Case::read(kind, UNBIASED[number], &Golden::open("unbiased"), &prefix, false)
    }

    fn read(kind: CellKind, row: Row, golden: &Golden, prefix: &str, biased: bool) -> Self {
        let (form, [time, batch, input, hidden, layers], both, width, lengths, padding) = row;
        let cell = Cell { projection: (width > 0).then_some(width), ..Cell::from(kind) };
        let direction = if both { Direction::Both(Merge::Concat) } else { Direction::Forward };
        let layer = Recurrent { layers, direction, ..Recurrent::new("rnn", cell, input, hidden) };
        let (mut given, mut wanted) = (BTreeMap::new(), BTreeMap::new());
        let mut told = Vec::new();
        for full in golden.names() {
            let Some(name) = full.strip_prefix(prefix) else { continue };
            let out = matches!(name, "output" | "h_n" | "c_n") || name.starts_with("grad/");
            if matches!(name, "lengths" | "batch_sizes" | "sorted_indices") {
                told.push((name.to_string(), golden.ids(&full)));
            } else if out {
                wanted.insert(name.to_string(), golden.values(&full));
            } else {
                given.insert(name.to_string(), golden.exact(&full));
            }
        }
        let told: BTreeMap<String, Vec<usize>> = told.into_iter().collect();
        assert_eq!(told.contains_key("lengths"), !lengths.is_empty());
        let of = |name: &str| told.get(name).cloned().unwrap_or_default();
        assert_eq!(of("lengths"), lengths);
        let rows = match form {
            Form::Time => vec![time, batch],
            Form::Batch => vec![batch, time],
            Form::Packed => vec![lengths.iter().sum()],
        };
        let shape = |width: usize| [&rows[..], &[width]].concat();
        assert_eq!(golden.shape(&format!("{prefix}input")), shape(input));
        assert_eq!(golden.shape(&format!("{prefix}output")), shape(layer.output_width()));
        if form == Form::Packed {
            // PyTorch's own account of how it packed.
            let (_, packed) = pack_indices(lengths).unwrap();
            let steps: Vec<usize> = packed.iter().map(|&row| row as usize / batch).collect();
            let sizes = (0..time).map(|t| steps.iter().filter(|&&step| step == t).count());
            assert_eq!(of("batch_sizes"), sizes.collect::<Vec<_>>());
            let order = of("sorted_indices");
            let rows = of("batch_sizes").into_iter().enumerate().flat_map(|(t, size)| {
                order[..size].iter().map(move |row| (t * batch + row) as u32).collect::<Vec<_>>()
            });
            assert_eq!(packed, rows.collect::<Vec<_>>());
        }
        // A tensor for each parameter, the input and the states, and a gradient of each; the output
        // and the final states, and a gradient of each.
        let states = layer.cell.states();
        let mut parameters = layer.all_parameters();
        let stem = |name: &str| name.strip_prefix("rnn.").unwrap().to_string();
        let count = parameters.iter().filter(|p| biased || !is_bias(&stem(&p.name))).count();
        assert_eq!(given.len(), count + 1 + states + 1 + states);
        assert_eq!(wanted.len(), count + 1 + states + 1 + states);
        parameters.retain(|p| is_bias(&stem(&p.name)));
        for bias in parameters.iter().filter(|_| !biased) {
            given.insert(stem(&bias.name), vec![0.0; bias.shape[0]]);
        }
        let lengths = lengths.to_vec();
        Case { form, time, batch, layer, lengths, padding, biased, given, wanted }
    }

    /// Layers times directions.
    fn parts(&self) -> usize {
        self.layer.layers * self.layer.direction.count()
    }

    /// h and, for an LSTM, c; their names under `stem`, and their words in one part.
    fn states(&self, [h, c]: [&'static str; 2]) -> Vec<(&'static str, usize)> {
        let widths = [self.layer.cell.width(self.layer.hidden), self.layer.hidden];
        let all = [h, c].into_iter().zip(widths.map(|width| width * self.batch));
        all.take(self.layer.cell.states()).collect()
    }

    /// A part's states of the file's tensors, one after the other.
    fn part(&self, names: [&'static str; 2], n: usize) -> Vec<f32> {
        let of = |(name, words): (&str, usize)| self.given[name][n * words..][..words].to_vec();
        self.states(names).into_iter().flat_map(of).collect()
    }

    /// Values by part, h and then c, as the file's tensors.
    fn of_parts<T: Copy>(&self, names: [&'static str; 2], parts: &[Vec<T>], into: &mut Results<T>) {
        let mut from = 0;
        for (name, words) in self.states(names) {
            let all = parts.iter().flat_map(|part| part[from..from + words].iter().copied());
            into.insert(name.to_string(), all.collect());
            from += words;
        }
    }

    /// PyTorch's training step, on an engine.
    fn by_engine(&self, engine: &Engine) -> Results<f32> {
        let Case { form, time, batch, layer, .. } = self;
        let (time, batch, width) = (*time, *batch, layer.output_width());
        let mut rec = Recorder::training();
        let (mut floats, mut words) = (Vec::new(), Vec::new());
        let rows = self.given["input"].len() / layer.input;
        let input = rec.input("input", [rows, layer.input], true).unwrap();
        floats.push((input, self.given["input"].clone()));
        let mut sequence = Sequence::new(time, batch).with_padding(Padding::Value(self.padding));
        if !self.lengths.is_empty() {
            let lengths = rec.input_ids("lengths", batch).unwrap();
            words.push((lengths, self.lengths.iter().map(|&n| n as u32).collect()));
            sequence = sequence.with_lengths(lengths);
        }
        let mut to_packed = None;
        let x = match form {
            Form::Time => input,
            Form::Batch => rec.swap_rows(input, time).unwrap(),
            Form::Packed => {
                let (padded, packed) = pack_indices(&self.lengths).unwrap();
                let whole = rec.input_ids("padded", padded.len()).unwrap();
                let back = rec.input_ids("packed", packed.len()).unwrap();
                words.extend([(whole, padded), (back, packed)]);
                to_packed = Some(back);
                rec.gather(input, whole).unwrap()
            }
        };
        let mut initial = Vec::new();
        for n in 0..self.parts() {
            let shape = layer.state_shape(batch);
            initial.push(rec.input(&format!("initial{n}"), shape, true).unwrap());
            floats.push((initial[n], self.part(["h0", "c0"], n)));
        }
        let states = InitialState::Given(initial.clone());
        let out = layer.record(&mut rec, x, sequence, &states).unwrap();
        let output = match (form, to_packed) {
            (Form::Batch, _) => rec.swap_rows(out.output, batch).unwrap(),
            (_, Some(back)) => rec.gather(out.output, back).unwrap(),
            _ => out.output,
        };
        assert_eq!([output.rows, output.columns], [rows, width]);
        let mut seed = |rec: &mut Recorder, name: &str, var: Var, values: Vec<f32>| {
            let seed = rec.input(name, [var.rows, var.columns], false).unwrap();
            rec.seed_gradient(var, seed).unwrap();
            floats.push((seed, values));
        };
        seed(&mut rec, "d_output", output, self.given["d_output"].clone());
        for (n, last) in out.finals.iter().enumerate() {
            seed(&mut rec, &format!("d_final{n}"), *last, self.part(["d_h_n", "d_c_n"], n));
        }
        rec.backward().unwrap();
        let mut results = vec![("output".to_string(), output)];
        let mut wanted = vec![("grad/input".to_string(), input)];
        for (n, (&first, &last)) in initial.iter().zip(&out.finals).enumerate() {
            results.push((format!("last{n}"), last));
            wanted.push((format!("first{n}"), first));
        }
        let parameters = rec.parameters();
        let stem = |name: &str| format!("grad/{}", name.strip_prefix("rnn.").unwrap());
        wanted.extend(parameters.iter().map(|(name, var)| (stem(name), *var)));
        results.extend(gradients(&rec, wanted));
        let outputs: Vec<_> = results
            .into_iter()
            .map(|(name, var)| (rec.output(&format!("out/{name}"), var).unwrap(), name))
            .collect();

        let store = engine.store();
        for parameter in layer.all_parameters() {
            let name = parameter.name.strip_prefix("rnn.").unwrap();
            assert_eq!(parameter.shape.iter().product::<usize>(), self.given[name].len());
            store.set(&parameter.name, &self.given[name]).unwrap();
        }
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        for (var, values) in &floats {
            program.write(var.view.buffer, values).unwrap();
        }
        for (view, values) in &words {
            program.write_u32(view.buffer, values).unwrap();
        }
        program.run().unwrap();
        let read = outputs
            .iter()
            .map(|(var, name)| (name.clone(), program.read(var.view.buffer).unwrap()));
        let mut all: Results<f32> = read.collect();
        let mut take = |stem: &str| -> Vec<_> {
            (0..self.parts()).map(|n| all.remove(&format!("{stem}{n}")).unwrap()).collect()
        };
        let (last, first) = (take("last"), take("first"));
        self.of_parts(["h_n", "c_n"], &last, &mut all);
        self.of_parts(["grad/h0", "grad/c0"], &first, &mut all);
        all
    }

    /// Where step t of row b lies in the file's input and output; none where it isn't in them.
    fn row(&self, t: usize, b: usize) -> Option<usize> {
        match self.form {
            Form::Time => Some(t * self.batch + b),
            Form::Batch => Some(b * self.time + t),
            Form::Packed => {
                let (_, packed) = pack_indices(&self.lengths).unwrap();
                packed.iter().position(|&row| row as usize == t * self.batch + b)
            }
        }
    }

    /// A tensor of the file's rows as [T, B, width]; 0 where they have none.
    fn steps(&self, name: &str, width: usize) -> Array3<f64> {
        let values = &self.given[name];
        Array3::from_shape_fn((self.time, self.batch, width), |(t, b, k)| {
            self.row(t, b).map_or(0.0, |row| values[row * width + k].into())
        })
    }

    /// The way back.
    fn rows(&self, of: &Array3<f64>, rows: usize) -> Vec<f64> {
        let width = of.dim().2;
        let mut values = vec![f64::NAN; rows * width];
        for ((t, b, k), value) in of.indexed_iter() {
            if let Some(row) = self.row(t, b) {
                values[row * width + k] = *value;
            }
        }
        values
    }

    /// PyTorch's training step, in the oracle.
    fn by_oracle(&self) -> Results<f64> {
        let Recurrent { layers, hidden, ref cell, direction, input, .. } = self.layer;
        let (own, activations) = match cell.kind {
            CellKind::RnnTanh => (oracle::Cell::Rnn, None),
            CellKind::RnnRelu => (oracle::Cell::Rnn, Some(vec![oracle::Activation::Relu])),
            CellKind::Lstm => (oracle::Cell::Lstm, None),
            _ => (oracle::Cell::Gru, None),
        };
        let by_part = |n: usize, names: [&'static str; 2]| -> Vec<Array2<f64>> {
            let values = self.part(names, n).into_iter().map(f64::from).collect::<Vec<_>>();
            let mut from = 0;
            let each = self.states(names).into_iter().map(|(_, words)| {
                let shape = (self.batch, words / self.batch);
                from += words;
                Array2::from_shape_vec(shape, values[from - words..from].to_vec()).unwrap()
            });
            each.collect()
        };
        let directions = direction.count();
        let all = |f: &dyn Fn(usize, usize) -> oracle::Weights| -> Vec<Vec<oracle::Weights>> {
            (0..layers).map(|l| (0..directions).map(|d| f(l, d)).collect()).collect()
        };
        let suffix = |l: usize, d: usize| format!("_l{l}{}", if d == 1 { "_reverse" } else { "" });
        let weights = all(&|l, d| {
            let one = |parameter: recurra::cell::ParameterShape| {
                let values = self.given[&parameter.name].iter().copied().map(f64::from);
                let shape = match parameter.shape[..] {
                    [rows, columns] => (rows, columns),
                    _ => (1, parameter.shape[0]),
                };
                let array = Array2::from_shape_vec(shape, values.collect()).unwrap();
                (parameter.name.strip_suffix(&suffix(l, d)).unwrap().to_string(), array)
            };
            self.layer.parameters(l, d).into_iter().map(one).collect()
        });
        let states = |names: [&'static str; 2]| -> Vec<Vec<Vec<Array2<f64>>>> {
            let one =
                |l: usize| (0..directions).map(|d| by_part(l * directions + d, names)).collect();
            (0..layers).map(one).collect()
        };
        let spec = |d: usize| {
            let options = oracle::Options {
                activations: activations.clone(),
                projection: cell.projection,
                reverse: d == 1,
                ..oracle::Options::default()
            };
            oracle::LayerSpec { cell: own.clone(), options, hidden }
        };
        let valid = (!self.lengths.is_empty())
            .then(|| Array2::from_shape_fn((self.time, self.batch), |(t, b)| t < self.lengths[b]));
        let masks = oracle::Masks { valid, ..oracle::Masks::default() };
        let stack = oracle::Stack {
            layers: vec![(0..directions).map(spec).collect(); layers],
            merge: oracle::Merge::Concat,
            residual: false,
            skip: false,
            padding: oracle::Padding::Value(self.padding.into()),
        };
        let result = oracle::run(
            &stack,
            &oracle::StackInput {
                x: self.steps("input", input),
                weights,
                initial: states(["h0", "c0"]),
                masks: vec![vec![masks; directions]; layers],
                between: vec![None; layers],
                weight_drop: vec![vec![None; directions]; layers],
                d_output: self.steps("d_output", self.layer.output_width()),
                d_finals: states(["d_h_n", "d_c_n"]),
            },
        )
        .unwrap();
        let rows = self.given["input"].len() / input;
        let mut results = BTreeMap::from([
            ("output".to_string(), self.rows(&result.output, rows)),
            ("grad/input".to_string(), self.rows(&result.d_x, rows)),
        ]);
        let flat = |states: &Vec<Vec<Vec<Array2<f64>>>>| -> Vec<Vec<f64>> {
            let part = |part: &Vec<Array2<f64>>| part.iter().flatten().copied().collect();
            states.iter().flatten().map(part).collect()
        };
        self.of_parts(["h_n", "c_n"], &flat(&result.finals), &mut results);
        self.of_parts(["grad/h0", "grad/c0"], &flat(&result.d_initial), &mut results);
        for (l, layer) in result.d_weights.iter().enumerate() {
            for (d, weights) in layer.iter().enumerate() {
                for (name, gradient) in weights {
                    let name = format!("grad/{name}{}", suffix(l, d));
                    results.insert(name, gradient.iter().copied().collect());
                }
            }
        }
        results
    }

    /// Those results that PyTorch has, which must be all: but gradients of biases that are none there.
    fn known<T>(&self, mut results: Results<T>) -> Results<T> {
        results.retain(|name, _| self.biased || !is_bias(name));
        assert!(results.keys().eq(self.wanted.keys()), "there are other tensors than PyTorch's");
        results
    }

    fn compare(&self, engine: &Engine) -> Worst {
        let got = self.known(self.by_engine(engine));
        let mut worst = Worst::default();
        for (name, want) in &self.wanted {
            worst.see(name, &got[name], want);
        }
        worst
    }
}

/// One case on the engines and in the oracle.
fn check(case: &Case, engines: &[Engine], title: &str) {
    for engine in engines {
        let what = format!("{title} on {}", engine.name());
        case.compare(engine).check(&what, TOLERANCE);
    }
    let got = case.known(case.by_oracle());
    for (name, want) in &case.wanted {
        assert_eq!(got[name].len(), want.len(), "{name}");
        let largest = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        for (k, (g, w)) in got[name].iter().zip(want).enumerate() {
            // What cancels to nearly nothing is known to the sums' digits.
            let bound = ROUNDED * w.abs() + 1e-12 * largest;
            let what = format!("{title}: {name}, element {k}");
            assert!((g - w).abs() <= bound, "{what}: the oracle has {g}, PyTorch {w}");
        }
    }
}

fn check_cell(kind: CellKind) {
    let engines = engines();
    for number in 0..count(kind, &STACKS) {
        let title = format!("{}, case {number}", kind.name());
        check(&Case::open(kind, number), &engines, &title);
    }
}

#[test]
fn rnn_tanh_stacks_are_pytorchs() {
    check_cell(CellKind::RnnTanh);
}

#[test]
fn rnn_relu_stacks_are_pytorchs() {
    check_cell(CellKind::RnnRelu);
}

#[test]
fn lstm_stacks_are_pytorchs() {
    check_cell(CellKind::Lstm);
}

#[test]
fn gru_stacks_are_pytorchs() {
    check_cell(CellKind::Gru);
}

/// Zeros for biases are as good as none: the same results, the same gradients of all else.
#[test]
fn stacks_without_biases_are_pytorchs() {
    let engines = engines();
    for kind in CellKind::CLASSIC {
        for number in 0..count(kind, &UNBIASED) {
            let title = format!("{} without biases, case {number}", kind.name());
            let mut case = Case::unbiased(kind, number);
            check(&case, &engines, &title);
            case.given.get_mut("bias_hh_l0").unwrap().fill(0.125);
            let error = case.compare(&engines[0]).error;
            assert!(error > 1000.0 * TOLERANCE, "{title}, but for one: {error}");
        }
    }
    let of_files = Golden::open("unbiased").names();
    let inputs = of_files.iter().filter(|name| name.ends_with("/grad/input")).count();
    assert_eq!(inputs, 4 * 2 + 1, "each case of the file is used");
}

/// What a user gets wrong, or a wrong machine, lies far beyond the tolerance.
#[test]
fn wrong_stacks_are_noticed() {
    type Change = fn(&mut Case);
    let swap = |case: &mut Case, a: &str, b: &str| {
        let (one, other) = (case.given[a].clone(), case.given[b].clone());
        case.given.insert(a.to_string(), other);
        case.given.insert(b.to_string(), one);
    };
    let changes: [(&str, &[usize], Change); 7] = [
        ("lengths ignored", &[1, 2, 4, 5, 7, 8], |c| {
            // The packed rows must stay as many: the longest stays, two change places.
            match c.form {
                Form::Packed => c.lengths.swap(0, 1),
                _ => c.lengths.fill(c.time),
            }
        }),
        ("another padding", &[2, 4, 7], |c| c.padding = 0.0),
        ("padding where there is none", &[1], |c| c.padding = 1.0),
        ("the states of a layer's directions swapped", &[0, 2, 3, 4, 5, 7, 8], |c| {
            let words = c.batch * c.layer.cell.width(c.layer.hidden);
            let h = c.given.get_mut("h0").unwrap();
            h[..2 * words].rotate_left(words);
        }),
        ("the first layer's states for the second", &[0, 1, 2, 4, 5, 6, 7, 8], |c| {
            let half = c.given["h0"].len() / 2;
            c.given.get_mut("h0").unwrap().rotate_left(half);
        }),
        ("batch and time swapped", &[3, 4], |c| c.form = Form::Time),
        ("one direction only", &[0, 2, 3, 4, 5, 7, 8], |c| {
            let reverse: Vec<String> =
                c.given.keys().filter(|n| n.ends_with("l0_reverse")).cloned().collect();
            for name in reverse {
                c.given.get_mut(&name).unwrap().fill(0.0);
            }
        }),
    ];
    let cpu = Engine::cpu(None).unwrap();
    for (what, numbers, change) in changes {
        for &number in numbers {
            let mut case = Case::open(CellKind::Lstm, number);
            change(&mut case);
            let worst = case.compare(&cpu);
            assert!(worst.error > 1000.0 * TOLERANCE, "{what}, case {number}: {}", worst.error);
        }
    }
    // A projection that is transposed, and the two directions' weights for each other.
    let mut case = Case::open(CellKind::Lstm, 6);
    let width = case.layer.cell.width(case.layer.hidden);
    let hr = Array2::from_shape_vec((5, width), case.given["weight_hr_l0"].clone()).unwrap();
    let turned: Vec<f32> = hr.axis_iter(Axis(1)).flatten().copied().collect();
    case.given.insert("weight_hr_l0".to_string(), turned);
    assert!(case.compare(&cpu).error > 1000.0 * TOLERANCE);
    for kind in CellKind::CLASSIC {
        let mut case = Case::open(kind, 2);
        swap(&mut case, "weight_hh_l1", "weight_hh_l1_reverse");
        assert!(case.compare(&cpu).error > 1000.0 * TOLERANCE, "{kind:?}");
    }
}
