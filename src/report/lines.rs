//! Line charts as SVG.

use super::axis::Axis;
use super::items::{Band, LineChart, Series, Stroke};
use super::text::{escape, short};
use std::fmt::Write;

/// A picture's size in CSS pixels.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub width: f64,
    pub height: f64,
}

/// For a window, and for paper.
pub const WIDE: Size = Size { width: 760.0, height: 330.0 };
/// For a phone.
pub const NARROW: Size = Size { width: 350.0, height: 270.0 };

/// How wide a character is, about, in the size that axes and legends have (12 pixels).
pub const CHARACTER: f64 = 7.1;
/// Colours of series, see `chart.css`.
const SERIES_COLOURS: usize = 8;
/// The height of a line of the legend.
const LEGEND_LINE: f64 = 20.0;

/// How much room a text takes, about.
pub fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// A text, cut where it is wider than `width` pixels.
fn fitted(text: &str, width: f64) -> String {
    let most = (width / CHARACTER).max(4.0) as usize;
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_string(),
    }
}

/// Where things lie in a chart of a size.
struct Layout {
    /// The height of all of it: more than was asked for where the legend has many lines.
    total: f64,
    x: Axis,
    y: Axis,
    /// Where the plot lies: left, top, width, height.
    area: [f64; 4],
    y_ticks: Vec<f64>,
    x_ticks: Vec<f64>,
}

impl Layout {
    fn new(chart: &LineChart, size: Size, legend_lines: usize) -> Self {
        let points = || chart.series.iter().flat_map(|s| &s.points);
        let edges = || chart.bands.iter().flat_map(|b| &b.points);
        let marks = chart.marks.iter().map(|m| m.0);
        let x = Axis::over(
            points().map(|p| p.0).chain(edges().map(|e| e.0)).chain(marks),
            chart.x_log,
            false,
        );
        let y = match chart.y_range {
            Some(ends) => Axis::over(ends.into_iter(), chart.y_log, false),
            None => {
                let all = points().map(|p| p.1).chain(edges().flat_map(|e| e.1));
                Axis::over(all, chart.y_log, true)
            }
        };
        let y_ticks = y.ticks(5);
        let widest = y_ticks.iter().map(|&t| text_width(&short(t))).fold(0.0, f64::max);
        let left = widest + 12.0;
        let top = 26.0 + LEGEND_LINE * legend_lines as f64;
        let height = size.height - 70.0 - LEGEND_LINE;
        let area = [left, top, size.width - left - 14.0, height];
        let x_ticks = x.ticks(((area[2] / 90.0) as usize).max(2));
        Layout { total: top + height + 44.0, x, y, area, y_ticks, x_ticks }
    }

    fn x(&self, value: f64) -> Option<f64> {
        Some(self.area[0] + self.x.share(value)? * self.area[2])
    }

    fn y(&self, value: f64) -> Option<f64> {
        // Far outside is as good as outside, and short to write.
        let share = self.y.share(value)?.clamp(-10.0, 10.0);
        Some(self.area[1] + (1.0 - share) * self.area[3])
    }
}

/// The colour of each series: one that is faint or dashed behind another has that one's.
fn colours(series: &[Series]) -> Vec<usize> {
    let mut next = 0;
    let mut out = Vec::new();
    let mut taken_by_faint = false;
    for one in series {
        // The mean that follows what is faint has its colour.
        let follows = taken_by_faint && one.stroke != Stroke::Faint;
        out.push(if follows { next - 1 } else { next } % SERIES_COLOURS);
        if !follows {
            next += 1;
        }
        taken_by_faint = one.stroke == Stroke::Faint;
    }
    out
}

/// A chart of a size, still without the svg element around it.
pub struct Picture {
    /// Its height, which grows with the lines of the legend.
    pub height: f64,
    /// The svg element's attributes, but for the box.
    pub attributes: String,
    /// What stands in it.
    pub content: String,
}

