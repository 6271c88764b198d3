//! Which stacks are compared: every cell over odd sizes, every option alone, random combinations.

use super::RecurrentCase;
use crate::kernel::{Activation, Cell, CellKind, Convolution};
use crate::layer::{Direction, Initializer, Memory, Merge, Padding, Recurrent};
use crate::tensor::Precision;

fn stack(cell: impl Into<Cell>, input: usize, hidden: usize, layers: usize) -> Recurrent {
    Recurrent { layers, ..Recurrent::new("rnn", cell, input, hidden) }
}

/// The suite's cases.
pub fn recurrent_cases() -> Vec<RecurrentCase> {
    groups().concat()
}

/// The suite's cases by what they are about: shapes and options of each cell, and what one cell stands for.
fn groups() -> Vec<Vec<RecurrentCase>> {
    let mut groups = Vec::new();
    for kind in CellKind::ALL {
        groups.extend([shapes(kind), options(kind)]);
    }
    groups.extend([lstm_options(), activations(), convolutions(), segments(), tables()]);
    groups
}

/// The suite's cases of a precision in groups, each of which has something of its own.
pub(crate) fn recurrent_groups(precision: Precision) -> Vec<Vec<RecurrentCase>> {
    if precision == Precision::F32 {
        return groups();
    }
    let cases = recurrent_cases_in_f16();
    let of = |kind| cases.iter().filter(move |case| case.stack.cell.kind == kind).cloned();
    CellKind::ALL.into_iter().map(|kind| of(kind).collect()).collect()
}

/// The cases that are run in f16: every cell, every option with some of them. The kernels are the same texts,
/// and a driver that computes on the CPU compiles each of them anew.
pub fn recurrent_cases_in_f16() -> Vec<RecurrentCase> {
    let mut cases = Vec::new();
    for (number, kind) in CellKind::ALL.into_iter().enumerate() {
        cases.extend(shapes(kind).into_iter().skip(6).step_by(2).take(2));
        cases.extend(options(kind).into_iter().skip(number % 6).step_by(6));
    }
    // Rounding puts a gate near the border of a clip on the other side: of the many gates here there is such
    // a one, of the few in the activations' cases there is none.
    cases.extend(lstm_options().into_iter().filter(|case| case.stack.cell.clip.is_none()));
    cases.extend(activations().into_iter().step_by(8));
    cases.extend(convolutions().into_iter().step_by(5));
    cases.extend(segments().into_iter().step_by(3));
    cases.iter_mut().for_each(|case| case.precision = Precision::F16);
    cases
}

/// Odd sizes, several layers, given states, saturated gates.
fn shapes(kind: CellKind) -> Vec<RecurrentCase> {
    let plain: [([usize; 4], usize, bool); 13] = [
        ([1, 1, 1, 1], 1, false),
        ([1, 2, 3, 7], 2, true),
        ([2, 1, 7, 3], 1, true),
        ([3, 3, 2, 2], 3, true),
        ([7, 2, 3, 33], 1, true),
        ([7, 33, 1, 7], 2, false),
        ([3, 7, 33, 64], 2, true),
        ([2, 64, 7, 33], 1, true),
        ([64, 3, 7, 33], 2, true),
        ([33, 1, 64, 3], 3, false),
        ([3, 2, 257, 7], 1, true),
        ([7, 3, 33, 257], 1, true),
        ([257, 1, 2, 3], 1, true),
    ];
    let mut cases = Vec::new();
    for ([t, b, i, h], layers, given) in plain {
        let case = RecurrentCase::new(stack(kind, i, h, layers), t, b);
        cases.push(RecurrentCase { given, ..case });
    }
    let base = RecurrentCase::new(stack(kind, 2, 7, 2), 7, 3);
    // A rectifier does not saturate: large inputs only grow.
    let saturated = kind != CellKind::RnnRelu;
    cases.push(RecurrentCase { given: true, saturated, ..base });
    cases
}

