//! The work of `recurra bench` in burn: shapes come in on standard input as JSON lines, as `recurra bench
//! --suite NAME --list` prints them; a line of JSON about burn goes out, then one for each shape, in the
//! names of `recurra bench --json`.
//!
//!     burn-peer [--device flex|ndarray|wgpu] [--seconds S]
//!
//! Forward is inference. Forward and backward goes from a random gradient of the outputs to the
//! gradients of all weights and of the input. Several layers are modules one after another, as
//! burn's have one layer each. Every time is the wall time of one whole run.

use burn::nn::gru::{Gru, GruConfig};
use burn::nn::lstm::{Lstm, LstmConfig};
use burn::tensor::{Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::time::Instant;

/// Runs of each work at least.
const LEAST_RUNS: usize = 3;

#[derive(Clone, Deserialize, Serialize)]
struct Shape {
    cell: String,
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    #[serde(default = "one")]
    heads: usize,
    shortest: Option<usize>,
}

fn one() -> usize {
    1
}

/// Who answers.
#[derive(Clone, Serialize)]
struct About {
    engine: &'static str,
    device: String,
    driver: &'static str,
    dtype: &'static str,
}

/// An answer: the shape, and its times or why there are none.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    shape: Shape,
    #[serde(flatten)]
    about: About,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward_backward_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

enum Layer {
    Lstm(Lstm),
    Gru(Gru),
}

struct Work {
    layers: Vec<Layer>,
    /// \[B, T, I\], the order that burn's modules work in.
    x: Tensor<3>,
    d_output: Tensor<3>,
}

impl Work {
    fn new(shape: &Shape, device: &Device) -> Result<Self, String> {
        if shape.heads != 1 || shape.shortest.is_some_and(|n| n < shape.time) {
            return Err("neither heads nor lengths".to_string());
        }
        let layer = |i: usize| {
            let input = if i == 0 { shape.input } else { shape.hidden };
            match shape.cell.as_str() {
                "lstm" => Ok(Layer::Lstm(LstmConfig::new(input, shape.hidden, true).init(device))),
                "gru" => Ok(Layer::Gru(GruConfig::new(input, shape.hidden, true).init(device))),
                other => Err(format!("no cell {other}")),
            }
        };
        let random = |width| {
            let range = Distribution::Uniform(-1.0, 1.0);
            Tensor::<3>::random([shape.batch, shape.time, width], range, device)
        };
        Ok(Work {
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
    works: [Work; 2],
}

impl Peer {
    fn new(shape: &Shape, device: &Device) -> Result<Self, String> {
        let works = [Work::new(shape, device)?, Work::new(shape, &device.clone().autodiff())?];
        Ok(Peer { device: device.clone(), works })
    }

    /// One run to the device's last word, in milliseconds.
    fn time(&self, training: bool) -> f64 {
        let work = &self.works[usize::from(training)];
        let start = Instant::now();
        if training {
            // A leaf of its own for each run.
            let x = work.x.clone().detach().require_grad();
            let output = work.forward(x.clone());
            let gradients = (output * work.d_output.clone()).sum().backward();
            self.wait();
            let elapsed = start.elapsed();
            assert!(x.grad(&gradients).is_some(), "the input has a gradient");
            return elapsed.as_secs_f64() * 1e3;
        }
        let output = work.forward(work.x.clone());
        self.wait();
        let elapsed = start.elapsed();
        drop(output);
        elapsed.as_secs_f64() * 1e3
    }

    fn wait(&self) {
        self.device.sync().expect("the device runs");
    }

    /// The medians of both; the turn is the one's that has run the shortest time.
    fn measure(&self, seconds: f64) -> [f64; 2] {
        for training in [false, true, false, true] {
            self.time(training);
        }
        let mut times = [Vec::new(), Vec::new()];
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < seconds || times.iter().any(|t| t.len() < LEAST_RUNS)
        {
            let spent = |i: usize| (times[i].len() >= LEAST_RUNS, times[i].iter().sum::<f64>());
            let turn = usize::from(spent(1) < spent(0));
            times[turn].push(self.time(turn == 1));
        }
        times.map(|mut list| {
            list.sort_by(f64::total_cmp);
            let middle = list.len() / 2;
            if list.len() % 2 == 1 { list[middle] } else { (list[middle - 1] + list[middle]) / 2.0 }
        })
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
    let (mut name, mut seconds) = ("flex".to_string(), 1.0);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--device" => name = value,
            "--seconds" => seconds = value.parse().map_err(|_| "--seconds is no number")?,
            _ => return Err(format!("no option {option}: --device, --seconds")),
        }
    }
    let device = open(&name)?;
    let about = About { engine: "burn", device: name, driver: "burn 0.22", dtype: "float32" };
    print(&about)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let shape: Shape = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
        let found = Peer::new(&shape, &device).map(|peer| peer.measure(seconds));
        let [forward_ms, forward_backward_ms] = [0, 1].map(|i| found.as_ref().ok().map(|ms| ms[i]));
        let answer = Line {
            shape,
            about: about.clone(),
            forward_ms,
            forward_backward_ms,
            error: found.err(),
        };
        print(&answer)?;
    }
    Ok(())
}

/// Prints a line at once.
fn print(line: &impl Serialize) -> Result<(), String> {
    println!("{}", serde_json::to_string(line).map_err(|e| e.to_string())?);
    std::io::stdout().flush().map_err(|e| e.to_string())
}

fn main() {
    if let Err(error) = run() {
        eprintln!("burn-peer: {error}");
        std::process::exit(1);
    }
}
