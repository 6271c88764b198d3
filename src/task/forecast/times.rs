//! Times of rows: how they are written, how far apart they lie, and where they are in the day, the week and the year.

use crate::error::{Error, Result};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Timelike};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What steps of time are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Rows are counted; there are no times.
    Rows,
    /// Seconds since 1970.
    Seconds,
    /// Months since year 0.
    Months,
}

/// How times are written, and how far apart rows lie. A time is a number: of seconds since 1970, without a time zone;
/// of rows where there are no times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// What `step` counts.
    pub unit: Unit,
    /// The distance of two rows.
    pub step: i64,
    /// As chrono writes formats.
    pub format: String,
    /// Months whose last day is meant.
    #[serde(default, skip_serializing_if = "crate::task::network::is_false")]
    pub month_end: bool,
}

/// A cycle of the calendar, as sine and cosine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calendar {
    /// The time of day.
    Day,
    /// The day of the week, and the time of day as its fraction.
    Week,
    /// The day of the month.
    Month,
    /// The day of the year.
    Year,
}

/// RFC 3339, with the offset from Greenwich.
const OFFSET: &str = "rfc3339";
/// Several columns: year, month, day and so on.
const PARTS: &str = "parts";

/// Forms that are tried, in this order. Those that begin with a day or a month are not told apart by looking.
const FORMS: [&str; 13] = [
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%Y-%m",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    OFFSET,
];

/// The form of a time, if it is one of those that need not be named; of several cells, their number alone counts.
pub(super) fn form_of(text: &str, cells: usize) -> Option<String> {
    if cells > 1 {
        return parse(text, PARTS).map(|_| PARTS.to_string());
    }
    FORMS.into_iter().find(|form| parse(text, form).is_some()).map(str::to_string)
}

/// Seconds since 1970 of a time that is written in a form.
pub(super) fn parse(text: &str, form: &str) -> Option<i64> {
    let seconds = |time: NaiveDateTime| Some(time.and_utc().timestamp());
    match form {
        OFFSET => DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp()),
        PARTS => {
            let mut parts = [0i32, 1, 1, 0, 0, 0];
            for (i, cell) in text.split(' ').enumerate() {
                let number: i32 = cell.parse().ok()?;
                *parts.get_mut(i)? = number;
            }
            let [year, rest @ ..] = parts;
            let mut small = [0u32; 5];
            for (to, from) in small.iter_mut().zip(rest) {
                *to = u32::try_from(from).ok()?;
            }
            let [month, day, hour, minute, second] = small;
            let date = NaiveDate::from_ymd_opt(year, month, day)?;
            seconds(date.and_hms_opt(hour, minute, second)?)
        }
        "%Y-%m" => {
            let date = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()?;
            seconds(date.and_hms_opt(0, 0, 0)?)
        }
        _ => match NaiveDateTime::parse_from_str(text, form) {
            Ok(time) => seconds(time),
            Err(_) => {
                let date = NaiveDate::parse_from_str(text, form).ok()?;
                seconds(date.and_hms_opt(0, 0, 0)?)
            }
        },
    }
}

fn date(time: i64) -> NaiveDateTime {
    DateTime::from_timestamp(time, 0).unwrap_or_default().naive_utc()
}

fn month_number(time: NaiveDateTime) -> i64 {
    i64::from(time.year()) * 12 + i64::from(time.month0())
}

fn is_month_end(time: NaiveDateTime) -> bool {
    time.date().succ_opt().is_none_or(|next| next.day() == 1)
}

/// The most frequent of some steps; of several the shortest.
fn usual(steps: &[i64]) -> Option<i64> {
    let mut counts = std::collections::BTreeMap::new();
    steps.iter().for_each(|&s| *counts.entry(s).or_insert(0usize) += 1);
    counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|found| found.0)
}

impl Clock {
    /// Rows without times.
    pub fn rows() -> Self {
        Clock { unit: Unit::Rows, step: 1, format: String::new(), month_end: false }
    }

