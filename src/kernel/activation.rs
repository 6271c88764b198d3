//! The activation functions of the cells: ONNX's, with their parameters.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// An activation function of a gate or a state (ONNX operators RNN, LSTM and GRU, opset 22).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(0, a).
    Relu,
    /// tanh a.
    Tanh,
    /// 1 / (1 + e⁻ᵃ).
    Sigmoid,
    /// α·a + β.
    Affine {
        /// α.
        alpha: f32,
        /// β.
        beta: f32,
    },
    /// a where a ≥ 0, else α·a; α ≥ 0.
    LeakyRelu {
        /// α.
        alpha: f32,
    },
    /// a where a > α, else 0.
    ThresholdedRelu {
        /// α.
        alpha: f32,
    },
    /// α·tanh(β·a); α ≠ 0.
    ScaledTanh {
        /// α.
        alpha: f32,
        /// β.
        beta: f32,
    },
    /// max(0, min(1, α·a + β)).
    HardSigmoid {
        /// α; ONNX's default is 0.2.
        alpha: f32,
        /// β; ONNX's default is 0.5.
        beta: f32,
    },
    /// a where a ≥ 0, else α·(eᵃ − 1); α ≥ 0.
    Elu {
        /// α.
        alpha: f32,
    },
    /// a / (1 + |a|).
    Softsign,
    /// log(1 + eᵃ).
    Softplus,
    /// a.
    Identity,
}

impl Activation {
    /// The name in shaders and messages.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Affine { .. } => "affine",
            Activation::LeakyRelu { .. } => "leaky_relu",
            Activation::ThresholdedRelu { .. } => "thresholded_relu",
            Activation::ScaledTanh { .. } => "scaled_tanh",
            Activation::HardSigmoid { .. } => "hard_sigmoid",
            Activation::Elu { .. } => "elu",
            Activation::Softsign => "softsign",
            Activation::Softplus => "softplus",
            Activation::Identity => "identity",
        }
    }

    /// One of each kind, with parameters other than the neutral ones.
    pub fn examples() -> [Activation; 12] {
        let (alpha, beta) = (0.75, 0.25);
        [
            Activation::Relu,
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::Affine { alpha, beta },
            Activation::LeakyRelu { alpha },
            Activation::ThresholdedRelu { alpha },
            Activation::ScaledTanh { alpha, beta },
            Activation::HardSigmoid { alpha, beta },
            Activation::Elu { alpha },
            Activation::Softsign,
            Activation::Softplus,
            Activation::Identity,
        ]
    }

    /// α and β; 0 where the function has none.
    pub fn parameters(self) -> [f32; 2] {
        match self {
            Activation::Affine { alpha, beta }
            | Activation::ScaledTanh { alpha, beta }
            | Activation::HardSigmoid { alpha, beta } => [alpha, beta],
            Activation::LeakyRelu { alpha }
            | Activation::ThresholdedRelu { alpha }
            | Activation::Elu { alpha } => [alpha, 0.0],
            _ => [0.0, 0.0],
        }
    }

    /// Whether the parameters are among those that the kernels can differentiate: they take the
    /// slope from the function's value, which must tell on which side of 0 the argument was.
    ///
    /// # Errors
    /// A parameter that is not finite, or out of its range.
    pub fn check(self) -> Result<()> {
        let [alpha, beta] = self.parameters();
        let fail = |what: &str| {
            let name = self.name();
            Err(Error::invalid(format!(
                "activation {name}: alpha = {alpha}, beta = {beta}: {what}"
            )))
        };
        match self {
            _ if !alpha.is_finite() || !beta.is_finite() => fail("not a finite number"),
            Activation::LeakyRelu { .. } | Activation::Elu { .. } if alpha < 0.0 => {
                fail("alpha must be at least 0")
            }
            Activation::ScaledTanh { .. } if alpha == 0.0 => fail("alpha must not be 0"),
            _ => Ok(()),
        }
    }
}
