//! Measured shapes against the roofline, as a picture.

use super::DeviceRates;
use crate::error::{Error, Result};
use crate::format::write_atomic;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;
use std::path::Path;

/// One measured shape.
#[derive(Clone, Debug, PartialEq)]
pub struct RooflinePoint {
    /// What the list beside the picture calls it.
    pub name: String,
    /// Its cell: points of one cell have one colour.
    pub cell: &'static str,
    /// Floating-point operations a byte.
    pub intensity: f64,
    /// 10⁹ operations a second that were reached.
    pub gflops: f64,
    /// 10⁹ operations a second in the predicted time, launches included.
    pub predicted_gflops: f64,
}

/// The side of the square that holds the axes, in pixels.
const PLOT: i32 = 560;
/// Where it lies.
const LEFT: i32 = 76;
const TOP: i32 = 76;
/// The width of the list beside it, and the height of a line.
const LIST: i32 = 470;
const LINE: i32 = 15;

/// Predicted rates of more points than this stand in the list alone.
const MOST_DASHES: usize = 16;

const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 140, 44),
    RGBColor(148, 103, 189),
    RGBColor(200, 110, 0),
    RGBColor(90, 90, 90),
];
const GRID: RGBColor = RGBColor(228, 228, 228);
const TEXT: RGBColor = RGBColor(60, 60, 60);

/// Draws points over their arithmetic intensity, both axes logarithmic, under the roof that the copy
/// bandwidth and the product rate of a device make; as an SVG that any browser opens. Points are
/// numbered, and listed beside the picture. Where there are few, a dash above a point is its predicted
/// rate. `notes` stand under the title.
///
/// # Errors
/// The file can't be written.
pub fn roofline(
    path: &Path,
    title: &str,
    notes: &str,
    rates: &DeviceRates,
    points: &[RooflinePoint],
) -> Result<()> {
    let mut text = String::new();
    draw(&mut text, title, notes, rates, points)
        .map_err(|e| Error::format(path, format!("the picture could not be drawn: {e}")))?;
    write_atomic(path, text.as_bytes())
}

/// A logarithmic axis: values, and the pixels they fall on.
struct Axis {
    values: Range<f64>,
    pixels: [i32; 2],
}

impl Axis {
    /// An axis with room around all of `values`, over a decade at least.
    fn around(values: impl Iterator<Item = f64>, pixels: [i32; 2]) -> Self {
        let usable = values.filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = usable.fold((f64::MAX, 0.0_f64), |(a, b), v| (a.min(v), b.max(v)));
        let (low, high) = if low > high { (1.0, 1.0) } else { (low, high) };
        let room = ((10.0 * low / high).sqrt()).max(1.6);
        Axis { values: low / room..high * room, pixels }
    }

    fn pixel(&self, value: f64) -> i32 {
        let Range { start, end } = self.values;
        let share = (value.clamp(start, end) / start).ln() / (end / start).ln();
        let [first, last] = self.pixels.map(f64::from);
        (first + share * (last - first)).round() as i32
    }

    /// 1, 2 and 5 times the powers of ten, and whether each has its number: where there are many
    /// decades only the powers have.
    fn ticks(&self) -> Vec<(f64, bool)> {
        let Range { start, end } = self.values;
        let all = (end / start).log10() < 3.0;
        (start.log10().floor() as i32..=end.log10().ceil() as i32)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit, digit * 10f64.powi(power))))
            .filter(|(_, value)| (start..=end).contains(value))
            .map(|(digit, value)| (value, all || digit == 1.0))
            .collect()
    }
}

/// A number as axes and lists have it: three digits, no more zeros than it takes.
fn short(value: f64) -> String {
    match value {
        v if v >= 99.5 => format!("{v:.0}"),
        v if v >= 9.95 => format!("{:.1}", v).trim_end_matches(".0").to_string(),
        v if v >= 0.0095 => {
            format!("{v:.2}").trim_end_matches('0').trim_end_matches('.').to_string()
        }
        v => format!("{v:.0e}"),
    }
}

