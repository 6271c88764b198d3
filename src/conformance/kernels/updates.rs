//! Norms, losses and parameter updates, which are f32 in every precision.

use super::{Case, Data, SHORT};
use crate::conformance::harness::wide;
use crate::error::Result;
use crate::kernel::{Adam, AdamParams, ClipScale, RecordLoss, Sgd, SumSquares};
use crate::oracle;

pub(super) fn reductions(g: &mut Data, n: usize) -> Result<[Case; 2]> {
    let x = g.uniform(n, 1.0);
    let total: f64 = wide(&x).iter().map(|x| x * x).sum();
    let max_norm = 0.25 + (n % 2) as f64 * 1e4;
    let mut norm = Case::new(g, "sum_squares+clip_scale", format!("N{n}"), SHORT);
    let mut gradients = vec![wide(&x)];
    let before = gradients[0][0];
    oracle::clip_norm(&mut gradients, max_norm);
    let factor = gradients[0][0] / before;
    let input = norm.input("input", x.clone())?;
    let count = SumSquares::partials(n);
    let partials = norm.output("partials", count)?;
    let clip = norm.output("clip", ClipScale::words(false))?;
    norm.recording.launch(SumSquares::new(input, 0), &[input, partials])?;
    norm.recording.launch(ClipScale::new(count, max_norm as f32), &[partials, clip])?;
    norm.want.push(("clip", vec![factor, total.sqrt()]));

    let mut loss = Case::new(g, "record_loss", format!("N{n}"), SHORT);
    let x: Vec<f32> = x.iter().map(|x| x.abs()).collect();
    let mean = wide(&x).iter().sum::<f64>() / n as f64;
    let losses = loss.input("losses", x)?;
    let ring = loss.output("ring", 5)?;
    let control = loss.recording.control();
    loss.control.step = 9;
    loss.recording.launch(RecordLoss::new(n, 5), &[losses, ring, control])?;
    // Step 9 is entry 8 mod 5.
    loss.want.push(("ring", vec![0.0, 0.0, 0.0, mean, 0.0]));
    Ok([norm, loss])
}

pub(super) fn optimizers(g: &mut Data, n: usize) -> Result<Vec<Case>> {
    let (rate, decay, clip) = (0.03f32, 0.1f32, 0.5f32);
    let (beta_1, beta_2, epsilon) = (0.9f32, 0.999f32, 1e-8f32);
    let mut cases = Vec::new();
    for (kernel, kind) in [("sgd", 0), ("adam", 1), ("adam", 2)] {
        let name = format!("N{n}{}", if kind == 2 { " decoupled" } else { "" });
        let mut case = Case::new(g, kernel, name, SHORT);
        let (w, mut gradient) = (g.uniform(n, 1.0), g.uniform(n, 1.0));
        // Where the gradient and the decay cancel, Adam would divide rounding errors by one another.
        for (gradient, w) in gradient.iter_mut().zip(&w) {
            if (*gradient * clip + decay * w).abs() < 1e-3 {
                *gradient = 0.5f32.copysign(*w);
            }
        }
        let clipped: Vec<f64> = wide(&gradient).iter().map(|x| x * f64::from(clip)).collect();
        let mut want = wide(&w);
        let [lr, wd] = [rate, decay].map(f64::from);
        let betas = (f64::from(beta_1), f64::from(beta_2));
        // Two steps on the same gradient, so that the moments matter.
        let step = |p: &mut [f64]| -> Result<()> {
            match kind {
                0 => {
                    let mut sgd = oracle::Sgd::new(lr, betas.0, wd);
                    sgd.step(p, &clipped)?;
                    sgd.step(p, &clipped)
                }
                1 => {
                    let mut adam = oracle::Adam::new(lr, betas, f64::from(epsilon), wd);
                    adam.step(p, &clipped)?;
                    adam.step(p, &clipped)
                }
                _ => {
                    let mut adam = oracle::AdamW::new(lr, betas, f64::from(epsilon), wd);
                    adam.step(p, &clipped)?;
                    adam.step(p, &clipped)
                }
            }
        };
        step(&mut want)?;
        case.want.push(("w", want));
        let w = case.state("w", w)?;
        let gradient = case.input("gradient", gradient)?;
        let first = case.state("first", vec![0.0; n])?;
        let clip = case.input("clip", vec![clip, 1.0])?;
        let second = if kind > 0 { Some(case.state("second", vec![0.0; n])?) } else { None };
        let control = case.recording.control();
        let optimizer = crate::optim::Optimizer::adam();
        // The corrections of step 1 and then of step 2 need two control buffers.
        case.control = optimizer.control(1, 0, rate);
        let later = optimizer.control(2, 0, rate);
        let words: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&later));
        let later = case.ids("later", words.to_vec())?;
        for control in [control, later] {
            match second {
                None => {
                    let op = Sgd::new(gradient, beta_1, decay, true);
                    case.recording.launch(op, &[w, gradient, first, control, clip])?;
                }
                Some(second) => {
                    let params = AdamParams {
                        count: n as u32,
                        gradient_offset: 0,
                        beta_1,
                        beta_2,
                        rest_1: 1.0 - beta_1,
                        rest_2: 1.0 - beta_2,
                        epsilon,
                        weight_decay: decay,
                    };
                    let op = Adam { params, decoupled: kind == 2, clip: true, scaled: false };
                    case.recording.launch(op, &[w, gradient, first, second, control, clip])?;
                }
            }
        }
        cases.push(case);
    }
    Ok(cases)
}
