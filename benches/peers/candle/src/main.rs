//! The work of `recurra bench` in candle, on the CPU.
//!
//!     candle-peer [--seconds S]
//!
//! Forward is inference. Forward and backward goes from a random gradient of the outputs to the
//! gradients of all weights and of the input. Several layers are modules one after another; what lies
//! between them, and the outputs, are tensors \[B, T, H\].

#[path = "../../protocol.rs"]
mod protocol;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::rnn::{GRU, GRUConfig, LSTM, LSTMConfig, RNN, gru, lstm};
use candle_nn::{VarBuilder, VarMap};
use protocol::{About, Shape, Work, options, serve};
use std::time::Instant;

enum Layer {
    Lstm(LSTM),
    Gru(GRU),
}

struct Stack {
    layers: Vec<Layer>,
    /// \[B, T, I\]: a variable for training, else a plain tensor.
    x: Tensor,
    d_output: Tensor,
}

impl Stack {
    fn new(shape: &Shape, training: bool) -> candle_core::Result<Self> {
        let device = &Device::Cpu;
        let variables = VarMap::new();
        let trained = VarBuilder::from_varmap(&variables, DType::F32, device);
        let constant = VarBuilder::zeros(DType::F32, device);
        let weights = if training { trained } else { constant };
        let layer = |i: usize| {
            let (from, to) = (shape.width(i), shape.hidden);
            let at = weights.pp(format!("layer{i}"));
            match shape.cell.as_str() {
                "lstm" => lstm(from, to, LSTMConfig::default(), at).map(Layer::Lstm),
                "gru" => gru(from, to, GRUConfig::default(), at).map(Layer::Gru),
                other => candle_core::bail!("no cell {other}"),
            }
        };
        let random = |width| Tensor::rand(-1f32, 1f32, (shape.batch, shape.time, width), device);
        let x = random(shape.input)?;
        Ok(Stack {
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            x: if training { Var::from_tensor(&x)?.into_inner() } else { x },
            d_output: random(shape.hidden)?,
        })
    }

    fn forward(&self) -> candle_core::Result<Tensor> {
        self.layers.iter().try_fold(self.x.clone(), |x, layer| match layer {
            Layer::Lstm(layer) => stack(layer.seq(&x)?.iter().map(|state| state.h())),
            Layer::Gru(layer) => stack(layer.seq(&x)?.iter().map(|state| state.h())),
        })
    }

    fn train(&self) -> candle_core::Result<()> {
        let loss = (self.forward()? * &self.d_output)?.sum_all()?;
        let gradients = loss.backward()?;
        match gradients.get(&self.x) {
            Some(_) => Ok(()),
            None => candle_core::bail!("the input has no gradient"),
        }
    }
}

/// \[B, T, H\]: what candle's own GRU makes of its states is \[B, T·H\].
fn stack<'a>(steps: impl Iterator<Item = &'a Tensor>) -> candle_core::Result<Tensor> {
    Tensor::stack(&steps.collect::<Vec<_>>(), 1)
}

impl Work for [Stack; 2] {
    fn time(&self, training: bool) -> Result<f64, String> {
        let start = Instant::now();
        let done = match training {
            true => self[1].train(),
            false => self[0].forward().map(drop),
        };
        done.map_err(|e| first_line(&e))?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

/// What follows is a backtrace, where one is asked for.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

fn run() -> Result<(), String> {
    let (device, seconds) = options("cpu")?;
    if device != "cpu" {
        return Err(format!("no device {device}: cpu"));
    }
    let about = About { engine: "candle", device, driver: "candle 0.11", dtype: "float32" };
    serve(&about, seconds, |shape| {
        let both = Stack::new(shape, false).and_then(|a| Ok([a, Stack::new(shape, true)?]));
        both.map_err(|e| first_line(&e))
    })
}

fn main() {
    if let Err(error) = run() {
        eprintln!("candle-peer: {error}");
        std::process::exit(1);
    }
}
