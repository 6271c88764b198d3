//! `recurra train forecast`, and eval, predict and microscope of what it leaves.

use super::*;
use crate::common::command::{fails, good, text};
use crate::common::outside::{browse, chromium};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

const SMALL: [&str; 10] =
    ["--hidden", "12", "--layers", "1", "--device", "cpu", "--threads", "1", "--batch", "8"];

pub fn train<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", "forecast", "--data", data, "--out", out];
    all.extend(SMALL);
    all.extend(more);
    all
}

#[test]
fn a_table_is_forecast_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("shops.csv"), path("model"));
    std::fs::write(&data, hours(None)).unwrap();
    let asked = [
        "--target",
        "sold,price",
        "--series",
        "shop",
        "--known",
        "event",
        "--past",
        "heat,sky",
        "--horizon",
        "4",
        "--split",
        "50/16/20",
        "--seq",
        "24",
        "--steps",
        "40",
        "--lags",
        "2",
    ];
    let (_, said) = good(&train(&data, &out, &asked));
    for word in
        ["2 series", "by the hour", "season 24", "seasonal naive (24)", "std MSE", "the report:"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    let page = Path::new(&out).join("report.html");
    let html = std::fs::read_to_string(&page).unwrap();
    for word in [
        "residual",
        "warm_up",
        "Error by how far ahead",
        "sold of a behind 2024-03-",
        "80 %",
        "By column",
        "MASE",
    ] {
        assert!(html.contains(word), "{word}");
    }
    if let Some(browser) = chromium() {
        let (dom, complaints) = browse(&browser, folder.path(), &page, &["--dump-dom"]);
        assert!(
            !complaints.contains("CONSOLE") && dom.contains("data-ready=\"yes\""),
            "{complaints}"
        );
        // Three fans of two columns, in two parts, each for windows and phones: a band in each.
        assert_eq!(dom.matches("class=\"band area s0\"").count(), 2 * 2 * 2 * 3);
        assert!(dom.contains("the last value that is known"));
    }

    let (json, _) = good(&["eval", "--model", &out, "--data", &data, "--json"]);
    let scores: Value = serde_json::from_str(&json).unwrap();
    // 20 rows to test, the last four of them hold the last origin's values.
    assert_eq!((&scores["origins"], &scores["rows"]), (&(2 * 17).into(), &"to test".into()));
    assert_eq!(scores["by_step"].as_array().unwrap().len(), 4);
    let own = scores["model"]["mae"].as_f64().unwrap();
    assert!(own > 1.0 && own < 10.0 && scores["seasonal_naive"]["mase"].as_f64().unwrap() > 0.5);
    let (lines, _) = good(&["eval", "--model", &out, "--data", &data]);
    assert!(
        lines.contains(&format!("{own:.4}")) && lines.contains("seasonal naive (24)"),
        "{lines}"
    );
    assert!(said.contains(&format!("{own:.4}")), "training says the same of the test part: {said}");

    // The same file with more rows: those alone count that were not seen.
    let (longer, rows) = (path("longer.csv"), hours(None));
    let extra: String = rows
        .lines()
        .skip(1)
        .take(24)
        .map(|l| l.replace("2024-03-01", "2024-03-05") + "\n")
        .collect();
    let filled = rows.lines().skip(1 + 2 * 72).count();
    std::fs::write(&longer, rows.clone() + &extra).unwrap();
    let (json, _) = good(&["eval", "--model", &out, "--data", &longer, "--json"]);
    let scores: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(filled, 36);
    // Rows to 2024-03-05 11:00 are 108; 66 were seen.
    assert_eq!(scores["origins"], 2 * (108 - 66 - 4 + 1), "{scores}");
    assert!(scores["rows"].as_str().unwrap().contains("behind"));

    // Behind the end: what is known ahead has to be there.
    let arguments = ["predict", &data, "--model", &out];
    fails(&arguments, 1, &["shops.csv", "there must be 4 rows with event"]);
    let ahead: String = (18..22)
        .flat_map(|hour| ["a", "b"].map(|shop| format!("2024-03-04 {hour}:00,{shop},,,1,,\n")))
        .collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_recurra"))
        .args(["predict", "--model", &out, "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all((rows.clone() + &ahead).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let csv = text(&output.stdout);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "shop,time,sold,sold:0.1,sold:0.5,sold:0.9,price,price:0.1,price:0.5,price:0.9"
    );
    assert_eq!(lines.len(), 1 + 2 * 4);
    assert!(
        lines[1].starts_with("a,2024-03-04 18:00,") && lines[8].starts_with("b,2024-03-04 21:00,")
    );
    let cells: Vec<f64> = lines[1].split(',').skip(2).map(|c| c.parse().unwrap()).collect();
    assert!(
        cells[1] <= cells[0] && cells[0] == cells[2] && cells[2] <= cells[3] && cells[3] < 60.0
    );
    let known = path("ahead.csv");
    std::fs::write(&known, rows + &ahead).unwrap();
    let (json, _) = good(&["predict", &known, "--model", &out, "--json"]);
    let told: Vec<Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(told.len(), 2 * 4 * 2);
    assert!((told[0]["forecast"].as_f64().unwrap() - cells[0]).abs() < 1e-3);
    assert_eq!(
        (&told[0]["series"], &told[0]["time"], &told[0]["step"]),
        (&"a".into(), &"2024-03-04 18:00".into(), &1.into())
    );
    assert!(told[0]["quantiles"]["0.9"].as_f64().is_some());

    let (json, _) = good(&["microscope", "--model", &out, "--json", "--device", "cpu"]);
    assert!(json.contains("lstm"));
    let (_, again) = good(&["train", "forecast", "--resume", &out, "--device", "cpu"]);
    assert!(again.contains("complete") && again.contains(&format!("{own:.4}")), "{again}");
    std::fs::write(&data, hours(Some(3))).unwrap();
    fails(&["train", "forecast", "--resume", &out], 1, &["not the file that the run began with"]);
    // A label and a series that the model never saw; a column that went.
    let odd = hours(None).replacen("blue", "green", 1);
    std::fs::write(&data, odd).unwrap();
    fails(
        &["eval", "--model", &out, "--data", &data],
        1,
        &["shops.csv", "line ", "'sky'", "unknown label 'green'"],
    );
    std::fs::write(&data, hours(None).replace(",b,", ",c,")).unwrap();
    fails(&["predict", &data, "--model", &out], 1, &["line 3", "'shop'", "unknown series 'c'"]);
    std::fs::write(&data, hours(None).replace("heat", "cold")).unwrap();
    fails(&["eval", "--model", &out, "--data", &data], 1, &["line 1", "'heat'", "no such column"]);
}

#[test]
fn recursive_runs_and_points_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("months.csv"), path("model"));
    let mut lines = String::from("\"Month\",\"Sold\"\n");
    for i in 0..96 {
        let wave = (std::f64::consts::TAU * f64::from(i) / 12.0).sin();
        let sold = (4.0 + 0.01 * f64::from(i) + 0.3 * wave + 0.03 * noise(i as usize)).exp();
        lines += &format!("\"{}-{:02}\",{sold:.2}\n", 2001 + i / 12, 1 + i % 12);
    }
    std::fs::write(&data, &lines).unwrap();
    let asked = [
        "--target",
        "Sold",
        "--horizon",
        "6",
        "--recursive",
        "--head",
        "student-t",
        "--log",
        "--residual",
        "season",
        "--split",
        "60/18/18",
        "--steps",
        "30",
        "--paths",
        "20",
    ];
    let (_, said) = good(&train(&data, &out, &asked));
    assert!(said.contains("one after another") && said.contains("by the month"), "{said}");
    let (csv, _) = good(&["predict", &data, "--model", &out]);
    assert!(csv.contains("Month,Sold,Sold:0.1,") && csv.contains("\n2009-01,"), "{csv}");
    let (again, _) = good(&["predict", &data, "--model", &out]);
    assert_eq!(csv, again, "paths are drawn from the seed");
    let out = path("points");
    let asked =
        ["--target", "Sold", "--horizon", "6", "--head", "huber", "--steps", "5", "--lr", "1e-9"];
    let (_, said) = good(&train(&data, &out, &asked));
    // What has not learned says so, at the end and in the report.
    assert!(said.contains("the model does not beat the seasonal naive forecast"), "{said}");
    let html = std::fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(html.contains("the model does not beat the seasonal naive forecast"));
    let (csv, _) = good(&["predict", &data, "--model", &out]);
    assert!(csv.starts_with("Month,Sold\n2009-01,"), "{csv}");
    let (told, _) = good(&["eval", "--model", &out, "--data", &data]);
    assert!(told.contains("does not beat") && !told.contains("outermost"), "{told}");
}

/// Where rows have no time, nobody can tell which of another file were trained with.
#[test]
fn rows_without_a_time_are_not_called_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (short, long, out) = (path("a.csv"), path("b.csv"), path("model"));
    let rows = |n: usize| (0..n).map(|i| format!("{}\n", i % 7)).collect::<String>();
    std::fs::write(&short, "y\n".to_string() + &rows(120)).unwrap();
    std::fs::write(&long, "y\n".to_string() + &rows(125)).unwrap();
    let more = ["--time", "none", "--target", "y", "--horizon", "2", "--seq", "16", "--steps", "3"];
    good(&train(&short, &out, &more));
    let (json, _) = good(&["eval", "--model", &out, "--data", &long, "--json"]);
    let scores: Value = serde_json::from_str(&json).unwrap();
    assert!(scores["rows"].as_str().unwrap().contains("of the whole file"), "{scores}");
}
