//! Every cell and every option, alone and together: gradients against central differences.

use recurra::oracle::recurrent::{Activation, Cell, Convolution, Merge, Options, Padding};
use std::sync::Arc;

use crate::common::random::Generator;
use crate::problem::{Case, Odd, Variational, both, check_gradients, plain_stack, spec};

const ALL: usize = usize::MAX;

const ACTIVATIONS: [Activation; 12] = [
    Activation::Relu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Affine { alpha: 0.7, beta: 0.1 },
    Activation::LeakyRelu { alpha: 0.3 },
    Activation::ThresholdedRelu { alpha: 0.2 },
    Activation::ScaledTanh { alpha: 1.3, beta: 0.6 },
    Activation::HardSigmoid { alpha: 0.3, beta: 0.45 },
    Activation::Elu { alpha: 0.8 },
    Activation::Softsign,
    Activation::Softplus,
    Activation::Identity,
];

const LINE: Convolution = Convolution { height: 1, width: 5, kernel_height: 1, kernel_width: 3 };
const PLANE: Convolution = Convolution { height: 3, width: 2, kernel_height: 3, kernel_width: 3 };

pub fn cells() -> Vec<Cell> {
    vec![
        Cell::Rnn,
        Cell::Lstm,
        Cell::Gru,
        Cell::GruResetBefore,
        Cell::SLstm,
        Cell::MinGru,
        Cell::MinLstm,
        Cell::Custom(Arc::new(Odd)),
    ]
}

fn check_options(cell: Cell, seed: u64, options: Options) {
    check_gradients(&Case::one(spec(cell, 4, options)), seed, ALL);
}

#[test]
fn every_cell_and_its_direction() {
    for (k, cell) in cells().into_iter().enumerate() {
        for reverse in [false, true] {
            let options = Options { reverse, ..Options::default() };
            let mut case = Case::one(spec(cell.clone(), 5, options));
            check_gradients(&case, k as u64, ALL);
            case.zero_initial = true;
            case.sizes = [5, 3, 2];
            check_gradients(&case, 20 + k as u64, ALL);
        }
    }
}

#[test]
fn every_activation() {
    for (k, f) in ACTIVATIONS.into_iter().enumerate() {
        let options = |activations: &[Activation]| Options {
            activations: Some(activations.to_vec()),
            ..Options::default()
        };
        let (g, h) = (ACTIVATIONS[(k + 5) % 12], ACTIVATIONS[(k + 10) % 12]);
        check_options(Cell::Rnn, k as u64, options(&[f]));
        check_options(Cell::Gru, k as u64, options(&[f, g]));
        check_options(Cell::GruResetBefore, k as u64, options(&[f, g]));
        check_options(Cell::Lstm, k as u64, options(&[f, g, h]));
    }
}

#[test]
fn every_option_of_the_lstm_alone() {
    let lstm = |options| check_options(Cell::Lstm, 1, options);
    let usual = Options::default;
    lstm(Options { peepholes: true, ..usual() });
    lstm(Options { coupled: true, ..usual() });
    lstm(Options { coupled: true, peepholes: true, ..usual() });
    lstm(Options { cell_clip: Some(0.6), ..usual() });
    lstm(Options { clip: Some(0.7), peepholes: true, ..usual() });
    lstm(Options { projection: Some(3), ..usual() });
    lstm(Options { projection: Some(6), heads: 2, ..usual() });
    lstm(Options { layer_norm: Some(1e-3), projection: Some(2), peepholes: true, ..usual() });
}

#[test]
fn every_common_option_alone() {
    for (k, cell) in cells().into_iter().enumerate() {
        let usual = Options::default;
        let mut options = vec![Options { batch_norm: Some(1e-2), ..usual() }];
        if !matches!(cell, Cell::Custom(_)) {
            options.push(Options { clip: Some(0.7), ..usual() });
        }
        options.push(Options { layer_norm: Some(1e-3), ..usual() });
        options.push(Options { convolution: Some(LINE), ..usual() });
        options.push(Options { convolution: Some(PLANE), ..usual() });
        if !matches!(cell, Cell::MinGru | Cell::MinLstm) {
            options.push(Options { heads: 2, ..usual() });
            options.push(Options { heads: 4, ..usual() });
            options.push(Options { heads: 2, convolution: Some(PLANE), ..usual() });
        }
        for (o, options) in options.into_iter().enumerate() {
            let most = if options.convolution.is_some() { 30 } else { ALL };
            let case = Case::one(spec(cell.clone(), 4, options));
            check_gradients(&case, (10 * k + o) as u64, most);
        }
    }
}

#[test]
fn every_mask_alone() {
    let changes: [fn(&mut Case); 8] = [
        |case| case.valid = true,
        |case| case.resets = true,
        |case| case.variational = Variational::Shared,
        |case| case.variational = Variational::PerGate,
        |case| case.zoneout = true,
        |case| case.dropout = true,
        |case| case.weight_drop = true,
        |case| {
            case.valid = true;
            case.stack.padding = Padding::Repeat;
        },
    ];
    for (k, cell) in cells().into_iter().enumerate() {
        for (c, change) in changes.iter().enumerate() {
            let options = Options { reverse: c % 2 == 1, ..Options::default() };
            let mut case = Case::one(spec(cell.clone(), 3, options));
            change(&mut case);
            check_gradients(&case, (10 * k + c) as u64, ALL);
        }
    }
}

