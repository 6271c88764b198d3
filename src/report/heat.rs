//! Heat maps as SVG.

use super::colour::{Colours, LEVELS};
use super::items::{HeatMap, Names};
use super::lines::{CHARACTER, Size, text_width};
use super::text::{escape, short};
use std::fmt::Write;

/// The largest side of a cell.
const LARGEST_CELL: f64 = 38.0;
/// The most cells from top to bottom, and what they may take.
const MOST_ROWS: usize = 256;
const TALLEST: f64 = 460.0;
/// Room for the legend above the cells.
const LEGEND: f64 = 48.0;
/// The longest name that is shown whole.
const LONGEST_NAME: usize = 16;

/// Cells as they are drawn: large maps are drawn in blocks.
struct Cells {
    rows: usize,
    columns: usize,
    /// How many rows and columns of values a cell stands for.
    block: [usize; 2],
    values: Vec<f32>,
}

impl Cells {
    /// The mean of each block, so that there are at most `most` rows and columns. A value that is no number
    /// makes the whole block none: who looks at a map wants to see it.
    fn of(map: &HeatMap, most: [usize; 2]) -> Self {
        let block = [map.rows.div_ceil(most[0]).max(1), map.columns.div_ceil(most[1]).max(1)];
        let (rows, columns) = (map.rows.div_ceil(block[0]), map.columns.div_ceil(block[1]));
        if block == [1, 1] {
            return Cells { rows, columns, block, values: map.values.clone() };
        }
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let (mut sum, mut count) = (0.0, 0u32);
                for r in row * block[0]..((row + 1) * block[0]).min(map.rows) {
                    let from = column * block[1];
                    let to = (from + block[1]).min(map.columns);
                    for v in &map.values[r * map.columns + from..r * map.columns + to] {
                        (sum, count) = (sum + f64::from(*v), count + 1);
                    }
                }
                values.push((sum / f64::from(count)) as f32);
            }
        }
        Cells { rows, columns, block, values }
    }
}

/// The map at a size; the height follows from the rows. `attributes` go into the svg element.
pub fn svg(map: &HeatMap, size: Size, attributes: &str) -> String {
    let row_names: Vec<String> = (0..map.rows).map(|i| cut(&map.row_names.at(i))).collect();
    let widest = row_names.iter().map(|n| text_width(n)).fold(CHARACTER, f64::max);
    let left = widest + 10.0;
    let room = size.width - left - 2.0;
    let cells = Cells::of(map, [MOST_ROWS, (room as usize).max(1)]);
    let cell_width = (room / cells.columns as f64).min(LARGEST_CELL);
    // Few columns and many rows, or the other way: cells need not be squares.
    let tallest = (TALLEST / cells.rows as f64).min(LARGEST_CELL);
    let lowest = if cells.rows <= 16 { 18.0 } else { 13.0 };
    let cell_height = if tallest >= lowest { cell_width.clamp(lowest, tallest) } else { tallest };
    let (width, height) = (cell_width * cells.columns as f64, cell_height * cells.rows as f64);
    let top = LEGEND + if map.row_names.label.is_empty() { 0.0 } else { 18.0 };
    let (names, names_height) =
        column_names(&map.column_names, &cells, [left, top + height, cell_width]);
    let total =
        top + height + names_height + if map.column_names.label.is_empty() { 4.0 } else { 20.0 };

    let colours = Colours::over(map.scale, map.values.iter().copied());
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {} {total:.1}\" role=\"img\" aria-label=\"{}\" class=\"heat\" \
         data-plot=\"{left:.1},{top:.1},{width:.1},{height:.1}\" {attributes}>",
        size.width,
        escape(&map.title)
    );
    let holes = map.values.iter().any(|&v| colours.level(v).is_none());
    legend(&mut out, &colours, holes);
    if !map.row_names.label.is_empty() {
        let label = escape(&map.row_names.label);
        let _ = write!(out, "<text class=\"label\" x=\"0\" y=\"{:.1}\">{label}</text>", top - 8.0);
    }
    let every = (12.5 / (cell_height / cells.block[0] as f64)).ceil().max(1.0) as usize;
    for (i, name) in row_names.iter().enumerate().step_by(every) {
        let y = top + (i as f64 + 0.5) * cell_height / cells.block[0] as f64 + 4.0;
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            left - 6.0,
            escape(name)
        );
    }
    out.push_str(&names);
    if !map.column_names.label.is_empty() {
        let _ = write!(
            out,
            "<text class=\"label\" x=\"{left:.1}\" y=\"{:.1}\">{}</text>",
            total - 6.0,
            escape(&map.column_names.label)
        );
    }
    let _ = write!(
        out,
        "<g transform=\"translate({left:.2} {top:.2}) scale({cell_width:.5} {cell_height:.5})\" \
         shape-rendering=\"crispEdges\">"
    );
    paths(&mut out, &cells, &colours);
    out.push_str("</g>");
    if cells.block == [1, 1] {
        texts(&mut out, map, &colours, [left, top, cell_width, cell_height]);
    }
    out.push_str("</svg>");
    out
}

