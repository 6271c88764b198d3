//! Optimizers and averages as short texts, for a command line.

use super::{Averaging, Optimizer, ParameterGroup};
use crate::error::{Error, Result};
use std::str::FromStr;

/// What stands before and behind the colon, and a number where there is one.
fn parts<'a>(text: &'a str, known: &str) -> Result<(&'a str, Option<f32>)> {
    let Some((name, number)) = text.split_once(':') else { return Ok((text, None)) };
    match number.trim().parse() {
        Ok(number) => Ok((name, Some(number))),
        Err(_) => {
            Err(Error::invalid(format!("'{text}': '{number}' is no number; known are {known}")))
        }
    }
}

const OPTIMIZERS: &str = "sgd[:MOMENTUM], nesterov[:MOMENTUM], rms-prop[:ALPHA], adam[:DECAY], \
                          adamw[:DECAY]";

/// `sgd`, `nesterov`, `rms-prop`, `adam`, `adamw`, and a number behind a colon: momentum (0.9 without it), α
/// (0.99), or λ (0, with AdamW 0.01).
impl FromStr for Optimizer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, number) = parts(text, OPTIMIZERS)?;
        let optimizer = match (name, Optimizer::rms_prop()) {
            ("sgd", _) => Optimizer::sgd(number.unwrap_or(0.9)),
            ("nesterov", _) => Optimizer::nesterov(number.unwrap_or(0.9)),
            (
                "rms-prop",
                Optimizer::RmsProp { alpha, epsilon, momentum, weight_decay, centered },
            ) => {
                let alpha = number.unwrap_or(alpha);
                Optimizer::RmsProp { alpha, epsilon, momentum, weight_decay, centered }
            }
            ("adam", _) => Optimizer::adam().with_weight_decay(number.unwrap_or(0.0)),
            ("adamw", _) => Optimizer::adamw(number.unwrap_or(0.01)),
            _ => {
                let reason = format!("there is no optimizer '{text}'; known are {OPTIMIZERS}");
                return Err(Error::invalid(reason));
            }
        };
        optimizer.check().map_err(|e| Error::invalid(format!("optimizer '{text}': {e}")))?;
        Ok(optimizer)
    }
}

/// `NAMES:RATE[:DECAY]`: parts of names with + between them, a factor of the learning rate, and a weight decay, which
/// is 0 where none is given. `embedding:0` keeps the embedding as it is.
impl FromStr for ParameterGroup {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: String| Error::invalid(format!("group '{text}': {what}"));
        let mut fields = text.split(':');
        let names: Vec<&str> = fields.next().unwrap_or_default().split('+').collect();
        if names.iter().any(|name| name.is_empty()) {
            return Err(bad("parts of parameters' names are missing".to_string()));
        }
        let mut number = |what: &str| match fields.next() {
            None => Ok(None),
            Some(field) => match field.trim().parse::<f32>() {
                Ok(x) if x >= 0.0 && x.is_finite() => Ok(Some(x)),
                _ => Err(bad(format!("'{field}' is no {what} of 0 or more"))),
            },
        };
        let rate = number("factor of the learning rate")?;
        let decay = number("weight decay")?;
        let rate = rate.ok_or_else(|| bad("a factor of the learning rate is missing".into()))?;
        if fields.next().is_some() {
            return Err(bad("there is more than NAMES:RATE:DECAY".to_string()));
        }
        Ok(ParameterGroup::new(&names, decay.unwrap_or(0.0)).at_rate(rate))
    }
}

const AVERAGES: &str = "ema[:DECAY], nt-asgd[:PATIENCE]";

/// `ema` with a decay behind a colon (0.999 without it), `nt-asgd` with a number of checks (5).
impl FromStr for Averaging {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let averaging = match parts(text, AVERAGES)? {
            ("ema", decay) => Averaging::Exponential { decay: decay.unwrap_or(0.999) },
            ("nt-asgd", None) => Averaging::Triggered { patience: 5 },
            ("nt-asgd", Some(checks)) if checks >= 0.0 && checks.fract() == 0.0 => {
                Averaging::Triggered { patience: checks as usize }
            }
            _ => {
                let reason = format!("there is no average '{text}'; known are {AVERAGES}");
                return Err(Error::invalid(reason));
            }
        };
        averaging.check().map_err(|e| Error::invalid(format!("average '{text}': {e}")))?;
        Ok(averaging)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        for (text, wanted) in [
            ("sgd", Optimizer::sgd(0.9)),
            ("sgd:0", Optimizer::sgd(0.0)),
            ("nesterov:0.95", Optimizer::nesterov(0.95)),
            ("rms-prop", Optimizer::rms_prop()),
            ("adam", Optimizer::adam()),
            ("adam:0.1", Optimizer::adam().with_weight_decay(0.1)),
            ("adamw:0.05", Optimizer::adamw(0.05)),
        ] {
            assert_eq!(text.parse::<Optimizer>().unwrap(), wanted, "{text}");
            assert_eq!(text.split(':').next(), Some(wanted.name()), "{text}");
        }
        let refused = |text: &str| text.parse::<Optimizer>().unwrap_err().to_string();
        for (text, what) in [
            ("adagrad", "nesterov[:MOMENTUM]"),
            ("sgd:x", "'x' is no number"),
            ("sgd:1", "momentum must be in [0, 1)"),
            ("adamw:-1", "0 or more"),
        ] {
            assert!(refused(text).contains(what), "{}", refused(text));
        }
        let group = ParameterGroup::new(&["bias", "norm"], 0.1).at_rate(0.5);
        assert_eq!("bias+norm:0.5:0.1".parse::<ParameterGroup>().unwrap(), group);
        let frozen = ParameterGroup::frozen(&["embedding"]);
        assert_eq!("embedding:0".parse::<ParameterGroup>().unwrap(), frozen);
        for text in ["bias", "", ":1", "a+:1", "bias:x", "bias:-1", "bias:1:nan", "bias:1:0:0"] {
            let got = text.parse::<ParameterGroup>().unwrap_err().to_string();
            assert!(got.contains(&format!("group '{text}'")), "{got}");
        }
        assert_eq!("ema:0.5".parse::<Averaging>().unwrap(), Averaging::Exponential { decay: 0.5 });
        assert_eq!("nt-asgd".parse::<Averaging>().unwrap(), Averaging::Triggered { patience: 5 });
        assert_eq!("nt-asgd:3".parse::<Averaging>().unwrap(), Averaging::Triggered { patience: 3 });
        for text in ["nt-asgd:0.5", "ema:1", "swa", "nt-asgd:-1"] {
            let got = text.parse::<Averaging>().unwrap_err().to_string();
            assert!(got.contains(&format!("'{text}'")), "{got}");
        }
    }
}
