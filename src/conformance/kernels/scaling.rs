//! Products with an activation and its slope; dynamic loss scaling.

use super::updates::Kind;
use super::{Case, Data, SHORT, matrix, tokens};
use crate::conformance::harness::wide;
use crate::conformance::recurrent::oracle_activation;
use crate::error::Result;
use crate::kernel::{
    Activation, ClipScale, ClipValue, Combine, CrossEntropy, LossScale, Matmul, Operand, Rows,
    Slope, SumSquares, With,
};
use crate::optim::Optimizer;
use crate::oracle;
use crate::oracle::tape::Tape;
use ndarray::Array2;

/// y = f(a·b + bias), and a gradient of y through f.
pub(super) fn activated(g: &mut Data, activation: Activation) -> Result<Case> {
    let [m, n, k] = [33, 18, 7];
    let mut case = Case::new(g, "slope", activation.name(), SHORT);
    let (a, b) = (g.uniform(m * k, 1.0), g.uniform(k * n, 1.0));
    let (bias, gradient) = (g.uniform(n, 1.0), g.uniform(m * n, 1.0));
    let sums = matrix(&a, m, k)?.dot(&matrix(&b, k, n)?) + matrix(&bias, 1, n)?;
    let tape = Tape::new();
    let sums = tape.input(sums);
    let y = oracle_activation(activation).of(sums);
    let slopes = tape.backward(&[(y, matrix(&gradient, m, n)?)])?.of(sums);
    case.want.push(("y", y.value().iter().copied().collect()));
    case.want.push(("gradient", slopes.into_iter().collect()));
    let (a, b) = (case.input("a", a)?, case.input("b", b)?);
    let (bias, y) = (case.wide_input("bias", bias)?, case.output("y", m * n)?);
    let gradient = case.state("gradient", gradient)?;
    let operands = [Operand::new(a, k), Operand::new(b, n), Operand::new(y, n)];
    let [left, right, result] = operands;
    let op = Matmul::new([m, n, k], left, right, result).with_bias(bias);
    case.recording.launch(op.with_activation(Some(activation)), &[a, b, y, bias])?;
    case.recording.launch(Slope::new(activation, y, gradient), &[y, gradient])?;
    Ok(case)
}

/// Three steps under a loss scale: of finite gradients, of infinite ones, and of finite ones, clipped by value
/// and norm. The second changes nothing but the scale, and the third is the optimizer's second. The gradients
/// are sums over three micro-batches.
pub(super) fn scaled_updates(g: &mut Data, kind: Kind) -> Result<Case> {
    const N: usize = 5000;
    const MICRO_BATCHES: usize = 3;
    let mut case = Case::new(g, kind.kernel(), format!("scaled{}", kind.options()), SHORT);
    let (rate, max_value) = (0.03f32, 0.75f32);
    // Where the norm is clipped, what it was before has no effect: one is not.
    let max_norm = if kind.is_nesterov() { 1e4f32 } else { 0.5 };
    let decay = if kind.divides() { 0.0 } else { 0.1f32 };
    let w = g.uniform(N, 1.0);
    // Gradients as they come under the scales of the first and of the third step.
    let plain = [g.uniform(N, 1.0), g.uniform(N, 1.0)];
    let mut gradients = Vec::new();
    for (plain, scale) in plain.iter().zip([65_536.0f32, 32_768.0]) {
        let sums = plain.iter().map(|x| x * scale * MICRO_BATCHES as f32);
        gradients.push(sums.collect::<Vec<_>>());
    }
    // The sum of squares is beyond f32, before the elements are clipped or after it, as f16's overflow brings it.
    let mut infinite = vec![1.0; N];
    infinite[N / 2] = f32::INFINITY;
    gradients.insert(1, infinite);

    let mut want = wide(&w);
    let clipped = plain.iter().map(|plain| {
        let mut clipped = vec![wide(plain)];
        oracle::clip_value(&mut clipped, f64::from(max_value));
        oracle::clip_norm(&mut clipped, f64::from(max_norm));
        clipped.remove(0)
    });
    kind.steps(&mut want, &clipped.collect::<Vec<_>>(), rate, decay)?;
    case.want.push(("w", want));
    let betas = kind.betas();
    let rests = [betas.0, betas.1].map(|b| 1.0 - f64::from(b).powi(2));
    case.want.push(("loss_scale", vec![-1.0, 1.0, 1.0, rests[0], rests[1]]));

    let w = case.state("w", w)?;
    let states = kind.states(&mut case, N)?;
    let scale = case.state("loss_scale", vec![0.0; LossScale::WORDS])?;
    let count = SumSquares::partials(N);
    let partials = case.output("partials", count)?;
    let clip = case.output("clip", ClipScale::words(true))?;
    let control = case.recording.control();
    // The step's own number says nothing of how many updates there were.
    case.control = Optimizer::adam().control(77, 0, rate);
    for (number, values) in gradients.into_iter().enumerate() {
        let infinite = values.iter().position(|x| x.is_infinite());
        // The host writes no infinities.
        let values = values.into_iter().map(|x| x.clamp(-1e30, 1e30)).collect();
        let gradient = case.state(&format!("gradient{number}"), values)?;
        if let Some(at) = infinite {
            let square = |from| {
                Combine::copy([1, 1], Rows::new(from, 1), Rows::new(gradient.part(at, 1), 1))
            };
            let large = case.input("large", vec![1e30])?;
            let op = square(large).and(With::Product, Rows::new(large, 1)).scaled(1e30);
            case.recording.launch(op, &[large, gradient, large])?;
        }
        let op = ClipValue::new(gradient, max_value * MICRO_BATCHES as f32);
        case.recording.launch(ClipValue { scaled: true, ..op }, &[gradient, scale])?;
        case.recording.launch(SumSquares::new(gradient, 0), &[gradient, partials])?;
        let op = ClipScale::new(count, max_norm).of_micro_batches(MICRO_BATCHES);
        case.recording.launch(op.under_scale(betas), &[partials, clip, scale])?;
        let mut buffers = vec![w, gradient];
        buffers.extend(&states);
        buffers.extend([control, clip]);
        case.recording.launch(kind.op(gradient, decay, 1.0, true), &buffers)?;
    }
    Ok(case)
}

/// The gradient of a loss under a scale that is not the first.
pub(super) fn scaled_loss(g: &mut Data) -> Result<Case> {
    let (n, v) = (33, 65);
    let mut case = Case::new(g, "cross_entropy", "scaled", SHORT);
    let (logits, targets) = (g.uniform(n * v, 4.0), tokens(n, v));
    let plain: Vec<usize> = targets.iter().map(|&i| i as usize).collect();
    let (_, slopes): (f64, Array2<f64>) =
        oracle::softmax_cross_entropy(&matrix(&logits, n, v)?, &plain)?;
    case.want.push(("d_logits", slopes.iter().map(|x| x * 1024.0).collect()));
    let (logits, targets) = (case.input("logits", logits)?, case.ids("targets", targets)?);
    let (losses, gradient) = (case.wide_output("losses", n)?, case.output("d_logits", n * v)?);
    // 2^(16 − 6).
    let scale = case.wide_state("loss_scale", vec![-6.0, 3.0, 6.0, 0.0, 0.0])?;
    let op = CrossEntropy { scaled: true, ..CrossEntropy::new(v, logits, targets, true) };
    case.recording.launch(op, &[logits, targets, losses, gradient, scale])?;
    Ok(case)
}