/// The chart at a size. `attributes` go into the svg element.
pub fn svg(chart: &LineChart, size: Size, attributes: &str) -> String {
    let Picture { height, attributes: own, content } = picture(chart, size);
    format!("<svg viewBox=\"0 0 {} {height}\" {own} {attributes}>{content}</svg>", size.width)
}

/// Draws a chart.
pub fn picture(chart: &LineChart, size: Size) -> Picture {
    let colours = colours(&chart.series);
    let (legend, legend_lines) = legend(chart, size, &colours);
    let layout = Layout::new(chart, size, legend_lines);
    let [left, top, width, height] = layout.area;
    let (right, bottom) = (left + width, top + height);
    let axis = |a: &Axis| format!("{:e},{:e},{}", a.low, a.high, u8::from(a.log));
    let attributes = format!(
        "role=\"img\" aria-label=\"{}\" class=\"chart\" \
         data-plot=\"{left:.1},{top:.1},{width:.1},{height:.1}\" data-x=\"{}\" data-y=\"{}\"",
        escape(&chart.title),
        axis(&layout.x),
        axis(&layout.y),
    );
    let mut out = String::new();
    out.push_str(&legend);
    let label_y = top - 10.0;
    let _ = write!(
        out,
        "<text class=\"label\" x=\"0\" y=\"{label_y:.1}\">{}</text>",
        escape(&fitted(&chart.y_label, size.width))
    );
    for &tick in &layout.y_ticks {
        let Some(y) = layout.y(tick) else { continue };
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left - 7.0,
            y + 4.0,
            short(tick)
        );
    }
    let _ = write!(out, "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>");
    for &tick in &layout.x_ticks {
        let Some(x) = layout.x(tick) else { continue };
        let _ = write!(
            out,
            "<path class=\"axis\" d=\"M{x:.1} {bottom:.1}v4\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 17.0,
            short(tick)
        );
    }
    let _ = write!(
        out,
        "<text class=\"label\" text-anchor=\"end\" x=\"{right:.1}\" y=\"{:.1}\">{}</text>",
        bottom + 36.0,
        escape(&fitted(&chart.x_label, width))
    );
    // An svg inside of the svg cuts off what leaves it, but for half a dot.
    let cut = [left - 4.0, top - 4.0, width + 8.0, height + 8.0].map(|v| format!("{v:.1}"));
    let [cut_x, cut_y, cut_width, cut_height] = &cut;
    let _ = write!(
        out,
        "<svg x=\"{cut_x}\" y=\"{cut_y}\" width=\"{cut_width}\" height=\"{cut_height}\" viewBox=\"{}\">",
        cut.join(" ")
    );
    for (number, band) in chart.bands.iter().enumerate() {
        area(&mut out, band, band_colour(&colours, number), &layout);
    }
    for (series, colour) in chart.series.iter().zip(&colours) {
        curve(&mut out, series, *colour, &layout);
    }
    out.push_str("</svg>");
    marks(&mut out, chart, &layout);
    Picture { height: layout.total, attributes, content: out }
}

/// Upright lines, their texts on the side that has room, one under the other.
fn marks(out: &mut String, chart: &LineChart, layout: &Layout) {
    let [left, top, width, height] = layout.area;
    for (i, (at, text)) in chart.marks.iter().enumerate() {
        let Some(x) = layout.x(*at) else { continue };
        let (anchor, shift) = if x > left + width * 0.6 { ("end", -5.0) } else { ("start", 5.0) };
        let _ = write!(
            out,
            "<path class=\"mark\" d=\"M{x:.1} {top:.1}v{height:.1}\"/>\
             <text class=\"tick halo\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + shift,
            top + 12.0 + 15.0 * (i % 6) as f64,
            escape(&fitted(text, width * 0.5))
        );
    }
}