/// Every option of the machinery, alone.
fn options(kind: CellKind) -> Vec<RecurrentCase> {
    let make = |change: &dyn Fn(&mut RecurrentCase)| {
        let mut case = RecurrentCase::new(stack(kind, 5, 18, 2), 6, 4);
        case.given = true;
        change(&mut case);
        case
    };
    let scan = kind.is_scan();
    let mut cases = vec![
        make(&|c| (c.stack.dropout, c.stack.layers) = (0.3, 3)),
        make(&|c| c.stack.input_dropout = 0.3),
        make(&|c| c.stack.zoneout = [0.3, 0.2]),
        make(&|c| (c.stack.zoneout, c.inference) = ([0.3, 0.2], true)),
        make(&|c| c.stack.direction = Direction::Reverse),
        make(&|c| c.stack.direction = Direction::Both(Merge::Concat)),
        make(&|c| c.stack.direction = Direction::Both(Merge::Sum)),
        make(&|c| c.stack.direction = Direction::Both(Merge::Mul)),
        make(&|c| c.stack.direction = Direction::Both(Merge::Average)),
        make(&|c| (c.stack.residual, c.stack.layers) = (true, 3)),
        make(&|c| c.stack.skip = true),
        make(&|c| (c.stack.learned_initial, c.given) = (true, false)),
        make(&|c| c.lengths = true),
        make(&|c| (c.lengths, c.padding) = (true, Padding::Repeat)),
        make(&|c| (c.mask, c.padding) = (true, Padding::Value(-2.0))),
        make(&|c| c.resets = true),
        make(&|c| (c.lengths, c.mask, c.resets) = (true, true, true)),
        make(&|c| {
            c.stack.direction = Direction::Both(Merge::Concat);
            (c.lengths, c.resets) = (true, true);
        }),
        make(&|c| (c.stack.batch_norm, c.mask) = (Some(1e-3), true)),
        make(&|c| (c.stack.batch_norm, c.inference) = (Some(1e-1), true)),
    ];
    if !scan {
        cases.extend([
            make(&|c| c.stack.recurrent_dropout = 0.3),
            make(&|c| (c.stack.recurrent_dropout, c.stack.per_gate) = (0.3, true)),
            make(&|c| c.stack.weight_drop = 0.3),
            make(&|c| c.stack.heads = 3),
            make(&|c| (c.stack.heads, c.stack.hidden) = (2, 36)),
            make(&|c| c.stack.heads = 18),
            make(&|c| {
                c.stack.recurrent_dropout = 0.3;
                c.stack.per_gate = true;
                c.stack.heads = 2;
                (c.lengths, c.resets) = (true, true);
                c.stack.zoneout = [0.2, 0.3];
            }),
        ]);
    }
    let dropout = if scan { 0.0 } else { 0.2 };
    cases.extend([
        make(&|c| c.stack.cell.layer_norm = Some(1e-3)),
        make(&|c| {
            c.stack.cell.layer_norm = Some(1e-3);
            c.stack.zoneout = [0.2, 0.3];
            c.stack.recurrent_dropout = dropout;
            (c.lengths, c.resets) = (true, true);
        }),
        make(&|c| {
            c.stack.cell.layer_norm = Some(1e-3);
            c.stack.direction = Direction::Both(Merge::Concat);
            (c.stack.recurrent_dropout, c.stack.per_gate) = (dropout, true);
        }),
    ]);
    if !scan {
        cases.push(make(&|c| {
            c.stack.cell.layer_norm = Some(1e-3);
            c.stack.heads = 3;
            (c.mask, c.resets) = (true, true);
        }));
    }
    cases
}