#[test]
fn two_directions_with_every_merge() {
    for (k, cell) in cells().into_iter().enumerate() {
        for merge in [Merge::Concat, Merge::Sum, Merge::Mul, Merge::Average] {
            let layer = both(spec(cell.clone(), 3, Options::default()));
            let mut case = Case::of(plain_stack(vec![layer.clone(), layer]), [4, 2, 2]);
            case.stack.merge = merge;
            case.valid = k % 2 == 0;
            check_gradients(&case, k as u64, 20);
        }
    }
}

#[test]
fn residual_and_skip_connections() {
    for (k, cell) in cells().into_iter().enumerate() {
        for (residual, skip) in [(true, false), (false, true), (true, true)] {
            let layer = || vec![spec(cell.clone(), 3, Options::default())];
            // With skip the third layer is as wide as what it sees.
            let wide = vec![spec(cell.clone(), 5, Options::default())];
            let layers = vec![layer(), layer(), if skip { wide } else { layer() }];
            let mut case = Case::of(plain_stack(layers), [4, 2, 2]);
            (case.stack.residual, case.stack.skip) = (residual, skip);
            case.dropout = true;
            case.valid = residual;
            check_gradients(&case, k as u64, ALL);
        }
    }
}

#[test]
fn all_masks_and_a_projection_together() {
    for variational in [Variational::Shared, Variational::PerGate] {
        let options = Options { projection: Some(3), peepholes: true, ..Options::default() };
        let layer = both(spec(Cell::Lstm, 5, options));
        let mut case = Case::of(plain_stack(vec![layer.clone(), layer]), [5, 3, 2]);
        case.variational = variational;
        (case.valid, case.resets, case.zoneout) = (true, true, true);
        (case.dropout, case.weight_drop) = (true, true);
        check_gradients(&case, 77, 60);
    }
}

/// Options that `cell` has, each with some probability.
fn random_options(cell: &Cell, width: usize, random: &mut Generator) -> Options {
    let lstm = matches!(cell, Cell::Lstm);
    let recurrent = !matches!(cell, Cell::MinGru | Cell::MinLstm);
    let activations = match cell {
        Cell::Rnn => 1,
        Cell::Lstm => 3,
        Cell::Gru | Cell::GruResetBefore => 2,
        _ => 0,
    };
    let mut options = Options::default();
    if activations > 0 && random.once_in(4) {
        let chosen = (0..activations).map(|_| ACTIVATIONS[random.below(12)]).collect();
        options.activations = Some(chosen);
    }
    options.peepholes = lstm && random.once_in(2);
    options.coupled = lstm && random.once_in(3);
    options.cell_clip = (lstm && random.once_in(3)).then_some(0.8);
    options.projection = (lstm && random.once_in(2)).then_some(width);
    options.clip = (!matches!(cell, Cell::Custom(_)) && random.once_in(3)).then_some(1.1);
    match random.below(4) {
        0 => options.layer_norm = Some(1e-2),
        1 => options.batch_norm = Some(1e-2),
        _ => {}
    }
    if recurrent && random.once_in(3) {
        options.heads = 2;
    }
    options
}

#[test]
fn sixty_random_combinations() {
    for seed in 0..64 {
        let mut random = Generator(9000 + seed);
        let cells = cells();
        let cell = &cells[seed as usize % cells.len()];
        let convolution = seed % 9 == 8;
        let mut layers = vec![];
        for _ in 0..1 + random.below(2) {
            // Every direction is as wide; where h is projected, from two more units.
            let mut options = random_options(cell, 2, &mut random);
            let hidden = if options.projection.is_some() { 4 } else { 2 };
            if convolution {
                options.convolution = Some(LINE);
            }
            options.reverse = random.once_in(2);
            let spec = spec(cell.clone(), hidden, options);
            layers.push(if random.once_in(2) { both(spec) } else { vec![spec] });
        }
        let sizes = [4 + random.below(2), if convolution { 10 } else { 3 }, 2];
        let mut case = Case::of(plain_stack(layers), sizes);
        let merges = [Merge::Concat, Merge::Sum, Merge::Mul, Merge::Average];
        case.stack.merge = merges[random.below(4)];
        case.stack.residual = random.once_in(2);
        case.stack.skip = random.once_in(3);
        case.stack.padding = match random.below(2) {
            0 => Padding::Value(0.3),
            _ => Padding::Repeat,
        };
        let variational = [Variational::No, Variational::Shared, Variational::PerGate];
        case.variational = variational[random.below(3)];
        (case.valid, case.resets) = (random.once_in(2), random.once_in(2));
        (case.zoneout, case.dropout) = (random.once_in(2), random.once_in(3));
        case.weight_drop = random.once_in(3);
        check_gradients(&case, seed, 12);
    }
}

/// Gates far out: gradients are small, but right, and nothing overflows.
#[test]
fn saturated_gates() {
    for cell in cells() {
        let mut case = Case::one(spec(cell, 4, Options::default()));
        case.scale = 4.0;
        check_gradients(&case, 5, 20);
        case.scale = 3000.0;
        let input = case.input(6);
        let result = recurra::oracle::recurrent::run(&case.stack, &input).unwrap();
        assert!(result.output.iter().chain(&result.d_x).all(|v| v.is_finite()), "{case:?}");
    }
}
