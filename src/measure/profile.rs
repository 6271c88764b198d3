//! Where the time of a run goes, kernel by kernel.

use crate::engine::{Engine, Program, Span};
use crate::error::{Error, Result};
use crate::kernel::Cost;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Every launch of one run, and how busy the device is from run to run.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The device.
    pub device: String,
    /// The launches in their order.
    pub launches: Vec<Span>,
    /// Whole runs, submitted one after another without waiting.
    pub runs: Vec<Span>,
    /// Milliseconds that the host takes to make a step's data, in another thread and before the step, the median; none
    /// where there is nothing to make.
    pub feed_ms: Option<f64>,
}

/// All launches of one kernel in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel.
    pub kernel: &'static str,
    /// Launches.
    pub launches: usize,
    /// Their operations and bytes.
    pub cost: Cost,
    /// Milliseconds of them all.
    pub ms: f64,
}

impl Profile {
    /// Profiles a program. `feed` writes the inputs of the next run; it is called before each of some
    /// runs that are watched, and before the one that is taken apart.
    ///
    /// # Errors
    /// A GPU without timestamps; what `feed` fails with.
    pub fn measure(
        engine: &Engine,
        program: &mut Program,
        runs: usize,
        mut feed: impl FnMut(&mut Program) -> Result<()>,
    ) -> Result<Self> {
        program.watch(runs)?;
        for _ in 0..runs {
            feed(program)?;
            program.run()?;
        }
        let runs = program.watched()?;
        feed(program)?;
        let launches = program.profile()?;
        Ok(Profile { device: engine.name(), launches, runs, feed_ms: None })
    }

    /// The kernels, those that take longest first.
    pub fn kernels(&self) -> Vec<KernelTime> {
        let mut kernels: BTreeMap<&'static str, KernelTime> = BTreeMap::new();
        for span in &self.launches {
            let none =
                KernelTime { kernel: span.kernel, launches: 0, cost: Cost::default(), ms: 0.0 };
            let entry = kernels.entry(span.kernel).or_insert(none);
            entry.launches += 1;
            entry.cost = entry.cost + span.cost;
            entry.ms += (span.end_us - span.start_us) * 1e-3;
        }
        let mut list: Vec<_> = kernels.into_values().collect();
        list.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        list
    }

    /// The share of the time in which a run was on the device, from the first run's beginning to the
    /// last one's end; none without two runs.
    pub fn busy(&self) -> Option<f64> {
        let (first, last) = (self.runs.first()?, self.runs.last()?);
        let all = last.end_us - first.start_us;
        let spans = self.runs.iter().map(|run| run.end_us - run.start_us);
        (self.runs.len() > 1 && all > 0.0).then(|| spans.sum::<f64>() / all)
    }

    /// Milliseconds of a run of the watched ones, the median.
    pub fn run_ms(&self) -> Option<f64> {
        median(self.runs.iter().map(|r| (r.end_us - r.start_us) * 1e-3))
    }

    /// The trace event format that browsers' trace viewers open (about:tracing, Perfetto): the launches
    /// of the run that was taken apart.
    pub fn trace(&self) -> String {
        let event = |span: &Span| {
            let us = span.end_us - span.start_us;
            json!({ "name": span.kernel, "ph": "X", "ts": span.start_us, "dur": us, "pid": 1, "tid": 1 })
        };
        let name = json!({
            "name": "process_name", "ph": "M", "pid": 1, "args": { "name": self.device }
        });
        let events: Vec<_> = std::iter::once(name).chain(self.launches.iter().map(event)).collect();
        json!({ "traceEvents": events, "displayTimeUnit": "ns" }).to_string()
    }

    /// Writes the trace.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_trace(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.trace()).map_err(|e| Error::io(file, "write", e))
    }
}

/// The upper of the two in the middle; none of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut list: Vec<f64> = values.collect();
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::CellKind;
    use crate::layer::Memory;
    use crate::measure::RecurrentShape;
    use crate::tensor::Precision;

    #[test]
    fn a_profile_has_every_launch_in_order() {
        let (time, batch, input, hidden) = (3, 2, 4, 5);
        let shape = RecurrentShape {
            cell: CellKind::Gru,
            time,
            batch,
            input,
            hidden,
            layers: 1,
            heads: 1,
            bidirectional: false,
            shortest: time,
            memory: Memory::Keep,
            precision: Precision::F32,
        };
        let engine = Engine::cpu(Some(1)).unwrap();
        let mut program = shape.load(&engine, true).unwrap();
        let profile = Profile::measure(&engine, &mut program, 4, |_| Ok(())).unwrap();
        let recording = shape.record(true).unwrap();
        let names: Vec<_> = recording.launches().iter().map(|l| l.op.kernel().name()).collect();
        assert!(profile.launches.iter().map(|l| l.kernel).eq(names));
        assert!(profile.launches.windows(2).all(|w| w[0].end_us <= w[1].start_us));
        assert_eq!(profile.runs.len(), 4);
        assert!(profile.busy().is_some_and(|busy| busy > 0.0 && busy <= 1.0));
        let kernels = profile.kernels();
        let steps = kernels.iter().find(|k| k.kernel == "step_forward").unwrap();
        assert_eq!(steps.launches, time);
        assert_eq!(kernels.iter().map(|k| k.launches).sum::<usize>(), profile.launches.len());
        assert!(program.watch(usize::MAX).is_err());
        let trace: serde_json::Value = serde_json::from_str(&profile.trace()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 1 + profile.launches.len());
        assert!(events[1..].iter().all(|e| e["ph"] == "X" && e["dur"].as_f64().unwrap() >= 0.0));
    }
}