/// What only the LSTM has.
fn lstm_options() -> Vec<RecurrentCase> {
    let changes: Vec<fn(&mut RecurrentCase)> = vec![
        |c| c.stack.cell.peepholes = true,
        |c| c.stack.cell.coupled = true,
        |c| (c.stack.cell.coupled, c.stack.cell.peepholes) = (true, true),
        |c| c.stack.cell.cell_clip = Some(0.4),
        |c| c.stack.cell.clip = Some(0.8),
        |c| c.stack.cell.projection = Some(5),
        |c| {
            c.stack.cell.projection = Some(21);
            c.stack.direction = Direction::Both(Merge::Concat);
        },
        |c| {
            c.stack.cell.projection = Some(7);
            c.stack.zoneout = [0.2, 0.3];
            c.stack.recurrent_dropout = 0.3;
            (c.lengths, c.mask, c.resets) = (true, true, true);
        },
        |c| (c.stack.cell.projection, c.stack.cell.layer_norm) = (Some(7), Some(1e-3)),
        |c| (c.stack.cell.projection, c.stack.heads) = (Some(6), 3),
        |c| (c.stack.cell.projection, c.stack.heads) = (Some(9), 9),
        |c| {
            (c.stack.cell.projection, c.stack.heads) = (Some(4), 2);
            (c.stack.hidden, c.stack.cell.layer_norm) = (72, Some(1e-3));
            (c.stack.recurrent_dropout, c.stack.per_gate) = (0.2, true);
            (c.lengths, c.resets) = (true, true);
        },
        |c| {
            c.stack.cell.projection = Some(7);
            c.stack.cell.layer_norm = Some(1e-3);
            c.stack.cell.peepholes = true;
            c.stack.cell.coupled = true;
            c.stack.cell.cell_clip = Some(0.7);
            c.stack.zoneout = [0.2, 0.3];
            (c.lengths, c.resets) = (true, true);
        },
        |c| {
            c.stack.cell.peepholes = true;
            c.stack.zoneout = [0.3, 0.3];
            c.stack.direction = Direction::Both(Merge::Sum);
            (c.lengths, c.mask, c.resets) = (true, true, true);
        },
    ];
    let make = |change: &fn(&mut RecurrentCase)| {
        let mut case = RecurrentCase::new(stack(CellKind::Lstm, 5, 18, 2), 6, 4);
        case.given = true;
        change(&mut case);
        case
    };
    changes.iter().map(make).collect()
}

/// Activations with parameters that are not ONNX's defaults.
pub(super) const ACTIVATIONS: [Activation; 12] = [
    Activation::Relu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Affine { alpha: 0.7, beta: -0.2 },
    Activation::LeakyRelu { alpha: 0.2 },
    Activation::ThresholdedRelu { alpha: 0.3 },
    Activation::ScaledTanh { alpha: 1.7, beta: 0.6 },
    Activation::HardSigmoid { alpha: 0.3, beta: 0.4 },
    Activation::Elu { alpha: 0.8 },
    Activation::Softsign,
    Activation::Softplus,
    Activation::Identity,
];

/// Every activation in every place.
fn activations() -> Vec<RecurrentCase> {
    let mut cases = Vec::new();
    for (i, &f) in ACTIVATIONS.iter().enumerate() {
        let (g, h) = (ACTIVATIONS[(i + 5) % 12], ACTIVATIONS[(i + 7) % 12]);
        for (kind, given) in [
            (CellKind::RnnTanh, vec![f]),
            (CellKind::Lstm, vec![f, g, h]),
            (CellKind::Gru, vec![f, g]),
            (CellKind::GruResetBefore, vec![f, g]),
            // Gate by gate, each another one.
            (CellKind::Lstm, (0..5).map(|gate| ACTIVATIONS[(i + 2 * gate) % 12]).collect()),
            (CellKind::Gru, vec![f, ACTIVATIONS[(i + 1) % 12], g]),
            (CellKind::GruResetBefore, vec![f, ACTIVATIONS[(i + 1) % 12], g]),
        ] {
            let mut case = RecurrentCase::new(stack(kind, 3, 7, 1), 3, 4);
            case.given = true;
            case.stack.cell.activations = Some(given);
            if i % 3 == 0 {
                case.stack.cell.clip = Some(0.6);
            }
            cases.push(case);
        }
    }
    cases
}

/// Sequences that are computed in segments, with all that goes by a step's place in the whole.
fn segments() -> Vec<RecurrentCase> {
    let mut cases = Vec::new();
    for kind in CellKind::ALL {
        // A segment ends where 512 rows do, or 128 steps of a scan.
        let [time, batch] = if kind.is_scan() { [260, 3] } else { [5, 256] };
        let mut case = RecurrentCase::new(stack(kind, 3, 5, 2), time, batch);
        case.stack.memory = Memory::Segments(1);
        case.given = true;
        cases.push(case.clone());
        case.stack.direction = Direction::Both(Merge::Concat);
        case.stack.zoneout = [0.2, 0.2];
        if !kind.is_scan() {
            case.stack.recurrent_dropout = 0.2;
        }
        (case.lengths, case.mask, case.resets) = (true, true, true);
        cases.push(case);
    }
    cases
}