/// The legend and how many lines it takes; none for a single series whose name is the axis'.
fn legend(chart: &LineChart, size: Size, colours: &[usize]) -> (String, usize) {
    let named = |s: &Series| !s.name.is_empty() && s.name != chart.y_label;
    if !chart.series.iter().any(named) && chart.bands.is_empty() {
        return (String::new(), 0);
    }
    let (mut x, mut line, mut out) = (0.0, 0, String::new());
    let curves =
        chart.series.iter().zip(colours).map(|(s, &colour)| (&s.name, class(s.stroke), colour));
    let bands = chart.bands.iter().enumerate();
    let bands = bands.map(|(i, band)| (&band.name, "line band", band_colour(colours, i)));
    for (name, class, colour) in curves.chain(bands) {
        let name = fitted(name, size.width - 44.0);
        let wide = text_width(&name) + 44.0;
        if x > 0.0 && x + wide > size.width {
            (x, line) = (0.0, line + 1);
        }
        let y = 12.0 + LEGEND_LINE * f64::from(line);
        let _ = write!(
            out,
            "<path class=\"{class} key s{colour}\" d=\"M{x:.1} {:.1}h18\"/>\
             <text class=\"legend\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 4.0,
            x + 24.0,
            escape(&name)
        );
        x += wide;
    }
    (out, line as usize + 1)
}

fn class(stroke: Stroke) -> &'static str {
    match stroke {
        Stroke::Line | Stroke::Dots => "line",
        Stroke::Faint => "line faint",
        Stroke::Dashed => "line dashed",
    }
}

/// The colour of the curve of its number.
fn band_colour(colours: &[usize], number: usize) -> usize {
    colours.get(number).copied().unwrap_or(number % SERIES_COLOURS)
}

/// What lies between two curves, in pieces between gaps: there along the upper, back along the lower.
fn area(out: &mut String, band: &Band, colour: usize, layout: &Layout) {
    let place = |&(x, [low, high]): &(f64, [f64; 2])| {
        let finite = low.is_finite() && high.is_finite();
        let y = |y: f64| if finite { layout.y(y) } else { None };
        Some((layout.x(x)?, y(low)?, y(high)?))
    };
    let places: Vec<_> = band.points.iter().map(place).collect();
    let mut path = String::new();
    for piece in places.split(Option::is_none) {
        let upper = piece.iter().flatten().map(|p| (p.0, p.2));
        let lower = piece.iter().rev().flatten().map(|p| (p.0, p.1));
        for (i, (x, y)) in upper.chain(lower).enumerate() {
            let letter = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{x:.1} {y:.1}");
        }
        if !piece.is_empty() {
            path.push('Z');
        }
    }
    if !path.is_empty() {
        let _ = write!(out, "<path class=\"band area s{colour}\" d=\"{path}\"/>");
    }
}

fn curve(out: &mut String, series: &Series, colour: usize, layout: &Layout) {
    let class = class(series.stroke);
    let places = series.points.iter().map(|&(x, y)| {
        let y = if y.is_finite() { layout.y(y) } else { None };
        Some((layout.x(x)?, y?))
    });
    let pieces = thinned(places);
    let mut path = String::new();
    for piece in &pieces {
        // A line to itself shows a point that stands alone, as its ends are round.
        let alone = (piece.len() == 1).then(|| piece[0]);
        for (i, (x, y)) in piece.iter().copied().chain(alone).enumerate() {
            let letter = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{x:.1} {y:.1}");
        }
    }
    if !path.is_empty() {
        let _ = write!(out, "<path class=\"{class} s{colour}\" d=\"{path}\"/>");
    }
    if series.stroke == Stroke::Dots {
        for (x, y) in pieces.iter().flatten() {
            let _ = write!(
                out,
                "<circle class=\"dot s{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\"/>"
            );
        }
    }
}

type Place = (f64, f64);

