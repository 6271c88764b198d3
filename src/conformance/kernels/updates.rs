//! Norms, losses and parameter updates, which are f32 in every precision.

use super::{Case, Data, SHORT};
use crate::conformance::harness::wide;
use crate::error::Result;
use crate::kernel::{
    Adam, AdamParams, Average, ClipScale, ClipValue, Control, Op, RecordLoss, RecordLossParams,
    RmsProp, RmsPropParams, Sgd, SumSquares, View,
};
use crate::optim::Optimizer;
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
    // Another loss of the same step joins the first.
    let op = RecordLoss { accumulate: true, ..RecordLoss::new(n, 5) };
    let params = RecordLossParams { scale: 2.0 * op.params.scale, ..op.params };
    loss.recording.launch(RecordLoss { params, ..op }, &[losses, ring, control])?;
    // Step 9 is entry 8 mod 5.
    loss.want.push(("ring", vec![0.0, 0.0, 0.0, 3.0 * mean, 0.0]));
    Ok([norm, loss])
}

/// An update kernel with its options.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Sgd { nesterov: bool },
    Adam { decoupled: bool },
    RmsProp { centered: bool, momentum: bool },
}

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const ALPHA: f32 = 0.97;
const EPSILON: f32 = 1e-8;

impl Kind {
    pub(super) const ALL: [Kind; 8] = [
        Kind::Sgd { nesterov: false },
        Kind::Adam { decoupled: false },
        Kind::Adam { decoupled: true },
        Kind::Sgd { nesterov: true },
        Kind::RmsProp { centered: false, momentum: false },
        Kind::RmsProp { centered: false, momentum: true },
        Kind::RmsProp { centered: true, momentum: false },
        Kind::RmsProp { centered: true, momentum: true },
    ];

    /// Those whose numbers come from a generator that other kernels share.
    pub(super) const FIRST: usize = 3;

    pub(super) fn kernel(self) -> &'static str {
        match self {
            Kind::Sgd { .. } => "sgd",
            Kind::Adam { .. } => "adam",
            Kind::RmsProp { .. } => "rms_prop",
        }
    }

    /// Its options, each behind a space.
    pub(super) fn options(self) -> String {
        let flags = match self {
            Kind::Sgd { nesterov } => vec![("nesterov", nesterov)],
            Kind::Adam { decoupled } => vec![("decoupled", decoupled)],
            Kind::RmsProp { centered, momentum } => {
                vec![("centered", centered), ("momentum", momentum)]
            }
        };
        flags.into_iter().filter(|f| f.1).map(|f| format!(" {}", f.0)).collect()
    }

    /// The β of the loss scale's corrections.
    pub(super) fn betas(self) -> (f32, f32) {
        match self {
            Kind::Adam { .. } => (BETA_1, BETA_2),
            _ => (0.0, 0.0),
        }
    }

    /// It divides by roots: where a gradient and a coupled decay cancel, rounding errors by one another.
    pub(super) fn divides(self) -> bool {
        !matches!(self, Kind::Sgd { .. } | Kind::Adam { decoupled: true })
    }

    pub(super) fn is_nesterov(self) -> bool {
        matches!(self, Kind::Sgd { nesterov: true })
    }

    /// The oracle's parameters after a step with each of these gradients.
    pub(super) fn steps(
        self,
        w: &mut [f64],
        gradients: &[Vec<f64>],
        rate: f32,
        decay: f32,
    ) -> Result<()> {
        let [rate, decay, epsilon, alpha] = [rate, decay, EPSILON, ALPHA].map(f64::from);
        let betas = (f64::from(BETA_1), f64::from(BETA_2));
        match self {
            Kind::Sgd { nesterov } => {
                let mut sgd = oracle::Sgd::new(rate, betas.0, decay);
                sgd.nesterov = nesterov;
                gradients.iter().try_for_each(|g| sgd.step(w, g))
            }
            Kind::Adam { decoupled: false } => {
                let mut adam = oracle::Adam::new(rate, betas, epsilon, decay);
                gradients.iter().try_for_each(|g| adam.step(w, g))
            }
            Kind::Adam { decoupled: true } => {
                let mut adam = oracle::AdamW::new(rate, betas, epsilon, decay);
                gradients.iter().try_for_each(|g| adam.step(w, g))
            }
            Kind::RmsProp { centered, momentum } => {
                let mut rms = oracle::RmsProp::new(rate, alpha, epsilon, decay);
                (rms.centered, rms.momentum) = (centered, if momentum { betas.0 } else { 0.0 });
                gradients.iter().try_for_each(|g| rms.step(w, g))
            }
        }
    }

    /// The states that it keeps of n parameters.
    pub(super) fn states(self, case: &mut Case, n: usize) -> Result<Vec<View>> {
        let names: &[&str] = match self {
            Kind::Sgd { .. } => &["first"],
            Kind::Adam { .. } => &["first", "second"],
            Kind::RmsProp { centered, momentum } => {
                &["first", "second", "third"][..1 + usize::from(centered) + usize::from(momentum)]
            }
        };
        names.iter().map(|name| case.state(name, vec![0.0; n])).collect()
    }

    /// The launch; `factor` times the learning rate.
    pub(super) fn op(self, gradient: View, decay: f32, factor: f32, scaled: bool) -> Op {
        let (count, gradient_offset) = (gradient.len as u32, gradient.offset as u32);
        let (weight_decay, rate, epsilon, clip) = (decay, factor, EPSILON, true);
        match self {
            Kind::Sgd { nesterov } => {
                let mut op = Sgd { nesterov, scaled, ..Sgd::new(gradient, BETA_1, decay, clip) };
                op.params.rate = factor;
                op.into()
            }
            Kind::Adam { decoupled } => {
                let params = AdamParams {
                    count,
                    gradient_offset,
                    beta_1: BETA_1,
                    beta_2: BETA_2,
                    rest_1: 1.0 - BETA_1,
                    rest_2: 1.0 - BETA_2,
                    epsilon,
                    weight_decay,
                    rate,
                };
                Adam { params, decoupled, clip, scaled }.into()
            }
            Kind::RmsProp { centered, momentum } => {
                let params = RmsPropParams {
                    count,
                    gradient_offset,
                    alpha: ALPHA,
                    rest: 1.0 - ALPHA,
                    epsilon,
                    momentum: BETA_1,
                    weight_decay,
                    rate,
                };
                RmsProp { params, centered, momentum, clip, scaled }.into()
            }
        }
    }
}