    /// The spacing of lists of rising times, one for each series. Months where all lie at the same day (or at the
    /// last) of their months, at the same hour.
    ///
    /// # Errors
    /// No series has two rows.
    pub fn of(series: &[Vec<i64>], format: &str) -> Result<Self> {
        let all: Vec<Vec<NaiveDateTime>> =
            series.iter().map(|times| times.iter().map(|&t| date(t)).collect()).collect();
        let flat = || all.iter().flatten().copied();
        let same_day = flat().map(|t| t.day()).min() == flat().map(|t| t.day()).max();
        let month_end = !same_day && flat().all(is_month_end);
        let same_hour = flat().map(|t| t.time()).min() == flat().map(|t| t.time()).max();
        let months: Vec<i64> = all
            .iter()
            .flat_map(|times| times.windows(2))
            .map(|pair| month_number(pair[1]) - month_number(pair[0]))
            .collect();
        let by_month = same_hour && (same_day || month_end) && months.iter().all(|&m| m > 0);
        let seconds = series.iter().flat_map(|times| times.windows(2)).map(|p| p[1] - p[0]);
        let (unit, steps) = match by_month {
            true => (Unit::Months, months),
            false => (Unit::Seconds, seconds.collect()),
        };
        let step = usual(&steps).filter(|&step| step > 0).ok_or_else(|| {
            Error::invalid("no series has two rows, so that their distance is unknown")
        })?;
        Ok(Clock { unit, step, format: format.to_string(), month_end })
    }

    /// The time so many steps behind another.
    pub fn after(&self, time: i64, steps: usize) -> i64 {
        let many = self.step.saturating_mul(steps as i64);
        match self.unit {
            Unit::Rows | Unit::Seconds => time.saturating_add(many),
            Unit::Months => {
                let from = date(time);
                let moved = from.checked_add_months(Months::new(many.clamp(0, 1 << 20) as u32));
                let moved = moved.unwrap_or(from);
                let ends = self.month_end && is_month_end(from) && !is_month_end(moved);
                let days = if ends { days_left(moved) } else { 0 };
                moved.and_utc().timestamp() + 86_400 * days
            }
        }
    }

    /// How many steps lie between two times; none where that is no whole number.
    pub fn between(&self, from: i64, to: i64) -> Option<i64> {
        let distance = match self.unit {
            Unit::Rows | Unit::Seconds => to.checked_sub(from)?,
            Unit::Months => month_number(date(to)) - month_number(date(from)),
        };
        (distance % self.step == 0).then(|| distance / self.step)
    }

    /// A time as it is written; of rows their number from 1.
    pub fn text(&self, time: i64) -> String {
        if self.unit == Unit::Rows {
            return (time + 1).to_string();
        }
        let form = match self.format.as_str() {
            OFFSET => "%Y-%m-%dT%H:%M:%SZ",
            PARTS if self.step % 86_400 == 0 || self.unit == Unit::Months => "%Y-%m-%d",
            PARTS => "%Y-%m-%d %H:%M:%S",
            form => form,
        };
        let mut text = String::new();
        // A form that can be read but not written, as one with an offset.
        if write!(text, "{}", date(time).format(form)).is_err() {
            text = date(time).to_string();
        }
        text
    }

    /// Steps after which things come again: a day of shorter ones, a week of days, a year of longer ones; 1 where
    /// that is no whole number.
    pub fn season(&self) -> usize {
        let (step, cycle) = match self.unit {
            Unit::Rows => return 1,
            Unit::Months => (self.step, 12),
            Unit::Seconds if self.step < 86_400 => (self.step, 86_400),
            Unit::Seconds if self.step == 7 * 86_400 => return 52,
            Unit::Seconds => (self.step, 7 * 86_400),
        };
        if cycle % step == 0 { (cycle / step) as usize } else { 1 }
    }

    /// How long a step is, in seconds, about; none of rows.
    fn seconds(&self) -> Option<i64> {
        match self.unit {
            Unit::Rows => None,
            Unit::Seconds => Some(self.step),
            Unit::Months => Some(self.step * 2_629_746),
        }
    }

    /// The cycles that are longer than two steps, and of which `rows` cover two at least.
    pub fn calendar(&self, rows: usize) -> Vec<Calendar> {
        let Some(step) = self.seconds() else { return Vec::new() };
        let span = step.saturating_mul(rows as i64);
        let fits = |cycle: &Calendar| {
            let length = cycle.seconds();
            length > 2 * step && length.saturating_mul(2) <= span
        };
        // Days of a month matter by the day, if at all.
        let listed = [Calendar::Day, Calendar::Week, Calendar::Year];
        listed.into_iter().filter(fits).collect()
    }

