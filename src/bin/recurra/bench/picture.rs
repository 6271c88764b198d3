//! `bench --picture`: the shapes under the device's roofline.

use super::{COMMIT, lines};
use recurra::Result;
use recurra::engine::Engine;
use recurra::measure::{self, DeviceRates, Measurement, RecurrentShape, RooflinePoint};
use std::path::Path;

/// The picture of `--picture`. It is drawn anew after each shape: what ends a suite early leaves what
/// there was until then.
pub struct Picture<'a> {
    file: Option<&'a Path>,
    rates: &'a DeviceRates,
    title: String,
    notes: String,
    points: Vec<RooflinePoint>,
}

impl<'a> Picture<'a> {
    /// The roof alone: a file that can't be written is known before anything is measured.
    pub fn new(
        engine: &Engine,
        rates: &'a DeviceRates,
        suite: Option<&str>,
        file: Option<&'a Path>,
    ) -> Result<Self> {
        let what = suite.map_or("A recurrent layer".to_string(), |name| format!("Suite {name}"));
        let picture = Picture {
            file,
            rates,
            title: format!("{what} on {}", engine.name()),
            notes: format!(
                "{}; recurra at commit {COMMIT}; {}",
                engine.driver(),
                lines::rates_line(rates)
            ),
            points: Vec::new(),
        };
        picture.draw()?;
        Ok(picture)
    }

    /// One more shape.
    pub fn add(&mut self, shape: &RecurrentShape, found: &Measurement) -> Result<()> {
        self.points.push(RooflinePoint {
            name: lines::shape_name(shape),
            cell: shape.cell.name(),
            intensity: found.cost.flops as f64 / found.cost.bytes as f64,
            gflops: found.forward_backward_gflops,
            predicted_gflops: shape.product_flops(true) / (found.predicted_ms[1] * 1e6),
        });
        self.draw()
    }

    fn draw(&self) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        measure::roofline(file, &self.title, &self.notes, self.rates, &self.points)
    }
}
