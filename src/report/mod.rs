//! Reports: one HTML file that shows what came out of a run, and holds its numbers for programs.
//!
//! ```
//! use recurra::report::{LineChart, Report, Series};
//! let mut report = Report::new("An LSTM on Shakespeare");
//! report.facts([("hidden units", "128"), ("steps", "3000")]);
//! report.section("Loss").add(
//!     LineChart::new("Loss by step", "step", "nats per character")
//!         .series(Series::new("training", [(1.0, 4.2), (2.0, 3.9)])),
//! );
//! assert!(report.html().contains("<svg"));
//! ```
//!
//! The file loads nothing: pictures are inline SVG, style and script stand in it, and a policy in its head
//! forbids the rest. Without JavaScript all of it can be read; with it a pointer shows values. The numbers
//! are in the element `recurra-data`, as JSON; what is no number is null there.

mod axis;
mod colour;
mod heat;
mod items;
mod lines;
mod markup;
mod text;

pub use items::{
    Band, BarChart, HeatMap, HeatScale, Item, LineChart, Mark, Names, Sample, Series, Stroke,
    Table, Token, Tokens,
};

use crate::error::{Error, Result};
use crate::format::write_atomic;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use text::{escape, json_in_script};

/// The version of the data's form.
const DATA_VERSION: u32 = 1;
/// Sections from which on a list of them stands at the top.
const SECTIONS_WITH_LIST: usize = 4;

const CHART_STYLE: &str = include_str!("chart.css");
const PAGE_STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Nothing may be loaded or sent.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

#[derive(Clone, Debug, Serialize)]
struct Section {
    heading: String,
    items: Vec<Item>,
}

/// A report that is being put together. All texts are texts: markup in them shows as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    version: u32,
    title: String,
    subtitle: String,
    /// The first has no heading.
    sections: Vec<Section>,
}

impl Report {
    /// A report with nothing but a title.
    pub fn new(title: impl Into<String>) -> Self {
        let first = Section { heading: String::new(), items: Vec::new() };
        let (title, subtitle) = (title.into(), String::new());
        Report { version: DATA_VERSION, title, subtitle, sections: vec![first] }
    }

    /// Sets the line under the title.
    pub fn subtitle(&mut self, text: impl Into<String>) -> &mut Self {
        self.subtitle = text.into();
        self
    }

    /// Begins a section: what is added from now on is in it.
    pub fn section(&mut self, heading: impl Into<String>) -> &mut Self {
        self.sections.push(Section { heading: heading.into(), items: Vec::new() });
        self
    }

    /// Adds a chart, a map, a table, a text with backgrounds …
    pub fn add(&mut self, item: impl Into<Item>) -> &mut Self {
        if let Some(section) = self.sections.last_mut() {
            section.items.push(item.into());
        }
        self
    }

    /// Adds text; an empty line begins a new paragraph.
    pub fn text(&mut self, text: impl Into<String>) -> &mut Self {
        self.add(Item::Text { text: text.into() })
    }

    /// Adds names and their values.
    pub fn facts<K: Into<String>, V: Into<String>>(
        &mut self,
        facts: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        let facts = facts.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self.add(Item::Facts { facts })
    }

    /// The page.
    pub fn html(&self) -> String {
        let mut out = String::new();
        let title = escape(&self.title);
        let _ = write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"generator\" content=\"recurra {}\">\n<title>{title}</title>\n<style>\n",
            env!("CARGO_PKG_VERSION")
        );
        for style in [PAGE_STYLE, CHART_STYLE, &colour::style()] {
            out.push_str(style);
        }
        let _ = write!(out, "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n");
        if !self.subtitle.is_empty() {
            let _ = writeln!(out, "<p class=\"subtitle\">{}</p>", escape(&self.subtitle));
        }
        out.push_str("</header>\n");
        let headed = || self.sections.iter().enumerate().filter(|(_, s)| !s.heading.is_empty());
        if headed().count() >= SECTIONS_WITH_LIST {
            out.push_str("<nav>");
            for (i, section) in headed() {
                let _ = write!(out, "<a href=\"#section-{i}\">{}</a> ", escape(&section.heading));
            }
            out.push_str("</nav>\n");
        }
        let mut number = 0;
        for (i, section) in self.sections.iter().enumerate() {
            let _ = writeln!(out, "<section id=\"section-{i}\">");
            if !section.heading.is_empty() {
                let _ = writeln!(out, "<h2>{}</h2>", escape(&section.heading));
            }
            for item in &section.items {
                markup::item(&mut out, item, number);
                number += 1;
            }
            out.push_str("</section>\n");
        }
        let _ = write!(
            out,
            "<footer>Made by recurra {}</footer>\n</main>\n\
             <script type=\"application/json\" id=\"recurra-data\">{}</script>\n\
             <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            json_in_script(&serde_json::to_string(self).unwrap_or_default())
        );
        out
    }

    /// Writes the page, atomically.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, self.html().as_bytes())
    }
}

impl LineChart {
    /// The chart with its title as an SVG file of its own, for light and dark pages, 800 CSS pixels wide.
    pub fn svg(&self) -> String {
        let picture = lines::picture(self, lines::WIDE);
        // Room around it, and for the title.
        let (width, height) = (lines::WIDE.width + 40.0, picture.height + 64.0);
        let background = "svg.chart{background:#fdfdfb;width:auto}.chart .title{fill:#22252b;font-size:15px;\
                          font-weight:600}@media screen and (prefers-color-scheme:dark){svg.chart{\
                          background:#17191d}.chart .title{fill:#e2e3e6}}";
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" \
             width=\"{width}\" height=\"{height}\" viewBox=\"-20 -48 {width} {height}\" {}>\
             <style>{CHART_STYLE}{background}</style><text class=\"title\" y=\"-20\">{}</text>{}</svg>\n",
            picture.attributes,
            escape(&self.title),
            picture.content
        )
    }

    /// Writes the chart as an SVG file of its own, atomically.
    ///
    /// # Errors
    /// The file can't be written, or no point can be drawn.
    pub fn write_svg(&self, path: &Path) -> Result<()> {
        let drawable = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        if !self.series.iter().flat_map(|s| &s.points).any(drawable) {
            return Err(Error::invalid(format!("the chart '{}' has no point to draw", self.title)));
        }
        write_atomic(path, self.svg().as_bytes())
    }
}
