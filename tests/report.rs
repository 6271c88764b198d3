//! The HTML report, in a browser.

mod common;

use common::outside::{browse, chromium};
use recurra::report::*;
use recurra::train::{RateSweep, find_rate};
use std::path::PathBuf;

/// A report with one of everything, in a size that people make.
fn sample_report() -> Report {
    let steps = 1..=3000u32;
    let wave = |s: u32| f64::from(s.wrapping_mul(2654435761) >> 20) / 4096.0 - 0.5;
    let loss = |s: u32| 1.3 + 2.9 * (-f64::from(s) / 420.0).exp() + 0.25 * wave(s);
    let training = Series::new("training", steps.clone().map(|s| (f64::from(s), loss(s))));
    let validation = (1..=10).map(|i| (f64::from(i) * 300.0, loss(i * 300) + 0.04 * f64::from(i)));
    let mut report = Report::new("LSTM 2×128 on tiny Shakespeare");
    report.subtitle("3,000 steps of 32 × 64 characters; seed 1").facts([
        ("Model", "lstm, 2 layers of 128 units, 223,489 parameters"),
        ("Device", "llvmpipe (LLVM 15.0.6, 256 bits)"),
        ("Validation", "1.4312 nats, 2.065 bits per character"),
        ("Speed", "41,200 characters per second"),
    ]);
    report
        .text("Everything is text: <b>not bold</b> & </script><script>fail()</script>.\n\nA second paragraph.")
        .section("Loss")
        .add(
            LineChart::new("Loss by step", "step", "nats per character")
                .series(training.clone().stroke(Stroke::Faint))
                .series(training.mean("training (mean of 60 steps)", 60))
                .series(Series::new("validation", validation).stroke(Stroke::Dots)),
        )
        .add(
            LineChart::new("Gradient norm", "step", "norm before clipping").log_y().series(
                Series::new("", steps.map(|s| (f64::from(s), 10f64.powf(2.0 * wave(s) - f64::from(s) / 1500.0)))),
            ),
        )
        .section("Inside")
        .add(
            HeatMap::new(
                "Hidden state of layer 1 <i>over time</i>",
                [24, 60],
                (0..24 * 60).map(|i| ((i / 60) as f32 * 0.7 + (i % 60) as f32 * 0.21).sin()).collect(),
            )
            .unwrap()
            .scale(HeatScale::Diverging)
            .rows_are("unit", Vec::new())
            .columns_are("character", "To be, or not to be: that is the question:\nWhether 'tis nobler".chars().take(60).map(String::from).collect()),
        )
        .add(
            HeatMap::new(
                "Gradient norm by layer and time",
                [4, 300],
                (0..1200).map(|i| if i % 300 == 77 { f32::NAN } else { (-(i % 300) as f32 / 25.0 - (i / 300) as f32).exp() }).collect(),
            )
            .unwrap()
            .scale(HeatScale::Log)
            .rows_are("", ["embedding", "layer 1", "layer 2", "output"].map(String::from).to_vec())
            .columns_are("time step", Vec::new()),
        )
        .section("Predictions");
    let classes = ["noun", "verb", "adjective", "adverb", "pronoun", "other"].map(String::from);
    let counts: Vec<u64> =
        (0..36).map(|i| if i % 7 == 0 { 900 - i * 9 } else { (i * 37) % 41 }).collect();
    report.add(HeatMap::confusion("Parts of speech", &classes, &counts).unwrap());
    let mut tokens = Tokens::new("What was predicted", HeatScale::Linear);
    for (i, word) in
        "Shall I compare thee to a summer's day? Thou art more <lovely> and more temperate:"
            .split_inclusive(' ')
            .enumerate()
    {
        tokens = tokens.noted(
            word,
            if i % 4 == 1 { Mark::Wrong } else { Mark::Right },
            format!("token {i}"),
        );
    }
    report.add(tokens);
    let mut tokens = Tokens::new("Activation of unit 17", HeatScale::Diverging);
    for (i, c) in "Rough winds do shake the darling buds of May,\nAnd summer's lease hath all too short a date".chars().enumerate() {
        tokens = tokens.token(c, Mark::Value((i as f32 / 4.0).sin()));
    }
    report
        .add(tokens)
        .add(Sample::new(
            "A sample after 3,000 steps",
            "KING HENRY:\nWhat, shall I see the <world> & all its\n    fair </pre> company?\n",
        ))
        .section("Time")
        .add(
            BarChart::new("Time by kernel", "milliseconds per step")
                .bar("matmul", 12.4)
                .bar("lstm_forward", 6.1)
                .bar("lstm_backward", 7.75)
                .bar("cross_entropy", 0.8)
                .bar("saved by fusing", -2.25),
        )
        .add(
            Table::new("Seeds", ["seed", "validation loss", "bits", "note"])
                .row(["1", "1.4312", "2.065", "kept"])
                .row(["2", "1.4420", "2.080", ""])
                .row(["3", "NaN", "NaN", "stopped at step 812: <NaN>"]),
        );
    report
}

