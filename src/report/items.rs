//! What a report is made of.

use crate::error::{Error, Result};
use serde::{Serialize, Serializer};

/// A piece of a section.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each holds the type of its name")]
pub enum Item {
    Text { text: String },
    Facts { facts: Vec<(String, String)> },
    Lines(LineChart),
    Bars(BarChart),
    Heat(HeatMap),
    Table(Table),
    Sample(Sample),
    Tokens(Tokens),
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stroke {
    /// A line.
    #[default]
    Line,
    /// A thin pale line, as of single steps behind their mean. It has the colour of the series before it.
    Faint,
    /// A dashed line.
    Dashed,
    /// A dot at each point and a line through them.
    Dots,
}

/// A curve. A point that is no number, or has no place on a logarithmic axis, interrupts it.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Points (x, y), in the order of x.
    #[serde(serialize_with = "short_points")]
    pub points: Vec<(f64, f64)>,
}

/// Values that were f32 are written as such: with half the digits, and as exactly.
fn short_points<S: Serializer>(points: &[(f64, f64)], to: S) -> Result<S::Ok, S::Error> {
    let point = |&(x, y): &(f64, f64)| match f64::from(y as f32) == y {
        true => Point::F32(x, y as f32),
        false => Point::F64(x, y),
    };
    to.collect_seq(points.iter().map(point))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Point {
    F32(f64, f32),
    F64(f64, f64),
}

impl Series {
    /// A line through points (x, y).
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().collect();
        Series { name: name.into(), stroke: Stroke::Line, points }
    }

    /// A line of values by steps, as a log has them.
    pub fn of_steps(name: impl Into<String>, points: &[(u64, f32)]) -> Self {
        Series::new(name, points.iter().map(|&(x, y)| (x as f64, f64::from(y))))
    }

    /// Draws it so.
    pub fn stroke(self, stroke: Stroke) -> Self {
        Series { stroke, ..self }
    }

    /// The mean over `around` points about each: a calmer line behind which the series itself may stand
    /// faintly. What is no number is left out of the means.
    pub fn mean(&self, name: impl Into<String>, around: usize) -> Self {
        let half = around / 2;
        let (mut sums, mut counts) = (vec![0.0], vec![0usize]);
        for &(_, y) in &self.points {
            let finite = y.is_finite();
            sums.push(sums[sums.len() - 1] + if finite { y } else { 0.0 });
            counts.push(counts[counts.len() - 1] + usize::from(finite));
        }
        let mean = |i: usize| {
            let (from, to) = (i.saturating_sub(half), (i + half + 1).min(self.points.len()));
            (sums[to] - sums[from]) / (counts[to] - counts[from]) as f64
        };
        let points = self.points.iter().enumerate().map(|(i, &(x, _))| (x, mean(i)));
        Series::new(name, points)
    }
}

/// What lies between two curves. A point that is no number, or has no place on a logarithmic axis, interrupts it.
#[derive(Clone, Debug, Serialize)]
pub struct Band {
    /// What the legend calls it.
    pub name: String,
    /// Points (x, \[low, high\]), in the order of x.
    pub points: Vec<(f64, [f64; 2])>,
}

impl Band {
    /// A band through points (x, \[low, high\]).
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, [f64; 2])>) -> Self {
        Band { name: name.into(), points: points.into_iter().collect() }
    }
}

/// Curves over one pair of axes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LineChart {
    /// The caption.
    pub title: String,
    /// What lies on the horizontal axis, with its unit.
    pub x_label: String,
    /// What lies on the vertical axis, with its unit.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic.
    pub x_log: bool,
    /// Whether the vertical axis is logarithmic.
    pub y_log: bool,
    /// The ends of the vertical axis, where they are not to be those of the values.
    pub y_range: Option<[f64; 2]>,
    /// The curves.
    pub series: Vec<Series>,
    /// Bands, behind the curves; each has the colour of the curve of its number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bands: Vec<Band>,
    /// Upright lines: where, and what they say.
    pub marks: Vec<(f64, String)>,
}

impl LineChart {
    /// A chart without curves, linear both ways.
    pub fn new(title: impl Into<String>, x: impl Into<String>, y: impl Into<String>) -> Self {
        let (title, x_label, y_label) = (title.into(), x.into(), y.into());
        LineChart { title, x_label, y_label, ..LineChart::default() }
    }