/// Two steps of an update on the same gradient, so that the moments matter, clipped, and at half of the learning
/// rate.
pub(super) fn optimizer(g: &mut Data, kind: Kind, n: usize) -> Result<Case> {
    let (rate, decay, clip) = (0.06f32, 0.1f32, 0.5f32);
    let mut case = Case::new(g, kind.kernel(), format!("N{n}{}", kind.options()), SHORT);
    let (w, mut gradient) = (g.uniform(n, 1.0), g.uniform(n, 1.0));
    for (gradient, w) in gradient.iter_mut().zip(&w) {
        if (*gradient * clip + decay * w).abs() < 1e-3 {
            *gradient = 0.5f32.copysign(*w);
        }
    }
    let clipped: Vec<f64> = wide(&gradient).iter().map(|x| x * f64::from(clip)).collect();
    let mut want = wide(&w);
    kind.steps(&mut want, &[clipped.clone(), clipped], rate / 2.0, decay)?;
    case.want.push(("w", want));
    let w = case.state("w", w)?;
    let gradient = case.input("gradient", gradient)?;
    let states = kind.states(&mut case, n)?;
    let clip = case.input("clip", vec![clip, 1.0])?;
    let optimizer = Optimizer::adam();
    // The corrections of step 1 and then of step 2 need two control buffers.
    let first = case.recording.control();
    case.control = optimizer.control(1, 0, rate);
    let second = control_words(&mut case, "later", optimizer.control(2, 0, rate))?;
    for control in [first, second] {
        let mut buffers = vec![w, gradient];
        buffers.extend(&states);
        buffers.extend([control, clip]);
        case.recording.launch(kind.op(gradient, decay, 0.5, false), &buffers)?;
    }
    Ok(case)
}

/// Control words besides those of the run.
fn control_words(case: &mut Case, name: &'static str, control: Control) -> Result<View> {
    case.ids(name, bytemuck::cast_slice(std::slice::from_ref(&control)).to_vec())
}

/// An average of four weights that begins anew, takes 1/2 and 1/3 to be the mean of three, and moves by 0.1.
pub(super) fn average(g: &mut Data, n: usize) -> Result<Case> {
    let mut case = Case::new(g, "average", format!("N{n}"), SHORT);
    let weights = [0, 1, 2, 3].map(|_| g.uniform(n, 1.0));
    let wanted = (0..n).map(|i| {
        let w = |step: usize| f64::from(weights[step][i]);
        let mean = (w(0) + w(1) + w(2)) / 3.0;
        mean + f64::from(0.1f32) * (w(3) - mean)
    });
    case.want.push(("average", wanted.collect()));
    // What stood there before counts for nothing.
    let average = case.state("average", vec![1e30; n])?;
    let shares = [1.0, 0.5, 1.0 / 3.0, 0.1];
    let control = |share| Control { average_share: share, ..Control::new(1, 0) };
    case.control = control(shares[0]);
    let mut controls = vec![case.recording.control()];
    for (name, share) in ["second", "third", "fourth"].into_iter().zip(&shares[1..]) {
        controls.push(control_words(&mut case, name, control(*share))?);
    }
    for (step, (w, control)) in weights.into_iter().zip(controls).enumerate() {
        let w = case.input(&format!("w{step}"), w)?;
        case.recording.launch(Average::new(n), &[w, average, control])?;
    }
    Ok(case)
}

/// Gradients clipped by their values between others, under a loss scale or not. With a scale infinities stay.
pub(super) fn clip_value(g: &mut Data, n: usize, scaled: bool) -> Result<Case> {
    let name = format!("N{n}{}", if scaled { " scaled" } else { "" });
    let mut case = Case::new(g, "clip_value", name, 0.0);
    let scale = if scaled { 1024.0 } else { 1.0 };
    let bound = 0.625f32;
    let mut x: Vec<f32> = g.uniform(n + 2, 1.0).into_iter().map(|x| x * scale).collect();
    x[n / 2] = 1e30;
    let mut clipped = vec![wide(&x[1..=n])];
    oracle::clip_value(&mut clipped, f64::from(bound * scale));
    let mut want = wide(&x);
    want[1..=n].copy_from_slice(&clipped[0]);
    case.want.push(("x", want));
    let view = case.state("x", x)?;
    let mut buffers = vec![view];
    if scaled {
        // 2^(16 − 6).
        buffers.push(case.wide_state("loss_scale", vec![-6.0, 0.0, 0.0, 0.0, 0.0])?);
    }
    let op = ClipValue::new(view.part(1, n), bound);
    case.recording.launch(ClipValue { scaled, ..op }, &buffers)?;
    Ok(case)
}