#[test]
fn a_browser_shows_all_of_it_and_loads_nothing() {
    let Some(browser) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    sample_report().write(&page).unwrap();
    // How much the page has loaded besides itself is asked at its end.
    let probe = "<script>document.documentElement.dataset.loaded = \
                 performance.getEntriesByType('resource').length;\
                 for (const name of ['chart', 'heat']) {\
                   const svg = document.querySelector('.wide svg.' + name), box = svg.getBoundingClientRect();\
                   const at = {clientX: box.left + box.width / 2, clientY: box.top + box.height * 0.6};\
                   svg.dispatchEvent(new PointerEvent('pointermove', at));\
                 }</script>";
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&page, html + probe).unwrap();
    let (dom, complaints) = browse(&browser, folder.path(), &page, &["--dump-dom"]);
    assert!(!complaints.contains("CONSOLE"), "{complaints}");
    // The script came to its end, and the page's own data with it.
    assert!(dom.contains("data-ready=\"yes\""), "{complaints}");
    assert!(dom.contains("data-loaded=\"0\""));
    for text in [
        "<h1>LSTM 2×128 on tiny Shakespeare</h1>",
        "&lt;b&gt;not bold&lt;/b&gt; &amp; &lt;/script&gt;&lt;script&gt;fail()",
        "fair &lt;/pre&gt; company?",
        "more </span>",
        "over time&lt;/i&gt;",
        "training (mean of 60 steps)",
        "no number",
        "right (",
        "<nav>",
        // What the pointer is over.
        "<div class=\"tip\"",
        ">step 14",
        "training (mean of 60 steps)  1.3",
        ">unit 1",
    ] {
        assert!(dom.contains(text), "{text}");
    }
    // Five pictures in two sizes; a line chart has an inner one.
    assert_eq!(dom.matches("<svg").count(), (5 + 2) * 2);
    assert_eq!(dom.matches("<script").count(), 3);
    for markup in [" src=", "<link", "<img", "@import", "url("] {
        assert!(!dom.contains(markup), "{markup}");
    }
}