    /// What a step is called, in the singular.
    pub fn step_name(&self) -> String {
        let named =
            [(604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
        match self.unit {
            Unit::Rows => "row".to_string(),
            Unit::Months if self.step == 1 => "month".to_string(),
            Unit::Months => format!("{} months", self.step),
            Unit::Seconds => {
                let found = named.into_iter().find(|(seconds, _)| self.step % seconds == 0);
                let (seconds, name) = found.unwrap_or((1, "second"));
                match self.step / seconds {
                    1 => name.to_string(),
                    many => format!("{many} {name}s"),
                }
            }
        }
    }
}

/// Days until the end of a month.
fn days_left(time: NaiveDateTime) -> i64 {
    let last = (28..=31).rev().find_map(|day| time.date().with_day(day));
    last.map_or(0, |last| (last - time.date()).num_days())
}

impl Calendar {
    /// How long a cycle is, about.
    fn seconds(self) -> i64 {
        match self {
            Calendar::Day => 86_400,
            Calendar::Week => 7 * 86_400,
            Calendar::Month => 2_629_746,
            Calendar::Year => 12 * 2_629_746,
        }
    }

    /// Sine and cosine of where a time is in the cycle.
    pub fn at(self, time: i64) -> [f32; 2] {
        let at = date(time);
        let day = f64::from(at.num_seconds_from_midnight()) / 86_400.0;
        let share = match self {
            Calendar::Day => day,
            Calendar::Week => (f64::from(at.weekday().num_days_from_monday()) + day) / 7.0,
            Calendar::Month => (f64::from(at.day0()) + day) / 31.0,
            Calendar::Year => (f64::from(at.ordinal0()) + day) / 365.25,
        };
        let angle = std::f64::consts::TAU * share;
        [angle.sin() as f32, angle.cos() as f32]
    }
}

impl std::str::FromStr for Calendar {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "day" => Ok(Calendar::Day),
            "week" => Ok(Calendar::Week),
            "month" => Ok(Calendar::Month),
            "year" => Ok(Calendar::Year),
            other => Err(Error::invalid(format!("'{other}' is no cycle: day, week, month, year"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(texts: &[&str]) -> (Clock, Vec<i64>) {
        let form = form_of(texts[0], 1).unwrap();
        let times: Vec<i64> = texts.iter().map(|t| parse(t, &form).unwrap()).collect();
        (Clock::of(std::slice::from_ref(&times), &form).unwrap(), times)
    }

    #[test]
    fn forms_are_known_by_their_looks_and_written_as_read() {
        for (texts, name, season, next) in [
            (
                &["2016-07-01 00:00:00", "2016-07-01 01:00:00"][..],
                "hour",
                24,
                "2016-07-01 02:00:00",
            ),
            (&["2016-07-01 23:45", "2016-07-02 00:00"], "15 minutes", 96, "2016-07-02 00:15"),
            (&["1949-11", "1949-12"], "month", 12, "1950-01"),
            (&["31.12.1999", "01.01.2000"], "day", 7, "02.01.2000"),
            (&["2020-01-31", "2020-02-29", "2020-03-31"], "month", 12, "2020-04-30"),
            (&["2020-01-31", "2020-04-30"], "3 months", 4, "2020-07-31"),
            (&["2001-05-05", "2002-05-05"], "12 months", 1, "2003-05-05"),
            (&["2024-02-26", "2024-03-04"], "week", 52, "2024-03-11"),
            (
                &["2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00"],
                "hour",
                24,
                "2024-03-31T02:00:00Z",
            ),
        ] {
            let (clock, times) = clock(texts);
            let last = times[times.len() - 1];
            assert_eq!((clock.step_name().as_str(), clock.season()), (name, season), "{texts:?}");
            assert_eq!(clock.text(clock.after(last, 1)), next);
            assert_eq!(clock.between(times[0], last), Some(times.len() as i64 - 1));
        }
        for text in ["7", "2020", "01/02/2020", "monday", "2020-13-01", ""] {
            assert_eq!(form_of(text, 1), None, "{text}");
        }
        assert_eq!(form_of("2010 1 2 23", 4).as_deref(), Some("parts"));
        assert_eq!(parse("2010 1 32 23", "parts"), None);
    }

    #[test]
    fn cycles_come_round() {
        let monday = parse("2024-01-01", "%Y-%m-%d").unwrap();
        assert_eq!(Calendar::Week.at(monday), [0.0, 1.0]);
        let noon = Calendar::Day.at(monday + 43_200);
        assert!((noon[1] + 1.0).abs() < 1e-6);
        assert_eq!(Calendar::Week.at(monday + 7 * 86_400), [0.0, 1.0]);
        let (hours, _) = clock(&["2016-07-01 00:00", "2016-07-01 01:00"]);
        assert_eq!(hours.calendar(24 * 365), [Calendar::Day, Calendar::Week]);
        assert_eq!(hours.calendar(24 * 365 * 3).len(), 3);
        assert_eq!(hours.calendar(30), []);
        let (months, _) = clock(&["1949-11", "1949-12"]);
        assert_eq!(months.calendar(96), [Calendar::Year]);
    }
}