/// A box on the picture: left, top, right, bottom.
type Area = [i32; 4];

fn meet(a: Area, b: Area) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// Where the number of each point goes: near it, on no mark, on no other number, on none of `blocked` and
/// within the axes.
fn number_places(marks: &[(i32, i32)], blocked: &[Area]) -> Vec<(i32, i32)> {
    let around = |(x, y): (i32, i32), w: i32, h: i32| [x - w, y - h, x + w, y + h];
    let mut taken: Vec<Area> = marks.iter().map(|&mark| around(mark, 5, 5)).collect();
    taken.extend_from_slice(blocked);
    let inside = |a: Area| a[0] > LEFT && a[2] < LEFT + PLOT && a[1] > TOP && a[3] < TOP + PLOT;
    let mut places = Vec::new();
    for (i, &(x, y)) in marks.iter().enumerate() {
        let width = if i < 9 { 5 } else { 8 };
        // Rings around the mark, to the right first.
        let ring = |step: i32| {
            let radius = f64::from(11 + 3 * step);
            (0..16).map(move |k| {
                let turn = f64::from(k) * std::f64::consts::PI / 8.0 - 0.4;
                let (dy, dx) = turn.sin_cos();
                (x + (dx * radius).round() as i32, y + (dy * radius).round() as i32)
            })
        };
        let free = |&place: &(i32, i32)| {
            let area = around(place, width, 6);
            inside(area) && !taken.iter().any(|&other| meet(area, other))
        };
        let place = (0..30).flat_map(ring).find(free).unwrap_or((x + 11, y));
        taken.push(around(place, width, 6));
        places.push(place);
    }
    places
}

