//! People's files: what is read, and what is refused by its place.

use super::commands::train;
use super::*;
use crate::common::command::{fails, good};

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("bad.csv"), path("model"));
    let day = |i: usize| format!("2024-01-{:02}", i + 1);
    let plain: Vec<String> = (0..30).map(|i| format!("{},{}", day(i), i * i % 7)).collect();
    let with = |line: usize, text: &str| {
        let mut lines = plain.clone();
        lines[line - 2] = text.to_string();
        format!("day,y\n{}\n", lines.join("\n"))
    };
    let asked = ["--target", "y", "--horizon", "2", "--steps", "1"];
    for (content, words) in [
        (String::new(), &["the file is empty"][..]),
        ("day,y\n".to_string(), &["line 1", "no row"]),
        ("day,y,y\n2024-01-01,1,2\n".to_string(), &["line 1", "'y'", "two columns"]),
        (with(5, "2024-01-04"), &["line 5", "1 fields", "the header has 2"]),
        (with(5, "2024-01-04,1,2"), &["line 5", "3 fields"]),
        (with(7, "2024-01-06,1x"), &["line 7", "column 'y'", "'1x' is no number"]),
        (with(7, "2024-01-06,inf"), &["line 7", "column 'y'", "'inf' is no number"]),
        (with(2, "2024-01-01,1e31"), &["line 2", "column 'y'", "'1e31' is too large"]),
        ("2024-01-01,1.5\n2024-01-02,2\n".to_string(), &["line 1", "looks like data", "header"]),
        (
            with(8, "7.1.24,1"),
            &["line 8", "column 'day'", "'7.1.24' is no time of the form %Y-%m-%d"],
        ),
        (with(9, "2024-01-01,1"), &["line 9", "column 'day'", "does not come behind"]),
        (with(31, "2030-01-01,1"), &["line 31", "too large a gap"]),
        ("day,y\n2024-01-01,1\n".to_string(), &["no series has two rows"]),
        (plain[..3].join("\n").replace("2024-01-01,0", "day,y"), &["too few"]),
        ("day,y\n2024-01-01,\n2024-01-02,\n2024-01-03,\n".to_string(), &["too few"]),
    ] {
        std::fs::write(&data, &content).unwrap();
        let words: Vec<&str> = ["bad.csv"].into_iter().chain(words.iter().copied()).collect();
        fails(&train(&data, &out, &asked), 1, &words);
        assert!(!Path::new(&out).exists());
    }
    let hours =
        "day,y\n2024-01-01 00:00,1\n2024-01-01 01:00,1\n2024-01-01 02:00,1\n2024-01-01 02:20,1\n";
    std::fs::write(&data, hours).unwrap();
    fails(&train(&data, &out, &asked), 1, &["line 5", "no whole number of steps (hour)"]);
    std::fs::write(&data, b"day,y\n2024-01-01,1\n2024-01-02,\xff\xfe\n").unwrap();
    fails(&train(&data, &out, &asked), 1, &["bad.csv", "line 3", "field 2", "no UTF-8"]);
    let zeros: String = plain.iter().map(|l| l.clone() + ",k\n").collect();
    std::fs::write(&data, format!("day,y,kind\n{zeros}")).unwrap();
    let with = |more: &[&'static str]| [&asked[..], more].concat();
    for (more, words) in [
        (&["--log"][..], &["bad.csv", "line 2", "column 'y'", "0 has no logarithm"][..]),
        (&["--past", "x"], &["line 1", "'x'", "no such column", "day, y, kind"]),
        (&["--past", "y"], &["'y'", "asked for twice"]),
        (&["--past", "day"], &["'day'", "the column is the time"]),
        (&["--time-format", "%d/%m/%Y"], &["no column has times of the form %d/%m/%Y"]),
        (&["--time", "none", "--time-format", "%d"], &["no times", "--time none"]),
        (&["--residual", "season", "--split", "6/10/10"], &["a season of 7", "6 rows"]),
        (&["--past", "kind", "--recursive"], &["recursive", "kind"]),
        (&["--both"], &["both ways"]),
        (&["--split", "100/1/1"], &["bad.csv", "30 rows are fewer than the 102"]),
        (&["--quantiles", "0.5,0.1"], &["quantile levels rise"]),
        (&["--quantiles", "0,1"], &["quantile levels"]),
        (&["--quantiles", "0.7,0.9"], &["both sides of 0.5", "the median"]),
        (&["--calendar", "day,moon"], &["'moon'", "week"]),
        (&["--warm-up", "96"], &["warm-up of 96"]),
        (&["--lags", "9999999"], &["9999999"]),
        (&["--time", "none", "--calendar", "week"], &["no times"]),
        (
            &["--time-format", "%d/%m/%Y", "--time", "day"],
            &["line 2", "'2024-01-01' is no time of the form %d"],
        ),
        (&["--horizon", "99999999"], &["99999999"]),
    ] {
        let mut asked = with(more);
        if more[0] == "--horizon" {
            asked.drain(2..4);
        }
        fails(&train(&data, &out, &asked), 1, words);
    }
    fails(
        &train(&data, &out, &["--target", "kind", "--horizon", "2"]),
        1,
        &["line 2", "'kind'", "'k' is no number"],
    );
    fails(&train(&path("none.csv"), &out, &asked), 1, &["none.csv", "read"]);
    fails(&train(&data, &out, &with(&["--split", "7/x"])), 2, &["a split is"]);
    fails(&["train", "forecast", "--data", &data], 2, &["--target", "--horizon"]);
    // A season that the part to train on does not have is none, and it is said.
    std::fs::write(&data, format!("day,y\n{}\n", plain.join("\n"))).unwrap();
    let short = path("short");
    let (_, said) = good(&train(&data, &short, &with(&["--split", "6/10/10"])));
    assert!(said.contains("season 1") && said.contains("a season of 7 steps is longer"), "{said}");
    // So are times that nothing read.
    let dates: String = (1..=30).map(|i| format!("{i}. March,{}\n", i % 7)).collect();
    std::fs::write(&data, format!("date,y\n{dates}")).unwrap();
    let (rows, wanted) = (path("rows"), "column 'date' ('1. March') is not read as times");
    let (_, said) = good(&train(&data, &rows, &asked));
    assert!(said.contains(wanted) && said.contains("--time-format"), "{said}");
    let (_, said) = good(&train(&data, &path("meant"), &with(&["--time", "none"])));
    assert!(!said.contains(wanted), "{said}");
    // A part that can't be measured says why, in JSON too.
    let json = with(&["--time", "none", "--json", "--split", "26/2/1"]);
    let (lines, _) = good(&train(&data, &path("json"), &json));
    let last = lines.lines().last().unwrap();
    assert!(last.contains(r#""test":{"unscored":"the part is shorter"#), "{last}");
    // Columns may be called by numbers that count them.
    let numbered = Request { targets: vec!["all".to_string()], ..Request::default() };
    assert_eq!(table("0,1\n4,5\n6,7\n", &numbered).layout.targets, ["0", "1"]);
    // Gaps are filled, and it is said.
    let gaps: String = plain
        .iter()
        .enumerate()
        .filter(|(i, _)| i % 9 != 4)
        .map(|(_, l)| l.clone() + "\n")
        .collect();
    std::fs::write(&data, format!("day,y\n{gaps}")).unwrap();
    let (_, said) = good(&train(&data, &out, &asked));
    assert!(said.contains("3 rows lack") && said.contains("30 rows"), "{said}");
    assert!(Path::new(&out).exists());
}

/// Forms of files that people have.
#[test]
fn tables_are_read_as_they_are_written() {
    let request = Request { past: vec!["all".to_string()], ..Request::of("y") };
    let table = |csv: &str, request: &Request| table(csv, request);
    let csv = "\u{feff}when;y;a;label\r\n01.02.2024;1,5\r\n";
    let error = Table::from_reader(Path::new("f"), csv.as_bytes(), &request).unwrap_err();
    assert!(
        error.to_string().contains("f: line 2, column 'a': 2 fields, where the header has 4"),
        "{error}"
    );
    let csv = "when,y\n\n2024-01-01,1\n\n\n2024-01-02,x\n";
    let error = Table::from_reader(Path::new("f"), csv.as_bytes(), &request).unwrap_err();
    assert!(error.to_string().contains("line 6, column 'y'"), "{error}");
    let csv = "\u{feff}when;y;a;label\r\n01.02.2024; 1.5 ;NA;x\r\n02.02.2024;2.5;3;y\r\n";
    let found = table(csv, &request);
    assert_eq!(found.layout.time, ["when"]);
    assert_eq!(found.layout.past.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(found.series[0].targets, [[1.5, 2.5]]);
    assert!(found.series[0].past[0][0].is_nan() && found.series[0].past[0][1] == 3.0);
    let parts = Request {
        time: ["year", "month", "day", "hour"].map(str::to_string).to_vec(),
        past: vec!["wind".to_string()],
        ..Request::of("y")
    };
    let csv = "year,month,day,hour,y,wind\n2010,1,1,22,1,NW\n2010,1,1,23,2,cv\n2010,1,2,1,4,NW\n";
    let found = table(csv, &parts);
    assert_eq!((found.filled, found.series[0].len()), (1, 4));
    assert_eq!(found.layout.past[0].labels, ["NW", "cv"]);
    assert_eq!(found.series[0].past[0][..2], [1.0, 0.0]);
    assert!(found.series[0].targets[0][2].is_nan() && found.series[0].past[1][2].is_nan());
    let all = Request { targets: vec!["all".to_string()], ..Request::default() };
    assert_eq!(table(csv, &all).layout.targets, ["year", "month", "day", "hour", "y"]);
}
