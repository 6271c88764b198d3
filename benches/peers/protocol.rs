//! What the peers in Rust share: shapes come in on standard input as JSON lines, as `recurra bench --suite NAME
//! --list` prints them; a line of JSON about the peer goes out, then one for each shape, in the names of
//! `recurra bench --json`.
//!
//! Every time is the wall time of one whole run.

use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::time::Instant;

/// Runs of each work at least.
const LEAST_RUNS: usize = 3;

#[derive(Clone, Deserialize, Serialize)]
pub struct Shape {
    pub cell: String,
    pub time: usize,
    pub batch: usize,
    pub input: usize,
    pub hidden: usize,
    pub layers: usize,
    #[serde(default = "one")]
    pub heads: usize,
    pub shortest: Option<usize>,
}

fn one() -> usize {
    1
}

impl Shape {
    /// The width that a layer reads.
    pub fn width(&self, layer: usize) -> usize {
        if layer == 0 { self.input } else { self.hidden }
    }

    /// No peer has heads, or sequences of different lengths.
    pub fn is_plain(&self) -> Result<(), String> {
        match self.heads == 1 && self.shortest.is_none_or(|n| n >= self.time) {
            true => Ok(()),
            false => Err("neither heads nor lengths".to_string()),
        }
    }
}

/// Who answers.
#[derive(Clone, Serialize)]
pub struct About {
    pub engine: &'static str,
    pub device: String,
    pub driver: &'static str,
    pub dtype: &'static str,
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

/// Inference and training of one shape.
pub trait Work {
    /// One run to the device's last word, in milliseconds.
    fn time(&self, training: bool) -> Result<f64, String>;
}

/// The medians of both; the turn is the one's that has run the shortest time.
fn measure(work: &impl Work, seconds: f64) -> Result<[f64; 2], String> {
    for training in [false, true, false, true] {
        work.time(training)?;
    }
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds || times.iter().any(|t| t.len() < LEAST_RUNS) {
        let spent = |i: usize| (times[i].len() >= LEAST_RUNS, times[i].iter().sum::<f64>());
        let turn = usize::from(spent(1) < spent(0));
        times[turn].push(work.time(turn == 1)?);
    }
    Ok(times.map(|mut list| {
        list.sort_by(f64::total_cmp);
        let middle = list.len() / 2;
        if list.len() % 2 == 1 { list[middle] } else { (list[middle - 1] + list[middle]) / 2.0 }
    }))
}

/// The options `--device NAME` and `--seconds S`.
pub fn options(device: &str) -> Result<(String, f64), String> {
    let (mut name, mut seconds) = (device.to_string(), 1.0);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--device" => name = value,
            "--seconds" => seconds = value.parse().map_err(|_| "--seconds is no number")?,
            _ => return Err(format!("no option {option}: --device, --seconds")),
        }
    }
    Ok((name, seconds))
}

/// Answers each line.
pub fn serve<W: Work>(
    about: &About,
    seconds: f64,
    make: impl Fn(&Shape) -> Result<W, String>,
) -> Result<(), String> {
    print(about)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let shape: Shape = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
        let found = shape.is_plain().and_then(|()| make(&shape));
        let found = found.and_then(|work| measure(&work, seconds));
        let [forward_ms, forward_backward_ms] = [0, 1].map(|i| found.as_ref().ok().map(|ms| ms[i]));
        let (about, error) = (about.clone(), found.err());
        print(&Line { shape, about, forward_ms, forward_backward_ms, error })?;
    }
    Ok(())
}

/// Prints a line at once.
fn print(line: &impl Serialize) -> Result<(), String> {
    println!("{}", serde_json::to_string(line).map_err(|e| e.to_string())?);
    std::io::stdout().flush().map_err(|e| e.to_string())
}
