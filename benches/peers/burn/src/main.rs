//! The work of `recurra bench` in burn.
//!
//!     burn-peer [--device flex|ndarray|wgpu] [--seconds S]
//!
//! Forward is inference. Forward and backward goes from a random gradient of the outputs to the
//! gradients of all weights and of the input. Several layers are modules one after another, as
//! burn's have one layer each.

#[path = "../../protocol.rs"]
mod protocol;

use burn::nn::gru::{Gru, GruConfig};
use burn::nn::lstm::{Lstm, LstmConfig};
use burn::tensor::{Device, Distribution, Tensor};
use protocol::{About, Shape, Work, options, serve};
use std::time::Instant;

enum Layer {
    Lstm(Lstm),
    Gru(Gru),
}

struct Stack {
    layers: Vec<Layer>,
    /// \[B, T, I\], the order that burn's modules work in.
    x: Tensor<3>,
    d_output: Tensor<3>,
}

impl Stack {
    fn new(shape: &Shape, device: &Device) -> Result<Self, String> {
        let layer = |i: usize| match shape.cell.as_str() {
            "lstm" => {
                Ok(Layer::Lstm(LstmConfig::new(shape.width(i), shape.hidden, true).init(device)))
            }
            "gru" => {
                Ok(Layer::Gru(GruConfig::new(shape.width(i), shape.hidden, true).init(device)))
            }
            other => Err(format!("no cell {other}")),
        };
        let random = |width| {
            let range = Distribution::Uniform(-1.0, 1.0);
            Tensor::<3>::random([shape.batch, shape.time, width], range, device)
        };
        Ok(Stack {
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            x: random(shape.input),
            d_output: random(shape.hidden),
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.layers.iter().fold(x, |x, layer| match layer {
            Layer::Lstm(lstm) => lstm.forward(x, None).0,
            Layer::Gru(gru) => gru.forward(x, None),
        })
    }
}

/// Inference and training of one shape.
struct Peer {
    device: Device,
    stacks: [Stack; 2],
}

impl Peer {
    fn new(shape: &Shape, device: &Device) -> Result<Self, String> {
        let stacks = [Stack::new(shape, device)?, Stack::new(shape, &device.clone().autodiff())?];
        Ok(Peer { device: device.clone(), stacks })
    }

    fn wait(&self) {
        self.device.sync().expect("the device runs");
    }
}

impl Work for Peer {
    fn time(&self, training: bool) -> Result<f64, String> {
        let stack = &self.stacks[usize::from(training)];
        let start = Instant::now();
        if training {
            // A leaf of its own for each run.
            let x = stack.x.clone().detach().require_grad();
            let output = stack.forward(x.clone());
            let gradients = (output * stack.d_output.clone()).sum().backward();
            self.wait();
            let elapsed = start.elapsed();
            assert!(x.grad(&gradients).is_some(), "the input has a gradient");
            return Ok(elapsed.as_secs_f64() * 1e3);
        }
        let output = stack.forward(stack.x.clone());
        self.wait();
        let elapsed = start.elapsed();
        drop(output);
        Ok(elapsed.as_secs_f64() * 1e3)
    }
}

fn open(name: &str) -> Result<Device, String> {
    #[allow(unreachable_patterns)] // with features on
    match name {
        "flex" => Ok(Device::flex()),
        // burn 0.22 means to drop it, and advises flex.
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        "ndarray" => Ok(Device::ndarray()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(Default::default())),
        "ndarray" | "wgpu" => Err(format!("built without {name}: --features {name}")),
        other => Err(format!("no device {other}: flex, ndarray, wgpu")),
    }
}

fn run() -> Result<(), String> {
    let (name, seconds) = options("flex")?;
    let device = open(&name)?;
    let about = About { engine: "burn", device: name, driver: "burn 0.22", dtype: "float32" };
    serve(&about, seconds, |shape| Peer::new(shape, &device))
}

fn main() {
    if let Err(error) = run() {
        eprintln!("burn-peer: {error}");
        std::process::exit(1);
    }
}