#[test]
fn a_screenshot_has_colours() {
    let Some(browser) = chromium() else { return };
    let own = tempfile::tempdir().unwrap();
    // For who wants to look: the page and its pictures stay in a folder of that name.
    let kept = std::env::var_os("RECURRA_REPORT_OUT").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(own.path());
    let page = folder.join("report.html");
    sample_report().write(&page).unwrap();
    for (name, arguments, dark) in [
        ("light", &["--window-size=1000,2600"][..], false),
        ("dark", &["--window-size=1000,2600", "--blink-settings=preferredColorScheme=0"], true),
        ("phone", &["--window-size=500,2600"], false),
    ] {
        let picture = folder.join(format!("{name}.png"));
        let shot = format!("--screenshot={}", picture.display());
        let mut all = vec![shot.as_str()];
        all.extend(arguments);
        browse(&browser, own.path(), &page, &all);
        let file = std::io::BufReader::new(std::fs::File::open(&picture).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let size = info.color_type.samples();
        let page_colour = &pixels[..3];
        assert_eq!(page_colour[0] < 60, dark, "{name}: {page_colour:?}");
        let colours: std::collections::HashSet<&[u8]> =
            pixels.chunks(size).map(|p| &p[..3]).collect();
        let drawn = pixels.chunks(size).filter(|p| &p[..3] != page_colour).count();
        let all = pixels.len() / size;
        assert!(colours.len() > 150, "{name}: {} colours", colours.len());
        assert!((all / 20..all * 3 / 4).contains(&drawn), "{name}: {drawn} of {all} pixels");
    }
}

/// The picture of a sweep of learning rates stands alone as well: as a file, without a page around it.
#[test]
fn a_browser_shows_the_picture_of_a_sweep() {
    let Some(browser) = chromium() else { return };
    let own = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("RECURRA_REPORT_OUT").map(PathBuf::from);
    let path = kept.as_deref().unwrap_or(own.path()).join("rates.svg");
    let sweep = RateSweep::new(1e-6, 10.0, 120).unwrap();
    let rates: Vec<f32> = (1..=120).map(|step| sweep.rate(step)).collect();
    let loss = |(i, &rate): (usize, &f32)| {
        let fall = 2.0 / (1.0 + (-4.0 * (rate.log10() + 3.0)).exp());
        4.0 - fall + (20.0 * rate).powi(2) + 0.1 * (i as f32 * 2.3).sin()
    };
    let losses: Vec<f32> = rates.iter().enumerate().map(loss).collect();
    let found = find_rate(&rates, &losses).unwrap();
    found.chart().write_svg(&path).unwrap();
    let (dom, complaints) = browse(&browser, own.path(), &path, &["--dump-dom"]);
    assert!(!complaints.contains("CONSOLE") && !dom.contains("parsererror"), "{complaints} {dom}");
    assert!(dom.contains("steepest") && dom.contains("minimum/10"));
}

#[test]
fn programs_find_the_numbers() {
    let html = sample_report().html();
    let start = "<script type=\"application/json\" id=\"recurra-data\">";
    let (_, rest) = html.split_once(start).unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(data["version"], 1);
    assert_eq!(data["title"], "LSTM 2×128 on tiny Shakespeare");
    assert!(data["sections"][0]["items"][1]["text"].as_str().unwrap().contains("</script>"));
    let chart = &data["sections"][1]["items"][0];
    assert_eq!(
        (&chart["kind"], &chart["series"][1]["name"]),
        (&"lines".into(), &"training (mean of 60 steps)".into())
    );
    assert_eq!(chart["series"][0]["points"].as_array().unwrap().len(), 3000);
    let best = Series::of_steps("f32", &[(1, 0.1)]);
    let html_of_f32 = Report::new("").add(LineChart::new("", "", "").series(best)).html();
    assert!(html_of_f32.contains("[[1.0,0.1]]"), "{html_of_f32}");
    let map = &data["sections"][2]["items"][1];
    assert_eq!(
        (&map["kind"], &map["rows"], &map["scale"]),
        (&"heat".into(), &4.into(), &"log".into())
    );
    assert!(map["values"][77].is_null() && map["values"][0] == 1.0);
    // Nothing in the page names another place but the SVG namespace in the script.
    assert_eq!(html.matches("http:").count() + html.matches("https:").count(), 1);
}

#[test]
fn a_chart_is_a_picture_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chart.svg");
    let chart = LineChart::new("a & b", "rate", "loss").log_x();
    assert!(chart.write_svg(&path).unwrap_err().to_string().contains("'a & b' has no point"));
    let chart = chart
        .series(Series::new("x", [(1e-4, 2.0), (1e-2, 1.0), (1.0, f64::NAN)]))
        .mark(0.01, "here");
    chart.write_svg(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("<?xml") && text.contains("xmlns=") && text.contains("a &amp; b"));
    assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
    let missing = folder.path().join("no/such/r.html");
    assert!(Report::new("").write(&missing).is_err());
}