    /// Makes the horizontal axis logarithmic.
    pub fn log_x(self) -> Self {
        LineChart { x_log: true, ..self }
    }

    /// Makes the vertical axis logarithmic.
    pub fn log_y(self) -> Self {
        LineChart { y_log: true, ..self }
    }

    /// Sets the ends of the vertical axis; what lies outside is cut off.
    pub fn y_range(self, low: f64, high: f64) -> Self {
        LineChart { y_range: Some([low, high]), ..self }
    }

    /// Adds a curve.
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Adds a band.
    pub fn band(mut self, band: Band) -> Self {
        self.bands.push(band);
        self
    }

    /// Adds an upright line at `x`.
    pub fn mark(mut self, x: f64, text: impl Into<String>) -> Self {
        self.marks.push((x, text.into()));
        self
    }
}

/// Named values as bars from zero.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BarChart {
    /// The caption.
    pub title: String,
    /// The values' unit.
    pub unit: String,
    /// Names and values, from top to bottom.
    pub bars: Vec<(String, f64)>,
}

impl BarChart {
    /// A chart without bars.
    pub fn new(title: impl Into<String>, unit: impl Into<String>) -> Self {
        BarChart { title: title.into(), unit: unit.into(), bars: Vec::new() }
    }

    /// Adds a bar.
    pub fn bar(mut self, name: impl Into<String>, value: f64) -> Self {
        self.bars.push((name.into(), value));
        self
    }
}

/// How a heat map's values become colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeatScale {
    /// From the smallest value to the largest.
    #[default]
    Linear,
    /// From 0 both ways, as far as the largest absolute value.
    Diverging,
    /// By the logarithm, from the smallest value above 0 to the largest; what is not above 0 has the colour
    /// of what is no number.
    Log,
    /// Linear, between two ends; values beyond have the ends' colours.
    Between(f32, f32),
}

/// The names along one side of a heat map.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Names {
    /// What lies along the side, as "time step".
    pub label: String,
    /// The name of each row or column; none where they are counted from 0.
    pub names: Vec<String>,
}

impl Names {
    /// The name at a place.
    pub fn at(&self, index: usize) -> String {
        self.names.get(index).cloned().unwrap_or_else(|| index.to_string())
    }
}

/// Values in rows and columns as colours.
#[derive(Clone, Debug, Serialize)]
pub struct HeatMap {
    /// The caption.
    pub title: String,
    /// How many rows, from top to bottom.
    pub(super) rows: usize,
    /// How many columns.
    pub(super) columns: usize,
    /// The values, row by row.
    pub(super) values: Vec<f32>,
    /// How values become colours.
    pub scale: HeatScale,
    /// What the rows are.
    pub row_names: Names,
    /// What the columns are.
    pub column_names: Names,
    /// What stands in each cell, row by row, where there is room; nothing where it is empty.
    pub texts: Vec<String>,
    /// A line under the caption.
    pub note: String,
}

impl HeatMap {
    /// A map of `rows`·`columns` values, row by row.
    ///
    /// # Errors
    /// There are more or fewer values, or none.
    pub fn new(
        title: impl Into<String>,
        [rows, columns]: [usize; 2],
        values: Vec<f32>,
    ) -> Result<Self> {
        let title = title.into();
        if values.is_empty() || rows.checked_mul(columns) != Some(values.len()) {
            return Err(Error::shape(
                format!("the heat map '{title}'"),
                &[rows, columns],
                &[values.len()],
            ));
        }
        let (scale, note, texts) = (HeatScale::Linear, String::new(), Vec::new());
        let (row_names, column_names) = (Names::default(), Names::default());
        Ok(HeatMap { title, rows, columns, values, scale, row_names, column_names, texts, note })
    }