/// How many values a cell stands for, where it is more than one.
pub fn block_note(map: &HeatMap, size: Size) -> Option<String> {
    let cells = Cells::of(map, [MOST_ROWS, (size.width - 100.0) as usize]);
    let [rows, columns] = cells.block;
    (rows * columns > 1)
        .then(|| format!("a cell is the mean of {rows} × {columns} values or about that"))
}

/// A path for each colour, of runs of cells.
fn paths(out: &mut String, cells: &Cells, colours: &Colours) {
    let mut by_level: Vec<String> = vec![String::new(); LEVELS + 1];
    for (row, values) in cells.values.chunks(cells.columns).enumerate() {
        let mut start = 0;
        while start < values.len() {
            let level = colours.level(values[start]);
            let run = values[start..].iter().take_while(|&&v| colours.level(v) == level).count();
            let path = &mut by_level[level.unwrap_or(LEVELS)];
            let _ = write!(path, "M{start} {row}h{run}v1h-{run}z");
            start += run;
        }
    }
    for (level, path) in by_level.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let class = if level == LEVELS { "hole".to_string() } else { colours.class(level) };
        let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    }
}

/// What stands in the cells, where all of it fits.
fn texts(out: &mut String, map: &HeatMap, colours: &Colours, [left, top, width, height]: [f64; 4]) {
    let longest = map.texts.iter().map(|t| text_width(t)).fold(0.0, f64::max);
    if map.texts.is_empty() || longest + 3.0 > width || height < 13.0 {
        return;
    }
    for (i, (text, &value)) in map.texts.iter().zip(&map.values).enumerate() {
        let (row, column) = (i / map.columns, i % map.columns);
        let class = colours.level(value).map_or("hole".to_string(), |level| colours.class(level));
        let (x, y) =
            (left + (column as f64 + 0.5) * width, top + (row as f64 + 0.5) * height + 4.0);
        let _ = write!(
            out,
            "<text class=\"number {class}\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escape(text)
        );
    }
}

/// The colours with the values of their ends and middle, and that of what has no colour.
fn legend(out: &mut String, colours: &Colours, holes: bool) {
    let step = 4.6;
    for level in 0..LEVELS {
        let class = colours.class(level);
        // A little wider, so that no gap shows between two.
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"9\"/>",
            level as f64 * step,
            step + if level + 1 < LEVELS { 0.5 } else { 0.0 }
        );
    }
    let width = LEVELS as f64 * step;
    for (value, x, anchor) in colours
        .ends()
        .into_iter()
        .zip([0.0, width / 2.0, width])
        .zip(["start", "middle", "end"])
        .map(|((v, x), a)| (v, x, a))
    {
        let text = short(value);
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"24\">{text}</text>"
        );
    }
    if holes {
        let x = width + 16.0;
        let _ = write!(
            out,
            "<rect class=\"hole\" x=\"{x:.1}\" y=\"0\" width=\"16\" height=\"9\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"9\">no number</text>",
            x + 22.0
        );
    }
}