/// The pieces of a curve between its gaps, with at most four points a pixel column: the first, the lowest,
/// the highest and the last, which look like all of them.
fn thinned(places: impl Iterator<Item = Option<Place>>) -> Vec<Vec<Place>> {
    let mut pieces: Vec<Vec<Place>> = vec![Vec::new()];
    let mut column: Vec<Place> = Vec::new();
    let mut settle = |column: &mut Vec<Place>, gap: bool| {
        let keep = |i: usize, column: &[Place]| {
            let y = column[i].1;
            let later = |p: &Place| p.1;
            i == 0
                || i + 1 == column.len()
                || (y < column.iter().take(i).map(later).fold(f64::MAX, f64::min)
                    && y <= column.iter().map(later).fold(f64::MAX, f64::min))
                || (y > column.iter().take(i).map(later).fold(f64::MIN, f64::max)
                    && y >= column.iter().map(later).fold(f64::MIN, f64::max))
        };
        let kept: Vec<Place> =
            (0..column.len()).filter(|&i| keep(i, column)).map(|i| column[i]).collect();
        if let Some(piece) = pieces.last_mut() {
            piece.extend(kept);
        }
        column.clear();
        if gap && pieces.last().is_some_and(|piece| !piece.is_empty()) {
            pieces.push(Vec::new());
        }
    };
    for place in places {
        match place {
            Some(place) => {
                if column.last().is_some_and(|last| last.0.floor() != place.0.floor()) {
                    settle(&mut column, false);
                }
                column.push(place);
            }
            None => settle(&mut column, true),
        }
    }
    settle(&mut column, true);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_keeps_its_extremes_and_its_gaps() {
        let mut places: Vec<_> =
            (0..1000).map(|i| Some((10.0 + f64::from(i) / 1000.0, 5.0))).collect();
        places[300] = Some((10.3, 1.0));
        places[700] = Some((10.7, 9.0));
        let pieces = thinned(places.iter().copied());
        assert_eq!(pieces[0].len(), 4);
        assert_eq!([pieces[0][1].1, pieces[0][2].1], [1.0, 9.0]);
        places[500] = None;
        assert_eq!(thinned(places.into_iter()).len(), 2);
        assert!(thinned([None, None].into_iter()).is_empty());
    }

    #[test]
    fn means_share_the_colour_of_what_they_are_means_of() {
        let series = [Stroke::Faint, Stroke::Line, Stroke::Line, Stroke::Faint, Stroke::Dashed]
            .map(|stroke| Series::new("", []).stroke(stroke));
        assert_eq!(colours(&series), [0, 0, 1, 2, 2]);
    }

    #[test]
    fn bands_stretch_the_axis_and_have_gaps() {
        let points =
            [(0.0, [-90.0, 90.0]), (1.0, [f64::NAN, 2.0]), (2.0, [1.0, 2.0]), (3.0, [1.0, 3.0])];
        let chart = LineChart::new("a", "b", "c")
            .series(Series::new("curve", [(0.0, 1.0), (3.0, 2.0)]))
            .band(Band::new("80 %", points));
        let text = svg(&chart, WIDE, "");
        let (_, path) = text.split_once("class=\"band area s0\" d=\"").unwrap();
        let path = &path[..path.find('"').unwrap()];
        // A piece of one point, one of two: there and back.
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1 + 3), "{path}");
        assert!(text.contains(">80 %</text>") && text.contains(">−50<") || text.contains(">-50<"));
    }

    #[test]
    fn any_numbers_make_a_picture() {
        let odd = [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, 0.0, -1.0, 1e-320];
        let points: Vec<_> = odd.iter().flat_map(|&x| odd.map(|y| (x, y))).collect();
        for chart in [
            LineChart::new("", "", ""),
            LineChart::new("a", "b", "c").series(Series::new("d", points.clone())),
            LineChart::new("a", "b", "c").log_x().log_y().series(Series::new("d", points)),
            LineChart::new("a", "b", "c").y_range(f64::NAN, 1.0).mark(f64::NAN, "x"),
            LineChart::new("a", "b", "c").log_y().band(Band::new("d", odd.map(|x| (x, [x, 1.0])))),
            (0..200).fold(LineChart::new("a", "b", "c"), |chart, _| {
                chart.series(Series::new("a name ".repeat(50), [(1.0, 2.0)]))
            }),
        ] {
            let text = svg(&chart, NARROW, "");
            assert!(
                !text.contains("width=\"-")
                    && !text.contains("height=\"-")
                    && !text.contains("NaN\"")
                    && !text.contains("inf"),
                "{text}"
            );
        }
    }
}