    /// How many of each true class were taken for which: rows are the truth, columns what was predicted,
    /// `counts` \[classes, classes\]. The colours are shares of a row.
    ///
    /// # Errors
    /// There are not classes² counts, or no classes.
    pub fn confusion(title: impl Into<String>, classes: &[String], counts: &[u64]) -> Result<Self> {
        let n = classes.len();
        let title = title.into();
        if n == 0 || counts.len() != n * n {
            return Err(Error::shape(
                format!("the confusion matrix '{title}'"),
                &[n, n],
                &[counts.len()],
            ));
        }
        let shares = counts.chunks(n).flat_map(|row| {
            // In floats, as the sum of counts may be more than a count.
            let all: f64 = row.iter().map(|&c| c as f64).sum();
            row.iter().map(move |&c| if all > 0.0 { (c as f64 / all) as f32 } else { 0.0 })
        });
        let all: f64 = counts.iter().map(|&c| c as f64).sum();
        let right: f64 = counts.iter().step_by(n + 1).map(|&c| c as f64).sum();
        let names = |label: &str| Names { label: label.to_string(), names: classes.to_vec() };
        let mut map = HeatMap::new(title, [n, n], shares.collect())?;
        map.scale = HeatScale::Between(0.0, 1.0);
        map.row_names = names("truth");
        map.column_names = names("predicted");
        map.texts = counts.iter().map(u64::to_string).collect();
        map.note = match all > 0.0 {
            true => format!(
                "{right} of {all} right ({:.2} %); colours are shares of a row",
                100.0 * right / all
            ),
            false => "nothing was classified".to_string(),
        };
        Ok(map)
    }

    /// Sets how values become colours.
    pub fn scale(self, scale: HeatScale) -> Self {
        HeatMap { scale, ..self }
    }

    /// Says what the rows are, and their names from the top; without names they are counted.
    pub fn rows_are(mut self, label: impl Into<String>, names: Vec<String>) -> Self {
        self.row_names = Names { label: label.into(), names };
        self
    }

    /// Says what the columns are, and their names; without names they are counted.
    pub fn columns_are(mut self, label: impl Into<String>, names: Vec<String>) -> Self {
        self.column_names = Names { label: label.into(), names };
        self
    }

    /// Writes the values into the cells, where there is room.
    pub fn with_numbers(mut self) -> Self {
        self.texts = self.values.iter().map(|&v| super::text::short(f64::from(v))).collect();
        self
    }
}

/// A table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// The caption.
    pub title: String,
    /// The names of the columns.
    pub header: Vec<String>,
    /// The rows; one that is too short is filled up. Columns of numbers stand right-aligned.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(
        title: impl Into<String>,
        header: impl IntoIterator<Item = S>,
    ) -> Self {
        let header = header.into_iter().map(Into::into).collect();
        Table { title: title.into(), header, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }
}

/// A text as it is, lines and spaces included.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The caption.
    pub title: String,
    /// The text.
    pub text: String,
}

impl Sample {
    /// A text under its caption.
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Sample { title: title.into(), text: text.into() }
    }
}

/// What the background of a piece of text says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Nothing.
    #[default]
    Plain,
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
    /// A value, on the scale of its text.
    Value(f32),
}

/// A piece of text with a background.
#[derive(Clone, Debug, Serialize)]
pub struct Token {
    /// The piece, spaces included.
    pub text: String,
    /// Its background.
    pub mark: Mark,
    /// What a pointer over it shows.
    pub note: String,
}

/// A text whose pieces have backgrounds: what a model got right, or a value of each token.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tokens {
    /// The caption.
    pub title: String,
    /// How values become colours.
    pub scale: HeatScale,
    /// The pieces, in order.
    pub tokens: Vec<Token>,
}

impl Tokens {
    /// A text without pieces, its values on `scale`.
    pub fn new(title: impl Into<String>, scale: HeatScale) -> Self {
        Tokens { title: title.into(), scale, tokens: Vec::new() }
    }

    /// Adds a piece.
    pub fn token(self, text: impl Into<String>, mark: Mark) -> Self {
        self.noted(text, mark, "")
    }

    /// Adds a piece with a note that a pointer over it shows.
    pub fn noted(mut self, text: impl Into<String>, mark: Mark, note: impl Into<String>) -> Self {
        self.tokens.push(Token { text: text.into(), mark, note: note.into() });
        self
    }
}

macro_rules! item_from {
    ($($variant:ident $type:ty),*) => {$(
        impl From<$type> for Item {
            fn from(item: $type) -> Item {
                Item::$variant(item)
            }
        }
    )*};
}

item_from!(Lines LineChart, Bars BarChart, Heat HeatMap, Table Table, Sample Sample, Tokens Tokens);
