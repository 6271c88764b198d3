//! ONNX's names of the activations, and their values on the host.

pub use crate::kernel::Activation;

impl Activation {
    /// The activation of that name, in ONNX's spelling or another case. `alpha` and `beta` are asked
    /// where it has one; where none is given, ONNX's default holds.
    ///
    /// # Errors
    /// No such name; an alpha or beta that has no default is missing.
    pub fn from_onnx(
        name: &str,
        mut alpha: impl FnMut() -> Option<f32>,
        mut beta: impl FnMut() -> Option<f32>,
    ) -> Result<Self, String> {
        let needed = |which: &str| format!("activation {name} needs {which}");
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => Activation::Relu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "affine" => Activation::Affine {
                alpha: alpha().ok_or_else(|| needed("an alpha"))?,
                beta: beta().ok_or_else(|| needed("a beta"))?,
            },
            "leakyrelu" => Activation::LeakyRelu { alpha: alpha().unwrap_or(0.01) },
            "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha().unwrap_or(1.0) },
            "scaledtanh" => Activation::ScaledTanh {
                alpha: alpha().ok_or_else(|| needed("an alpha"))?,
                beta: beta().ok_or_else(|| needed("a beta"))?,
            },
            "hardsigmoid" => Activation::HardSigmoid {
                alpha: alpha().unwrap_or(0.2),
                beta: beta().unwrap_or(0.5),
            },
            "elu" => Activation::Elu { alpha: alpha().unwrap_or(1.0) },
            "softsign" => Activation::Softsign,
            "softplus" => Activation::Softplus,
            _ => return Err(format!("activation '{name}'")),
        })
    }

    /// ONNX's name, alpha and beta.
    pub fn to_onnx(self) -> (&'static str, Option<f32>, Option<f32>) {
        match self {
            Activation::Relu => ("Relu", None, None),
            Activation::Tanh => ("Tanh", None, None),
            Activation::Sigmoid => ("Sigmoid", None, None),
            Activation::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
            Activation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
            Activation::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
            Activation::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
            Activation::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
            Activation::Elu { alpha } => ("Elu", Some(alpha), None),
            Activation::Softsign => ("Softsign", None, None),
            Activation::Softplus => ("Softplus", None, None),
            // ONNX has no name for it.
            Activation::Identity => ("Affine", Some(1.0), Some(0.0)),
        }
    }

    /// Its value at a. NaN stays NaN.
    pub fn apply(self, a: f32) -> f32 {
        match self {
            Activation::Relu => {
                if a < 0.0 {
                    0.0
                } else {
                    a
                }
            }
            Activation::Tanh => a.tanh(),
            Activation::Sigmoid => {
                // e^−|a| can't overflow.
                let e = (-a.abs()).exp();
                if a < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
            }
            Activation::Affine { alpha, beta } => alpha * a + beta,
            Activation::LeakyRelu { alpha } => {
                if a < 0.0 {
                    alpha * a
                } else {
                    a
                }
            }
            Activation::ThresholdedRelu { alpha } => {
                if a <= alpha {
                    0.0
                } else {
                    a
                }
            }
            Activation::ScaledTanh { alpha, beta } => alpha * (beta * a).tanh(),
            Activation::HardSigmoid { alpha, beta } => (alpha * a + beta).clamp(0.0, 1.0),
            Activation::Elu { alpha } => {
                if a < 0.0 {
                    alpha * a.exp_m1()
                } else {
                    a
                }
            }
            Activation::Softsign => a / (1.0 + a.abs()),
            Activation::Softplus => a.max(0.0) + (-a.abs()).exp().ln_1p(),
            Activation::Identity => a,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back_and_no_overflow() {
        for name in [
            "Relu",
            "Tanh",
            "Sigmoid",
            "Affine",
            "LeakyRelu",
            "ThresholdedRelu",
            "ScaledTanh",
            "HardSigmoid",
            "Elu",
            "Softsign",
            "Softplus",
        ] {
            let activation = Activation::from_onnx(name, || Some(0.5), || Some(0.25)).unwrap();
            assert_eq!(activation.to_onnx().0, name);
            for a in [-1e4f32, -1.0, 0.0, 1.0, 1e4] {
                assert!(activation.apply(a).is_finite(), "{name} of {a}");
            }
        }
        assert!(Activation::from_onnx("Affine", || None, || None).is_err());
        assert!(Activation::from_onnx("Swish", || None, || None).is_err());
        assert!(Activation::Relu.apply(f32::NAN).is_nan());
        assert_eq!(Activation::Sigmoid.apply(-200.0), 0.0);
    }
}