fn draw(
    text: &mut String,
    title: &str,
    notes: &str,
    rates: &DeviceRates,
    points: &[RooflinePoint],
) -> Result<(), Box<dyn std::error::Error>> {
    let points: Vec<_> = points.iter().filter(|p| p.gflops > 0.0 && p.intensity > 0.0).collect();
    let (peak, bandwidth) = (rates.product_gflops, rates.copy_gbs);
    let ridge = peak / bandwidth;
    let roof = |intensity: f64| peak.min(bandwidth * intensity);
    let x = Axis::around(
        points.iter().map(|p| p.intensity).chain([ridge / 4.0, ridge * 4.0]),
        [LEFT, LEFT + PLOT],
    );
    let rates_seen = points.iter().flat_map(|p| [p.gflops, p.predicted_gflops]);
    let y = Axis::around(rates_seen.chain([peak / 4.0, peak]), [TOP + PLOT, TOP]);
    let (right, bottom) = (LEFT + PLOT, TOP + PLOT);

    let lines = points.len() as i32 + 2;
    let size = ((right + LIST) as u32, (bottom + 56).max(TOP + 12 + LINE * lines) as u32);
    let root = SVGBackend::with_string(text, size).into_drawing_area();
    root.fill(&WHITE)?;
    let write = |words: &str, at: (i32, i32), size: i32, colour: RGBColor, h: HPos| {
        let style = ("sans-serif", size).into_font().color(&colour);
        root.draw(&Text::new(words, at, style.pos(Pos::new(h, VPos::Center))))
    };
    let line = |from: (i32, i32), to: (i32, i32), style: ShapeStyle| {
        root.draw(&PathElement::new([from, to], style))
    };
    write(title, (LEFT, 24), 20, BLACK, HPos::Left)?;
    write(notes, (LEFT, 50), 14, TEXT, HPos::Left)?;

    // The axes.
    for (value, numbered) in x.ticks() {
        let at = x.pixel(value);
        line((at, TOP), (at, bottom), GRID.into())?;
        if numbered {
            write(&short(value), (at, bottom + 14), 14, TEXT, HPos::Center)?;
        }
    }
    for (value, numbered) in y.ticks() {
        let at = y.pixel(value);
        line((LEFT, at), (right, at), GRID.into())?;
        if numbered {
            write(&short(value), (LEFT - 8, at), 14, TEXT, HPos::Right)?;
        }
    }
    root.draw(&Rectangle::new([(LEFT, TOP), (right, bottom)], TEXT))?;
    let label = "operations a byte, each launch's operands once";
    write(label, (LEFT + PLOT / 2, bottom + 36), 15, BLACK, HPos::Center)?;
    let dashes = points.len() <= MOST_DASHES;
    if dashes {
        let label = "a dash above a mark: its predicted rate, launches included";
        write(label, (right, TOP - 12), 13, TEXT, HPos::Right)?;
    }
    let turned = ("sans-serif", 15).into_font().transform(FontTransform::Rotate270).color(&BLACK);
    let turned = turned.pos(Pos::new(HPos::Center, VPos::Center));
    root.draw(&Text::new("GFLOP/s, forward + backward", (22, TOP + PLOT / 2), turned))?;

    // The roof: from where the slope enters the picture to the ridge, and on.
    let enters = x.values.start.max(y.values.start / bandwidth);
    let corners = [enters, ridge, x.values.end].map(|i| (x.pixel(i), y.pixel(roof(i))));
    root.draw(&PathElement::new(corners, BLACK.stroke_width(2)))?;
    let words = format!("product {} GFLOP/s", short(peak));
    write(&words, (right - 6, y.pixel(peak) - 10), 14, BLACK, HPos::Right)?;
    let words = format!("copy {} GB/s", short(bandwidth));
    let (low, high) = (corners[0], corners[1]);
    let middle = ((low.0 + high.0) / 2 - 10, (low.1 + high.1) / 2 - 6);
    write(&words, middle, 14, BLACK, HPos::Right)?;

    // The flat roof and its words: no number goes there.
    let flat = y.pixel(peak);
    let blocked =
        [[corners[1].0, flat - 2, right, flat + 2], [right - 135, flat - 18, right, flat]];

    // The points.
    let mut cells: Vec<&str> = Vec::new();
    for point in &points {
        if !cells.contains(&point.cell) {
            cells.push(point.cell);
        }
    }
    let colour = |point: &RooflinePoint| {
        let place = cells.iter().position(|&cell| cell == point.cell).unwrap_or(0);
        COLOURS[place % COLOURS.len()]
    };
    let marks: Vec<_> = points.iter().map(|p| (x.pixel(p.intensity), y.pixel(p.gflops))).collect();
    for (point, &(px, py)) in points.iter().zip(&marks).filter(|_| dashes) {
        let pale = colour(point).mix(0.45);
        let top = y.pixel(point.predicted_gflops);
        root.draw(&DashedPathElement::new([(px, py), (px, top)], 2, 3, pale))?;
        line((px - 4, top), (px + 4, top), pale.into())?;
    }
    for (point, &mark) in points.iter().zip(&marks) {
        root.draw(&Circle::new(mark, 4, colour(point).filled()))?;
    }
    for (i, ((point, &mark), place)) in
        points.iter().zip(&marks).zip(number_places(&marks, &blocked)).enumerate()
    {
        // A number that had to go further away is led to its mark.
        let [dx, dy] = [place.0 - mark.0, place.1 - mark.1].map(f64::from);
        let away = dx.hypot(dy);
        if away > 15.0 {
            let near = |share: f64| {
                (mark.0 + (dx * share).round() as i32, mark.1 + (dy * share).round() as i32)
            };
            line(near(5.0 / away), near(1.0 - 8.0 / away), colour(point).mix(0.6).into())?;
        }
        write(&(i + 1).to_string(), place, 13, colour(point), HPos::Center)?;
    }

    // The list.
    let list = right + 18;
    let columns = [list + 16, list + 24, list + 350, list + 436];
    let head = TOP + 4;
    write("GFLOP/s", (columns[2], head), 13, TEXT, HPos::Right)?;
    write("of predicted", (columns[3], head), 13, TEXT, HPos::Right)?;
    for (i, point) in points.iter().enumerate() {
        let at = head + LINE * (i as i32 + 1) + 2;
        let share = 100.0 * point.gflops / point.predicted_gflops;
        write(&(i + 1).to_string(), (columns[0], at), 13, colour(point), HPos::Right)?;
        write(&point.name, (columns[1], at), 13, colour(point), HPos::Left)?;
        write(&short(point.gflops), (columns[2], at), 13, TEXT, HPos::Right)?;
        write(&format!("{share:.0} %"), (columns[3], at), 13, TEXT, HPos::Right)?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: DeviceRates = DeviceRates {
        product_gflops: 200.0,
        product_f16_gflops: None,
        products: [None; 2],
        copy_gbs: 20.0,
        launch_us: 1.0,
        submit_us: 0.5,
    };

    fn point(i: usize) -> RooflinePoint {
        let n = i as f64;
        RooflinePoint {
            name: format!("lstm <{i}> & more"),
            cell: if i.is_multiple_of(2) { "lstm" } else { "gru" },
            intensity: 8.0 * 2f64.powi(i as i32 % 4) + 0.02 * n,
            gflops: 40.0 + n * 7.0 % 50.0,
            predicted_gflops: 100.0 + n,
        }
    }

    #[test]
    fn every_point_has_a_mark_a_number_and_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roofline.svg");
        for count in [0, 1, 47] {
            let points: Vec<_> = (0..count).map(point).collect();
            roofline(&path, "a title", "a note", &RATES, &points).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.matches("<circle").count(), count);
            for i in 0..count {
                assert!(text.contains(&format!("lstm &lt;{i}&gt; &amp; more")), "{text}");
            }
            assert!(text.contains("product 200 GFLOP/s") && text.contains("copy 20 GB/s"));
        }
        let mut nothing = point(0);
        nothing.gflops = f64::NAN;
        roofline(&path, "", "", &RATES, &[nothing]).unwrap();
        let absent = folder.path().join("no/roofline.svg");
        assert!(roofline(&absent, "", "", &RATES, &[]).is_err());
    }

    #[test]
    fn numbers_lie_on_nothing() {
        // All in one place, and in a row.
        for step in [0, 3] {
            let marks: Vec<_> = (0..47).map(|i| (LEFT + 200 + step * i, TOP + 200)).collect();
            let blocked = [[LEFT + 190, TOP + 203, LEFT + 400, TOP + 205]];
            let places = number_places(&marks, &blocked);
            for (i, a) in places.iter().enumerate() {
                for b in &places[..i] {
                    assert!((a.0 - b.0).abs() >= 10 || (a.1 - b.1).abs() >= 12, "{a:?} {b:?}");
                }
                assert!(a.0 < LEFT + 190 || !(TOP + 200..TOP + 208).contains(&a.1), "{a:?}");
                for mark in &marks {
                    assert!((a.0 - mark.0).abs() >= 10 || (a.1 - mark.1).abs() >= 11);
                }
            }
        }
    }

    #[test]
    fn axes_are_logarithmic() {
        let axis = Axis { values: 1.0..100.0, pixels: [0, 200] };
        assert_eq!([1.0, 10.0, 100.0].map(|v| axis.pixel(v)), [0, 100, 200]);
        let ticks: Vec<_> = axis.ticks().into_iter().map(|t| t.0).collect();
        assert_eq!(ticks, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let around = Axis::around([5.0, 5.0, f64::NAN].into_iter(), [0, 1]).values;
        assert!((around.end / around.start - 10.0).abs() < 1e-9);
        assert_eq!([123.4, 45.67, 10.0, 2.0, 0.05].map(short), ["123", "45.7", "10", "2", "0.05"]);
    }
}
