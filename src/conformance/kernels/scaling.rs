//! Products with an activation and its slope; dynamic loss scaling.

use super::{Case, Data, SHORT, matrix, tokens};
use crate::conformance::harness::wide;
use crate::conformance::recurrent::oracle_activation;
use crate::error::Result;
use crate::kernel::{
    Activation, Adam, AdamParams, ClipScale, CrossEntropy, LossScale, Matmul, Operand, Sgd, Slope,
    SumSquares,
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

/// Three steps under a loss scale: of finite gradients, of infinite ones, and of finite ones. The second
/// changes nothing but the scale, and the third is the optimizer's second.
pub(super) fn scaled_updates(g: &mut Data, decoupled: bool, descent: bool) -> Result<Case> {
    const N: usize = 5000;
    let kernel = if descent { "sgd" } else { "adam" };
    let mut case = Case::new(g, kernel, format!("scaled {decoupled}"), SHORT);
    let (rate, max_norm) = (0.03f32, 0.5f32);
    // Where the gradient and a coupled decay cancel, Adam would divide rounding errors by one another.
    let decay = if descent || decoupled { 0.1f32 } else { 0.0 };
    let (beta_1, beta_2, epsilon) = (0.9f32, 0.999f32, 1e-8f32);
    let w = g.uniform(N, 1.0);
    // Gradients as they come under the scales of the first and of the third step.
    let plain = [g.uniform(N, 1.0), g.uniform(N, 1.0)];
    let mut gradients = Vec::new();
    for (plain, scale) in plain.iter().zip([65_536.0f32, 32_768.0]) {
        gradients.push(plain.iter().map(|x| x * scale).collect::<Vec<_>>());
    }
    // One beyond f32 as f16's overflow brings it.
    let mut infinite = vec![1.0; N];
    infinite[N / 2] = f32::MAX;
    gradients.insert(1, infinite);

    let mut want = wide(&w);
    let [lr, wd] = [rate, decay].map(f64::from);
    let betas = (f64::from(beta_1), f64::from(beta_2));
    let mut sgd = oracle::Sgd::new(lr, betas.0, wd);
    let mut adam = oracle::Adam::new(lr, betas, f64::from(epsilon), wd);
    let mut adamw = oracle::AdamW::new(lr, betas, f64::from(epsilon), wd);
    for plain in &plain {
        let mut clipped = vec![wide(plain)];
        oracle::clip_norm(&mut clipped, f64::from(max_norm));
        match (descent, decoupled) {
            (true, _) => sgd.step(&mut want, &clipped[0])?,
            (false, false) => adam.step(&mut want, &clipped[0])?,
            (false, true) => adamw.step(&mut want, &clipped[0])?,
        }
    }
    case.want.push(("w", want));
    let rests = if descent { [1.0; 2] } else { [betas.0, betas.1].map(|b| 1.0 - b * b) };
    case.want.push(("loss_scale", vec![-1.0, 1.0, 1.0, rests[0], rests[1]]));

    let w = case.state("w", w)?;
    let moments = [case.state("first", vec![0.0; N])?, case.state("second", vec![0.0; N])?];
    let scale = case.state("loss_scale", vec![0.0; LossScale::WORDS])?;
    let count = SumSquares::partials(N);
    let partials = case.output("partials", count)?;
    let clip = case.output("clip", ClipScale::words(true))?;
    let control = case.recording.control();
    // The step's own number says nothing of how many updates there were.
    case.control = Optimizer::adam().control(77, 0, rate);
    for (number, gradient) in gradients.into_iter().enumerate() {
        let gradient = case.input(&format!("gradient{number}"), gradient)?;
        case.recording.launch(SumSquares::new(gradient, 0), &[gradient, partials])?;
        let betas = if descent { (0.0, 0.0) } else { (beta_1, beta_2) };
        let op = ClipScale::new(count, max_norm).under_scale(betas);
        case.recording.launch(op, &[partials, clip, scale])?;
        let (clipped, scaled) = (true, true);
        if descent {
            let op = Sgd { scaled, ..Sgd::new(gradient, beta_1, decay, clipped) };
            case.recording.launch(op, &[w, gradient, moments[0], control, clip])?;
            continue;
        }
        let params = AdamParams {
            count: N as u32,
            gradient_offset: 0,
            beta_1,
            beta_2,
            rest_1: 1.0 - beta_1,
            rest_2: 1.0 - beta_2,
            epsilon,
            weight_decay: decay,
        };
        let op = Adam { params, decoupled, clip: clipped, scaled };
        let [first, second] = moments;
        case.recording.launch(op, &[w, gradient, first, second, control, clip])?;
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