/// Inputs that are rows of a table, with what touches the input product and its gradients.
fn tables() -> Vec<RecurrentCase> {
    let changes: Vec<fn(&mut RecurrentCase)> = vec![
        |_| (),
        |c| c.inference = true,
        // As many rows as x: each is multiplied by itself.
        |c| c.table = Some(24),
        |c| c.stack.direction = Direction::Both(Merge::Concat),
        |c| c.stack.skip = true,
        |c| (c.lengths, c.resets) = (true, true),
        |c| (c.stack.cell.layer_norm, c.mask) = (Some(1e-3), true),
        |c| (c.stack.batch_norm, c.mask) = (Some(1e-3), true),
    ];
    let mut cases = Vec::new();
    for (number, kind) in CellKind::ALL.into_iter().enumerate() {
        let mut case = RecurrentCase::new(stack(kind, 5, 18, 2), 6, 4);
        case.table = Some(7);
        for (_, change) in changes.iter().enumerate().filter(|(at, _)| at % 2 == number % 2) {
            let mut case = case.clone();
            change(&mut case);
            cases.push(case);
        }
        let [time, batch] = if kind.is_scan() { [260, 3] } else { [5, 256] };
        let mut case = RecurrentCase::new(stack(kind, 3, 5, 1), time, batch);
        (case.table, case.stack.memory) = (Some(65), Memory::Segments(1));
        if number % 2 == 1 {
            case.stack.direction = Direction::Reverse;
        }
        cases.push(case);
    }
    cases
}

/// One- and two-dimensional maps.
fn convolutions() -> Vec<RecurrentCase> {
    let line = Convolution { map: [1, 9], kernel: [1, 3] };
    let plane = Convolution { map: [4, 3], kernel: [3, 5] };
    let mut cases = Vec::new();
    for kind in CellKind::ALL {
        for convolution in [line, plane] {
            let mut case = RecurrentCase::new(stack(kind, 3, 6, 2), 4, 2);
            case.stack.convolution = Some(convolution);
            case.given = true;
            cases.push(case.clone());
            case.stack.zoneout = [0.2, 0.2];
            case.stack.direction = Direction::Both(Merge::Concat);
            (case.batch, case.lengths, case.resets) = (3, true, true);
            if kind.is_scan() {
                cases.push(case);
                continue;
            }
            case.stack.recurrent_dropout = 0.2;
            cases.push(case.clone());
            case.stack.per_gate = true;
            cases.push(case.clone());
            case.stack.heads = 3;
            cases.push(case.clone());
            (case.stack.heads, case.stack.cell.layer_norm) = (6, Some(1e-3));
            cases.push(case);
        }
    }
    let mut case = RecurrentCase::new(stack(CellKind::Lstm, 3, 5, 1), 4, 2);
    case.stack.convolution = Some(plane);
    case.stack.cell.layer_norm = Some(1e-3);
    case.stack.cell.peepholes = true;
    case.stack.cell.projection = Some(4);
    cases.push(case);
    cases
}