/// The columns' names under the cells, upright where they are longer than a column is wide; and the room
/// they take.
fn column_names(names: &Names, cells: &Cells, [left, top, cell]: [f64; 3]) -> (String, f64) {
    let block = cells.block[1];
    let pitch = cell / block as f64;
    let columns = cells.columns * block;
    let all: Vec<String> = match names.names.is_empty() {
        true => (0..columns).map(|i| i.to_string()).collect(),
        false => names.names.iter().take(columns).map(|n| cut(n)).collect(),
    };
    let widest = all.iter().map(|n| text_width(n)).fold(CHARACTER, f64::max);
    let mut out = String::new();
    let counted = names.names.is_empty();
    let upright = !counted && widest + 2.0 > pitch && widest > 1.5 * CHARACTER;
    // Numbers may skip some.
    let need = if upright { 13.0 } else { widest + if counted { 8.0 } else { 0.0 } };
    let mut every = (need / pitch).ceil().max(1.0) as usize;
    if !counted && every > 1 {
        // Every second character of a text would be another text. A pointer shows the names.
        return (out, 4.0);
    }
    if counted && every > 1 {
        let power = 10usize.pow((every as f64).log10() as u32);
        every = [1, 2, 5, 10].into_iter().map(|d| d * power).find(|&e| e >= every).unwrap_or(every);
    }
    for (i, name) in all.iter().enumerate().step_by(every) {
        let x = left + (i as f64 + 0.5) * pitch;
        let name = escape(name);
        let _ = if upright {
            write!(
                out,
                "<text class=\"tick\" text-anchor=\"end\" transform=\"translate({:.1} {:.1}) rotate(-90)\">{name}</text>",
                x + 4.0,
                top + 6.0
            )
        } else {
            write!(
                out,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text>",
                top + 15.0
            )
        };
    }
    (out, if upright { widest + 6.0 } else { 20.0 })
}

/// A name, cut where it is too long; spaces and line ends are made visible.
fn cut(name: &str) -> String {
    let shown = match name {
        " " => "␣".to_string(),
        name => name.replace('\n', "⏎").replace('\t', "⇥"),
    };
    match shown.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::{NARROW, WIDE};
    use super::*;

    #[test]
    fn large_maps_are_drawn_in_blocks_and_small_ones_as_they_are() {
        let map = HeatMap::new("m", [600, 5000], vec![1.0; 3_000_000]).unwrap();
        let cells = Cells::of(&map, [256, 600]);
        assert_eq!((cells.block, cells.rows, cells.columns), ([3, 9], 200, 556));
        assert!(cells.values.iter().all(|&v| v == 1.0));
        assert!(block_note(&map, WIDE).unwrap().contains("3 × 8"));
        assert!(svg(&map, WIDE, "").len() < 100_000);
        let map = HeatMap::new("m", [2, 2], vec![0.0, 1.0, f32::NAN, 2.0]).unwrap().with_numbers();
        let text = svg(&map, NARROW, "");
        assert!(text.contains("class=\"hole\" d=\"M0 1h1v1h-1z\"") && text.contains("no number"));
        assert!(text.contains(">NaN<"));
        assert_eq!(block_note(&map, WIDE), None);
        let mut values = vec![1.0; 400_000];
        values[0] = f32::NAN;
        let map = HeatMap::new("m", [4, 100_000], values).unwrap();
        assert!(svg(&map, NARROW, "").contains("d=\"M0 0h1v1h-1z\""));
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        assert!(HeatMap::new("m", [2, 2], vec![0.0; 3]).is_err());
        assert!(HeatMap::new("m", [0, 2], vec![]).is_err());
        assert!(HeatMap::new("m", [usize::MAX, 2], vec![0.0; 3]).is_err());
        let classes = ["a".to_string(), "b".to_string()];
        assert!(HeatMap::confusion("c", &classes, &[1, 2, 3]).is_err());
        let map = HeatMap::confusion("c", &classes, &[9, 1, 0, 0]).unwrap();
        assert_eq!(map.values, [0.9, 0.1, 0.0, 0.0]);
        assert!(map.note.starts_with("9 of 10 right (90.00 %)"));
    }
}
