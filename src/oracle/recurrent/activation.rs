//! The activations of ONNX's recurrent operators.

use super::super::tape::Node;

/// A function of a pre-activation a (ONNX, operators RNN, GRU and LSTM, "activations"), with
/// their α and β.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // α and β, in the equations
pub enum Activation {
    /// max(0, a).
    Relu,
    /// tanh a.
    Tanh,
    /// 1/(1 + e^(−a)).
    Sigmoid,
    /// αa + β.
    Affine { alpha: f64, beta: f64 },
    /// a < 0 ? αa : a.
    LeakyRelu { alpha: f64 },
    /// a > α ? a : 0.
    ThresholdedRelu { alpha: f64 },
    /// α·tanh(βa).
    ScaledTanh { alpha: f64, beta: f64 },
    /// max(0, min(1, αa + β)).
    HardSigmoid { alpha: f64, beta: f64 },
    /// a < 0 ? α(eᵃ − 1) : a.
    Elu { alpha: f64 },
    /// a/(1 + |a|).
    Softsign,
    /// log(1 + eᵃ).
    Softplus,
    /// a.
    Identity,
}

impl Activation {
    /// Its value for each element of `a`. At a border the slope is 0 where one side is flat (relu,
    /// hard sigmoid, thresholded relu), else that of a ≥ 0.
    pub fn of(self, a: Node<'_>) -> Node<'_> {
        let step = |on: bool| if on { 1.0 } else { 0.0 };
        match self {
            Activation::Relu => {
                let relu = |a: f64| if a < 0.0 { 0.0 } else { a };
                a.map_with_borders(&[0.0], relu, move |a, _| step(a > 0.0))
            }
            Activation::Tanh => a.tanh(),
            Activation::Sigmoid => a.sigmoid(),
            Activation::Affine { alpha, beta } => {
                a.map(move |a| alpha * a + beta, move |_, _| alpha)
            }
            Activation::LeakyRelu { alpha } => a.map_with_borders(
                &[0.0],
                move |a| if a < 0.0 { alpha * a } else { a },
                move |a, _| if a < 0.0 { alpha } else { 1.0 },
            ),
            Activation::ThresholdedRelu { alpha } => a.map_with_borders(
                &[alpha],
                move |a| if a <= alpha { 0.0 } else { a },
                move |a, _| step(a > alpha),
            ),
            Activation::ScaledTanh { alpha, beta } => a.map(
                move |a| alpha * (beta * a).tanh(),
                move |a, _| alpha * beta * (1.0 - (beta * a).tanh().powi(2)),
            ),
            Activation::HardSigmoid { alpha, beta } => {
                let line = move |a: f64| alpha * a + beta;
                let borders = [-beta / alpha, (1.0 - beta) / alpha];
                a.map_with_borders(
                    if alpha == 0.0 { &[] } else { &borders },
                    move |a| line(a).clamp(0.0, 1.0),
                    move |a, _| if line(a) > 0.0 && line(a) < 1.0 { alpha } else { 0.0 },
                )
            }
            Activation::Elu { alpha } => a.map_with_borders(
                &[0.0],
                move |a| if a < 0.0 { alpha * a.exp_m1() } else { a },
                move |a, _| if a < 0.0 { alpha * a.exp() } else { 1.0 },
            ),
            // Its slope 1/(1 + |a|)² has a corner at 0, which differences over it would see.
            Activation::Softsign => a.map_with_borders(
                &[0.0],
                |a| a / (1.0 + a.abs()),
                |a, _| 1.0 / (1.0 + a.abs()).powi(2),
            ),
            // max(a, 0) + log(1 + e^(−|a|)), which nothing overflows; its slope is σ(a).
            Activation::Softplus => {
                a.map(|a| a.max(0.0) + (-a.abs()).exp().ln_1p(), |a, _| 1.0 / (1.0 + (-a).exp()))
            }
            Activation::Identity => a,
        }
    }
}