/// A stack with options drawn by the seed, each likely enough that most cases have several.
pub fn random_case(seed: u64) -> RecurrentCase {
    let mut generator = Initializer::new(seed);
    let mut draw = |n: usize| ((generator.uniform(1, 0.5)[0] + 0.5) * n as f32) as usize % n.max(1);
    let kind = CellKind::ALL[draw(CellKind::ALL.len())];
    // One or two units are among the fixed shapes: here a gradient of one number, the sum of many that
    // cancel, would be measured by what is left of it.
    let (hidden, input) = ([3, 5, 6, 12, 17, 18, 33, 34][draw(8)], 1 + draw(20));
    let mut case =
        RecurrentCase::new(stack(kind, input, hidden, 1 + draw(3)), 1 + draw(8), 1 + draw(19));
    let rate = |draw: &mut dyn FnMut(usize) -> usize| [0.0, 0.0, 0.3][draw(3)];
    let s = &mut case.stack;
    s.direction = [
        Direction::Forward,
        Direction::Forward,
        Direction::Reverse,
        Direction::Both(Merge::Concat),
        Direction::Both(Merge::Sum),
        Direction::Both(Merge::Mul),
        Direction::Both(Merge::Average),
    ][draw(7)];
    s.dropout = rate(&mut draw);
    s.input_dropout = rate(&mut draw);
    s.zoneout = [rate(&mut draw), rate(&mut draw)];
    (s.residual, s.skip) = (draw(3) == 0, draw(4) == 0);
    s.learned_initial = draw(4) == 0;
    let scan = kind.is_scan();
    if !scan {
        s.recurrent_dropout = rate(&mut draw);
        s.per_gate = draw(2) == 0;
        s.weight_drop = rate(&mut draw);
        let heads: Vec<usize> = (1..=hidden).filter(|h| hidden.is_multiple_of(*h)).collect();
        s.heads = if draw(2) == 0 { heads[draw(heads.len())] } else { 1 };
    }
    let lstm = kind == CellKind::Lstm;
    if lstm {
        s.cell.peepholes = draw(3) == 0;
        s.cell.coupled = draw(3) == 0;
        s.cell.cell_clip = (draw(4) == 0).then_some(0.9);
        s.cell.projection = (draw(3) == 0).then_some(s.heads * (1 + hidden / s.heads / 2));
    }
    let classic = CellKind::CLASSIC.contains(&kind);
    if draw(3) == 0 {
        s.cell.layer_norm = Some(1e-2);
    } else if draw(4) == 0 {
        s.batch_norm = Some(1e-2);
    }
    if (classic || kind == CellKind::GruResetBefore) && draw(4) == 0 {
        s.cell.clip = Some(1.1);
    }
    if draw(6) == 0 {
        s.convolution = Some(Convolution { map: [1 + draw(3), 1 + draw(4)], kernel: [3, 1] });
        case.batch = 1 + case.batch % 4;
    }
    case.given = !case.stack.learned_initial && draw(2) == 0;
    (case.lengths, case.mask, case.resets) = (draw(3) == 0, draw(4) == 0, draw(4) == 0);
    case.padding = [Padding::Value(0.0), Padding::Value(1.5), Padding::Repeat][draw(3)];
    case.inference = draw(6) == 0;
    let gates = match kind {
        CellKind::RnnTanh | CellKind::RnnRelu => [1, 1],
        CellKind::Lstm => [3, 5],
        CellKind::Gru | CellKind::GruResetBefore => [2, 3],
        _ => [0, 0],
    };
    if gates[0] > 0 && draw(4) == 0 {
        // Those without jumps or kinks, where float32 may be on the other side; and bounded, as states
        // that grow without end leave of a saturated slope, 1 − y², nothing but rounding.
        let smooth = [1, 2, 6, 9].map(|at| ACTIVATIONS[at]);
        let chosen = (0..gates[draw(2)]).map(|_| smooth[draw(4)]).collect();
        case.stack.cell.activations = Some(chosen);
    }
    // Of rows that are all the same a batch norm leaves what rounding does.
    let varied = case.stack.batch_norm.is_none();
    case.table = (draw(4) == 0 && varied).then(|| 2 + draw(30));
    if case.stack.batch_norm.is_none() && draw(8) == 0 {
        case.stack.memory = Memory::Segments(1);
        if scan {
            (case.time, case.batch) = (130 + case.time, 3);
        } else {
            case.batch = 256usize.div_ceil(case.stack.convolution.map_or(1, |c| c.places()));
        }
    }
    case
}

/// The same options in another shape, drawn by seed and number: T, B, I and, where nothing divides or cuts the units, H
/// within the multiple of 16 for which kernels are compiled. Number 0 is the case itself.
pub fn random_shape(case: &RecurrentCase, seed: u64, number: u64) -> RecurrentCase {
    let mut case = case.clone();
    if number == 0 {
        return case;
    }
    let mut generator = Initializer::new(seed ^ number << 32);
    let mut draw = |n: usize| ((generator.uniform(1, 0.5)[0] + 0.5) * n as f32) as usize % n.max(1);
    let stack = &mut case.stack;
    stack.input = 1 + draw(40);
    if stack.heads == 1 && stack.convolution.is_none() && stack.cell.projection.is_none() {
        // One or two units are left out as in the random cases.
        let last = stack.hidden.next_multiple_of(16);
        let first = (last - 15).max(3);
        stack.hidden = first + draw(last + 1 - first);
    }
    // Segments need the rows, or the steps, that they have.
    if stack.memory == Memory::Keep {
        (case.time, case.batch) = (1 + draw(16), 1 + draw(24));
        if stack.convolution.is_some() {
            case.batch = 1 + case.batch % 4;
        }
        // As many rows as `data` needs.
        if case.stack.batch_norm.is_some() {
            case.time = case.time.max(3);
        }
    }
    case
}
