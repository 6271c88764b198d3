//! The report of a run: one HTML page.

use super::session::Unit;
use recurra::Result;
use recurra::report::{HeatMap, HeatScale, LineChart, Report, Series, Stroke, Table};
use recurra::train::{LogLine, View};

/// The page in the model folder.
pub const REPORT: &str = "report.html";

/// Columns of a heat map over time, at most.
const MOST_STEPS: usize = 400;

/// The curves of a run.
pub fn curves(report: &mut Report, lines: &[LogLine], unit: Unit) {
    let step = |line: &LogLine| line.step as f64;
    let training = Series::new("training", lines.iter().map(|l| (step(l), f64::from(l.loss))));
    let validation = lines.iter().filter_map(|l| Some((step(l), f64::from(l.val_loss?))));
    let around = (lines.len() / 100).max(1);
    report.section("Curves").add(
        LineChart::new("Loss by step", "step", unit.loss())
            .series(training.clone().stroke(Stroke::Faint))
            .series(training.mean("training (mean)", around))
            .series(Series::new("validation", validation).stroke(Stroke::Dots)),
    );
    let rates = lines.iter().filter_map(|l| Some((step(l), f64::from(l.learning_rate?))));
    report.add(
        LineChart::new("Learning rate", "step", "rate").series(Series::new("learning rate", rates)),
    );
    let norms: Vec<(f64, f64)> =
        lines.iter().filter_map(|l| Some((step(l), f64::from(l.gradient_norm?)))).collect();
    if norms.iter().any(|n| n.1 > 0.0) {
        report.add(
            LineChart::new("Norm of all gradients, before clipping", "step", "norm")
                .log_y()
                .series(Series::new("norm", norms)),
        );
    }
}

/// What the microscope saw.
///
/// # Errors
/// None that views of one run could cause.
pub fn microscope(report: &mut Report, views: &[View]) -> Result<()> {
    let Some(last) = views.last() else { return Ok(()) };
    report.section("Gradient microscope");
    report.text(format!(
        "What flowed through each time step of the recurrent layers, at {} looks, the last of them at step {}. A \
         gradient that comes to a step from the later ones and from the loss tells how much what happened there \
         could still change: dark towards early steps means that they hardly learn.",
        views.len(),
        last.step
    ));
    let verdict = last.verdict();
    match verdict.is_empty() {
        true => report.text("At the last look nothing was wrong."),
        false => report.text(verdict.join("\n\n")),
    };
    for (number, layer) in last.layers.iter().enumerate() {
        let rows: Vec<(u64, &[f32])> = views
            .iter()
            .filter_map(|view| Some((view.step, &view.layers.get(number)?.gradients.h[..])))
            .filter(|row| row.1.len() == layer.gradients.h.len())
            .collect();
        add_map(report, format!("‖dL/dh(t)‖ of {}", layer.name), &rows)?;
        let rows: Vec<(u64, &[f32])> = views
            .iter()
            .filter_map(|view| Some((view.step, &view.layers.get(number)?.gradients.c[..])))
            .filter(|row| !row.1.is_empty() && row.1.len() == layer.gradients.c.len())
            .collect();
        add_map(report, format!("‖dL/dc(t)‖ of {}", layer.name), &rows)?;
    }
    let mut gates = Table::new(
        "Gates at the last look",
        ["layer", "gate", "mean", "at the lower end", "at the upper end", "ρ"],
    );
    for layer in &last.layers {
        for gate in &layer.gates {
            let radius = layer.spectral_radius.iter().find(|r| r.0 == gate.name);
            gates = gates.row([
                layer.name.clone(),
                gate.name.clone(),
                format!("{:.3}", gate.mean),
                format!("{:.1} %", 100.0 * gate.low),
                format!("{:.1} %", 100.0 * gate.high),
                radius.map_or(String::new(), |r| format!("{:.2}", r.1)),
            ]);
        }
    }
    report.add(gates);
    let mut layers = Table::new(
        "Layers at the last look",
        [
            "layer",
            "gradient kept a step",
            "half of it after",
            "state half-life",
            "of the longest tenth",
        ],
    );
    let steps = |n: Option<f32>| n.map_or(String::new(), |n| format!("{n:.1} steps"));
    for layer in &last.layers {
        layers = layers.row([
            layer.name.clone(),
            layer.gradients.kept.map_or(String::new(), |kept| format!("{kept:.3}")),
            steps(layer.gradients.half_distance()),
            steps(layer.half_life),
            steps(layer.long_half_life),
        ]);
    }
    report.add(layers);
    let mut chart =
        LineChart::new("Updates, relative to the weights", "step", "‖Δw‖ / ‖w‖").log_y();
    for (number, update) in last.updates.iter().enumerate() {
        let points = views.iter().filter_map(|view| {
            let ratio = view.updates.get(number)?.ratio;
            (ratio > 0.0).then_some((view.step as f64, f64::from(ratio)))
        });
        chart = chart.series(Series::new(update.parameter.clone(), points));
    }
    if !last.updates.is_empty() {
        report.add(chart);
    }
    Ok(())
}

fn add_map(report: &mut Report, title: String, rows: &[(u64, &[f32])]) -> Result<()> {
    let Some(time) = rows.first().map(|row| row.1.len()).filter(|&time| time > 0) else {
        return Ok(());
    };
    // Neighbours of a long window as one.
    let each = time.div_ceil(MOST_STEPS);
    let thin = |row: &[f32]| -> Vec<f32> {
        row.chunks(each).map(|part| part.iter().sum::<f32>() / part.len() as f32).collect()
    };
    let values: Vec<f32> = rows.iter().flat_map(|row| thin(row.1)).collect();
    let map = HeatMap::new(title, [rows.len(), time.div_ceil(each)], values)?;
    let columns = (0..time).step_by(each).map(|t| t.to_string()).collect();
    let names = rows.iter().map(|row| row.0.to_string()).collect();
    let map = map.rows_are("training step", names).columns_are("time step t", columns);
    report.add(map.scale(HeatScale::Log));
    Ok(())
}
