//! The loss curve as a picture.

use crate::error::{Error, Result};
use crate::format::write_atomic;
use plotters::prelude::*;
use std::path::Path;

/// Draws training losses (thin) with their running mean, and validation losses, over steps, as an
/// SVG that any browser opens. Points are (step, loss); `unit` says what the losses are.
///
/// # Errors
/// The file can't be written, or there is no finite point.
pub fn loss_curve(
    path: &Path,
    title: &str,
    unit: &str,
    training: &[(u64, f32)],
    validation: &[(u64, f32)],
) -> Result<()> {
    let all = || training.iter().chain(validation).filter(|p| p.1.is_finite());
    let Some(last) = all().map(|p| p.0).max() else {
        return Err(Error::invalid("there is no loss to draw"));
    };
    let (low, high) = all().fold((f32::MAX, f32::MIN), |(a, b), p| (a.min(p.1), b.max(p.1)));
    let margin = ((high - low) * 0.05).max(0.01);
    let mut text = String::new();
    draw(&mut text, [title, unit], training, validation, last, [low - margin, high + margin])
        .map_err(|e| Error::format(path, format!("the picture could not be drawn: {e}")))?;
    write_atomic(path, text.as_bytes())
}

const TRAINING: RGBColor = RGBColor(31, 119, 180);
const VALIDATION: RGBColor = RGBColor(214, 39, 40);

fn draw(
    text: &mut String,
    [title, unit]: [&str; 2],
    training: &[(u64, f32)],
    validation: &[(u64, f32)],
    last: u64,
    [low, high]: [f32; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, (800, 450)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0..last.max(1), low..high)?;
    chart.configure_mesh().x_desc("step").y_desc(unit).light_line_style(WHITE).draw()?;
    let thinned = thin(training, 1000);
    chart.draw_series(LineSeries::new(thinned.iter().copied(), TRAINING.mix(0.25)))?;
    chart
        .draw_series(LineSeries::new(running_mean(&thinned), TRAINING.stroke_width(2)))?
        .label("training (running mean)")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRAINING.stroke_width(2)));
    chart
        .draw_series(LineSeries::new(validation.iter().copied(), VALIDATION.stroke_width(2)))?
        .label("validation")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], VALIDATION.stroke_width(2)));
    chart.configure_series_labels().border_style(BLACK.mix(0.2)).background_style(WHITE).draw()?;
    root.present()?;
    Ok(())
}

/// At most `most` points, evenly taken.
fn thin(points: &[(u64, f32)], most: usize) -> Vec<(u64, f32)> {
    let every = points.len().div_ceil(most).max(1);
    points.iter().copied().step_by(every).filter(|p| p.1.is_finite()).collect()
}

/// At each point the mean of the points around it, about a 50th of all.
fn running_mean(points: &[(u64, f32)]) -> Vec<(u64, f32)> {
    let half = points.len() / 100;
    let around = |i: usize| &points[i.saturating_sub(half)..(i + half + 1).min(points.len())];
    let mean = |near: &[(u64, f32)]| near.iter().map(|p| p.1).sum::<f32>() / near.len() as f32;
    points.iter().enumerate().map(|(i, &(step, _))| (step, mean(around(i)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_both_curves_and_refuses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        let training: Vec<_> = (1..500).map(|s| (s, 4.0 / (s as f32).sqrt())).collect();
        loss_curve(&path, "a title", "loss, nats", &training, &[(100, 1.0), (400, 0.5)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("<svg") && text.contains("a title") && text.contains("validation"));
        assert!(text.matches("<polyline").count() >= 3);
        assert!(loss_curve(&path, "", "", &[], &[]).is_err());
    }
}
