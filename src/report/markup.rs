//! The HTML of a report's pieces.

use super::colour::Colours;
use super::items::{BarChart, HeatMap, Item, LineChart, Mark, Table, Tokens};
use super::lines::{NARROW, WIDE};
use super::text::{escape, short};
use super::{heat, lines};
use std::fmt::Write;

/// Appends an item; `number` counts the items of the page.
pub fn item(out: &mut String, item: &Item, number: usize) {
    match item {
        Item::Text { text } => {
            for paragraph in text.split("\n\n") {
                let _ = writeln!(out, "<p>{}</p>", escape(paragraph));
            }
        }
        Item::Facts { facts } => {
            out.push_str("<dl class=\"facts\">");
            for (key, value) in facts {
                let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(key), escape(value));
            }
            out.push_str("</dl>\n");
        }
        Item::Lines(chart) => line_chart(out, chart, number),
        Item::Heat(map) => heat_map(out, map, number),
        Item::Bars(chart) => bars(out, chart),
        Item::Table(table) => self::table(out, table),
        Item::Sample(sample) => {
            figure(out, &sample.title, "", |out| {
                let _ = write!(out, "<pre>{}</pre>", escape(&sample.text));
            });
        }
        Item::Tokens(tokens) => self::tokens(out, tokens),
    }
}

fn figure(out: &mut String, title: &str, note: &str, content: impl FnOnce(&mut String)) {
    out.push_str("<figure>");
    if !title.is_empty() || !note.is_empty() {
        let _ = write!(out, "<figcaption>{}", escape(title));
        if !note.is_empty() {
            let _ = write!(out, "<span class=\"note\">{}</span>", escape(note));
        }
        out.push_str("</figcaption>");
    }
    content(out);
    out.push_str("</figure>\n");
}

/// A picture for windows and paper, and one for phones, of which the style sheet shows one.
fn both(out: &mut String, number: usize, svg: impl Fn(lines::Size, &str) -> String) {
    let data = format!("data-item=\"{number}\"");
    for (class, size) in [("wide", WIDE), ("narrow", NARROW)] {
        let _ = write!(out, "<div class=\"{class}\">{}</div>", svg(size, &data));
    }
}

fn line_chart(out: &mut String, chart: &LineChart, number: usize) {
    figure(out, &chart.title, "", |out| {
        both(out, number, |size, data| lines::svg(chart, size, data));
    });
}

fn heat_map(out: &mut String, map: &HeatMap, number: usize) {
    let blocks = heat::block_note(map, WIDE).unwrap_or_default();
    let between = if map.note.is_empty() || blocks.is_empty() { "" } else { "; " };
    figure(out, &map.title, &format!("{}{between}{blocks}", map.note), |out| {
        both(out, number, |size, data| heat::svg(map, size, data));
    });
}

fn bars(out: &mut String, chart: &BarChart) {
    let finite = || chart.bars.iter().map(|b| b.1).filter(|v| v.is_finite());
    let (low, high) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
    // Halves, as the difference of two large numbers may be infinite.
    let share = |v: f64| 100.0 * (v / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    let share = |v: f64| if high > low { share(v) } else { 0.0 };
    let zero = share(0.0);
    figure(out, &chart.title, &chart.unit, |out| {
        let _ = write!(out, "<div class=\"bars\" style=\"--zero:{zero:.2}%\">");
        for (name, value) in &chart.bars {
            let _ = write!(out, "<span>{}</span><div class=\"track\">", escape(name));
            if value.is_finite() {
                let (from, to) = (share(value.min(0.0)), share(value.max(0.0)));
                let less = if *value < 0.0 { " class=\"less\"" } else { "" };
                let _ =
                    write!(out, "<i{less} style=\"left:{from:.2}%;width:{:.2}%\"></i>", to - from);
            }
            let _ = write!(out, "</div><span>{}</span>", short(*value));
        }
        out.push_str("</div>");
    });
}

/// Whether a cell reads as a number, with its unit or without.
fn is_amount(cell: &str) -> bool {
    let start = cell.trim_start_matches(['-', '−', '+', '±', '~', '×', '.', ' ']);
    cell.is_empty()
        || start.starts_with(|c: char| c.is_ascii_digit())
        || ["NaN", "∞", "–"].contains(&start)
}

fn table(out: &mut String, table: &Table) {
    let columns = table.rows.iter().map(Vec::len).chain([table.header.len()]).max().unwrap_or(0);
    let cell = |row: &[String], i: usize| row.get(i).cloned().unwrap_or_default();
    let amounts: Vec<bool> = (0..columns)
        .map(|i| i > 0 && table.rows.iter().all(|row| is_amount(&cell(row, i))))
        .collect();
    let line = |out: &mut String, row: &[String], tag: &str| {
        out.push_str("<tr>");
        for (i, amount) in amounts.iter().enumerate() {
            let class = if *amount { " class=\"amount\"" } else { "" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escape(&cell(row, i)));
        }
        out.push_str("</tr>");
    };
    figure(out, &table.title, "", |out| {
        out.push_str("<div class=\"scroll\"><table><thead>");
        line(out, &table.header, "th");
        out.push_str("</thead><tbody>");
        table.rows.iter().for_each(|row| line(out, row, "td"));
        out.push_str("</tbody></table></div>");
    });
}

fn tokens(out: &mut String, tokens: &Tokens) {
    let value = |mark: Mark| if let Mark::Value(v) = mark { Some(v) } else { None };
    let colours = Colours::over(tokens.scale, tokens.tokens.iter().filter_map(|t| value(t.mark)));
    let mut legend = Vec::new();
    let has = |mark: Mark| tokens.tokens.iter().any(|t| t.mark == mark);
    if has(Mark::Right) {
        legend.push("<span class=\"right\">right</span>".to_string());
    }
    if has(Mark::Wrong) {
        legend.push("<span class=\"wrong\">wrong</span>".to_string());
    }
    if tokens.tokens.iter().any(|t| value(t.mark).is_some()) {
        let ends = colours.ends();
        for (end, level) in
            ends.into_iter().zip([0, super::colour::LEVELS / 2, super::colour::LEVELS - 1])
        {
            legend.push(format!(
                "<span class=\"value {}\">{}</span>",
                colours.class(level),
                short(end)
            ));
        }
    }
    figure(out, &tokens.title, "", |out| {
        if !legend.is_empty() {
            let _ = write!(out, "<p class=\"key\">{}</p>", legend.join(" "));
        }
        out.push_str("<div class=\"tokens\">");
        for token in &tokens.tokens {
            let class = match token.mark {
                Mark::Plain => String::new(),
                Mark::Right => "right".to_string(),
                Mark::Wrong => "wrong".to_string(),
                Mark::Value(v) => match colours.level(v) {
                    Some(level) => format!("value {}", colours.class(level)),
                    None => "hole".to_string(),
                },
            };
            let note = match (value(token.mark), token.note.as_str()) {
                (Some(v), "") => short(f64::from(v)),
                (_, note) => note.to_string(),
            };
            out.push_str("<span");
            if !class.is_empty() {
                let _ = write!(out, " class=\"{class}\"");
            }
            if !note.is_empty() {
                let _ = write!(out, " title=\"{}\"", escape(&note));
            }
            let _ = write!(out, ">{}</span>", escape(&token.text));
        }
        out.push_str("</div>");
    });
}
