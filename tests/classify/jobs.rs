//! Classification: learning in batches of many shapes, what options do to losses, whole jobs on the command line.

use crate::common::command::{fails, good};
use crate::common::outside::{browse, chromium};
use crate::common::random::drawn;
use recurra::data::Tokens;
use recurra::engine::Engine;
use recurra::task::classify::*;
use recurra::task::{RecurrentConfig, TaskModel};
use recurra::train::{Checkpoint, Event, TrainOptions, Trainer};
use recurra::{CellKind, Error};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A text in which "north" and "south" both occur once: the label is the one that comes first. What the words are tells
/// nothing, only their order does.
fn text(n: usize) -> (String, String) {
    let length = 2 + drawn(7 * n, 9);
    let mut words: Vec<String> =
        (0..length).map(|i| format!("w{}", drawn(31 * n + i, 6))).collect();
    let first = drawn(3 * n + 1, 2);
    let at = drawn(5 * n + 2, length);
    words.insert(at, ["north", "south"][first].to_string());
    let behind = at + 1 + drawn(11 * n + 3, words.len() - at);
    words.insert(behind, ["South", "North"][first].to_string());
    (words.join(" "), ["north", "south"][first].to_string())
}

fn texts(from: usize, count: usize) -> Examples {
    let (texts, labels) = (from..from + count).map(text).unzip();
    Examples::texts(texts, labels).unwrap()
}

fn tsv(path: &Path, from: usize, count: usize) -> String {
    let mut all = String::new();
    for (text, label) in (from..from + count).map(text) {
        writeln!(all, "{text}\t{label}").unwrap();
    }
    std::fs::write(path, all).unwrap();
    path.to_str().unwrap().to_string()
}

fn small(training: &Examples) -> ClassConfig {
    ClassConfig::new(training, RecurrentConfig::new(CellKind::Gru, 24)).unwrap()
}

/// Learned from their order alone, with every pooling; alone each text gets what it gets among many; and the same bits
/// after an interruption, though words are dropped.
#[test]
fn texts_are_told_apart_by_the_order_of_their_words() {
    let (training, held) = (texts(0, 400), texts(400, 120));
    let engine = Engine::cpu(Some(1)).unwrap();
    for (pool, both) in
        [(Pool::Last, false), (Pool::Last, true), (Pool::Mean, true), (Pool::Max, false)]
    {
        let mut config = small(&training);
        (config.pool, config.recurrent.both) = (pool, both);
        let model = ClassModel::new(config).unwrap();
        let loss = ClassLoss { token_dropout: 0.02, ..ClassLoss::default() };
        let data = ClassData::new(&model, &training, Some(&held), loss).unwrap();
        let options =
            TrainOptions { learning_rate: 0.01, evaluate_every: 100, ..TrainOptions::new(500) };
        let run = |cut: Option<u64>| {
            let folder = tempfile::tempdir().unwrap();
            let (mut losses, mut checkpoint) = (Vec::new(), None);
            for cut in cut.into_iter().map(Some).chain([None]) {
                let fit = data.fit(&model, 16, 4).unwrap();
                assert!(fit.buckets().shapes().len() > 2);
                assert!(fit.buckets().shapes().iter().all(|shape| shape[1] <= 16));
                let mut trainer = Trainer::new(&engine, &fit, options.clone(), checkpoint).unwrap();
                let result = trainer.run(Some(folder.path()), |event| match event {
                    Event::Losses(_, more) => {
                        losses.extend(more.iter().map(|l| l.0[0]));
                        Ok(())
                    }
                    Event::Saved(step) if Some(*step) == cut => {
                        Err(Error::Invalid("cut off".to_string()))
                    }
                    _ => Ok(()),
                });
                assert_eq!(result.is_err(), cut.is_some());
                checkpoint = Some(Checkpoint::load(folder.path()).unwrap());
            }
            let checkpoint = checkpoint.unwrap();
            (losses, checkpoint)
        };
        let whole = run(None);
        if pool == Pool::Last && !both {
            let cut = run(Some(100));
            assert_eq!(whole.0, cut.0);
            assert!(whole.1.tensors == cut.1.tensors);
        }
        let mut weights = whole.1.tensors.clone();
        weights.retain(|name, _| model.weight_shapes().contains_key(name));
        let score = model.score(&engine, &weights, &held).unwrap();
        println!("{pool:?}, both ways {both}: {}", score.verdict());
        assert!(score.accuracy > 0.95, "{pool:?} {both}: {}", score.accuracy);
        assert!(score.beats_majority && score.majority.accuracy < 0.6);

        // The trainer's own validation is the score's loss.
        let fit = data.fit(&model, 16, 4).unwrap();
        let mut trainer = Trainer::new(&engine, &fit, options.clone(), Some(whole.1)).unwrap();
        let evaluated = f64::from(trainer.evaluate().unwrap().unwrap().0[0]);
        assert!((evaluated - score.loss).abs() < 1e-4 * (1.0 + score.loss), "{evaluated}");
        let Content::Texts(list) = held.content() else { panic!() };
        let all = model.probabilities(&engine, &weights, held.content()).unwrap();
        for (own, row) in list.iter().zip(&all).take(20) {
            let alone = Content::Texts(vec![own.clone()]);
            let alone = &model.probabilities(&engine, &weights, &alone).unwrap()[0];
            let apart = alone.iter().zip(row).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-5 && (row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{apart}");
        }
    }
}

/// Where inputs tell nothing, a model learns how frequent classes are: as they are, or evened out
/// by weights. Where they tell all, smoothing leaves the rest of the probability; and what is not
/// read can't be learned.
#[test]
fn options_do_to_losses_what_they_say() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let fitted = |examples: &Examples, loss: ClassLoss, steps: u64| {
        let mut config = small(examples);
        config.recurrent.hidden = 8;
        let model = ClassModel::new(config).unwrap();
        let data = ClassData::new(&model, examples, Some(examples), loss).unwrap();
        let fit = data.fit(&model, 40, 1).unwrap();
        let options = TrainOptions { learning_rate: 0.03, ..TrainOptions::new(steps) };
        let trained = fit.run(&engine, options, |_| Ok(())).unwrap();
        let last = trained.losses.iter().rev().take(20).map(|l| f64::from(l.1)).sum::<f64>() / 20.0;
        // The last weights are wanted, not those that validate best.
        let score = model.score(&engine, &trained.weights, examples).unwrap();
        let rows = model.probabilities(&engine, &trained.weights, examples.content()).unwrap();
        (score, rows, last)
    };
    let labels: Vec<String> =
        (0..200).map(|i| ["rare", "usual"][usize::from(i % 8 > 0)].into()).collect();
    let noise = Examples::numbers(1, (0..200).map(|_| vec![0.5; 3]).collect(), labels).unwrap();
    let (score, rows, _) = fitted(&noise, ClassLoss::default(), 150);
    assert!((rows[0][0] - 0.125).abs() < 0.02, "{}", rows[0][0]);
    assert!(!score.beats_majority && score.verdict().contains("does not beat guessing"));
    assert!((score.loss - score.majority.loss).abs() < 0.01);
    // Weights bring the classes to halves: seen in the training loss, as validation has none of them.
    let (_, _, last) = fitted(&noise, ClassLoss { balance: true, ..ClassLoss::default() }, 150);
    assert!((last - std::f64::consts::LN_2).abs() < 0.02, "{last}");

    let plain = fitted(&texts(0, 200), ClassLoss::default(), 300);
    assert!(plain.2 < 0.05, "{}", plain.2);
    let smooth = fitted(&texts(0, 200), ClassLoss { smoothing: 0.3, ..ClassLoss::default() }, 300);
    // The entropy of 0.85 and 0.15.
    assert!((smooth.2 - 0.4227).abs() < 0.03, "{}", smooth.2);
    assert!((smooth.0.confidence - 0.85).abs() < 0.06, "{}", smooth.0.confidence);
    let unread =
        fitted(&texts(0, 200), ClassLoss { token_dropout: 0.5, ..ClassLoss::default() }, 300);
    assert!(unread.2 > 0.2, "{}", unread.2);

    let model = ClassModel::new(small(&noise)).unwrap();
    let refused = |examples: &Examples, loss: ClassLoss, words: &str| {
        let data = ClassData::new(&model, examples, None, loss);
        let result = data.and_then(|data| data.fit(&model, 4, 1).map(|_| ()));
        let message = result.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(&noise, ClassLoss { token_dropout: 0.1, ..ClassLoss::default() }, "only words");
    refused(&noise, ClassLoss { smoothing: 2.0, ..ClassLoss::default() }, "smoothing");
    refused(&texts(0, 4), ClassLoss::default(), "unknown label");
    let one = Examples::numbers(1, vec![vec![0.0]], vec!["a".to_string()]).unwrap();
    let error = ClassConfig::new(&one, RecurrentConfig::new(CellKind::Gru, 4)).unwrap_err();
    assert!(error.to_string().contains("1 classes ('a')"), "{error}");
}

/// A folder's model is the one that was trained; of characters and bytes too, and cut where it says so.
#[test]
fn every_kind_of_token() {
    let training = texts(0, 40);
    let Content::Texts(list) = training.content() else { panic!() };
    for tokens in [Tokens::Characters, Tokens::Bytes, Tokens::Words] {
        let text = TextConfig::over(list, tokens, true, [1000, 1], 8).unwrap();
        let longest = Some(5);
        let config = ClassConfig { input: InputConfig::Text(text), longest, ..small(&training) };
        let model = ClassModel::new(config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        model.save_config(folder.path(), &Value::Null).unwrap();
        let (again, _) = ClassModel::load_config(folder.path()).unwrap();
        assert_eq!(again.config(), model.config());
        let lengths = model.sequences(training.content()).unwrap().lengths().unwrap();
        assert!(lengths.iter().all(|&n| n <= 5), "{lengths:?}");
        let odd = Content::Texts(vec!["☃ snow".to_string(), String::new()]);
        let lengths = model.sequences(&odd).unwrap().lengths().unwrap();
        assert_eq!(lengths, [if tokens == Tokens::Words { 3 } else { 5 }, 1]);
    }
}

#[test]
fn a_whole_job_on_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let data = tsv(&folder.path().join("train.tsv"), 0, 360);
    let test = tsv(&folder.path().join("test.tsv"), 1000, 120);
    let out = path("model");
    let (_, said) = good(&[
        "train",
        "classify",
        "--data",
        &data,
        "--test",
        &test,
        "--out",
        &out,
        "--hidden",
        "24",
        "--layers",
        "1",
        "--cell",
        "gru",
        "--pool",
        "last",
        "--epochs",
        "25",
        "--lr",
        "0.01",
        "--batch",
        "16",
        "--embedding",
        "16",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]);
    for words in ["324 texts of words", "36 for validation, 120 to test", "guessing", "the report:"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (json, _) = good(&["eval", "--model", &out, "--data", &test, "--json"]);
    let score: ClassRead = serde_json::from_str(&json).unwrap();
    assert!(score.accuracy > 0.95 && score.majority.accuracy < 0.6, "{json}");
    assert_eq!(score.sequences, 120);
    let told = format!("test     accuracy {:.2} %", 100.0 * score.accuracy);
    assert!(said.contains(&told), "{told}: {said}");
    let (table, _) = good(&["eval", "--model", &out, "--data", &test]);
    for words in ["for all", "calibration error", "north", "steps:", "% are right"] {
        assert!(table.contains(words), "{words}: {table}");
    }

    // Predictions: of a file with labels beside the texts, and of texts as they come.
    let (lines, _) = good(&["predict", &test, "--model", &out, "--json"]);
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let right = lines.iter().zip(1000..).filter(|(line, n)| line["label"] == text(*n).1.as_str());
    assert_eq!(right.count() as f64 / 120.0, score.accuracy);
    assert_eq!((lines.len(), &lines[119]["line"]), (120, &Value::from(120)));
    let mut child = Command::new(env!("CARGO_BIN_EXE_recurra"))
        .args(["predict", "--model", &out, "--device", "cpu", "--next", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = child.stdout.take().unwrap();
    let mut output = std::io::BufReader::new(output);
    let mut ask = |line: &str| {
        input.write_all(line.as_bytes()).unwrap();
        input.flush().unwrap();
        let mut answer = String::new();
        std::io::BufRead::read_line(&mut output, &mut answer).unwrap();
        answer
    };
    // Each line is answered before the next one is there.
    let answer = ask("w1 north w2 w0 south\n");
    assert!(answer.starts_with("north  ") && answer.contains("[south "), "{answer}");
    assert!(ask("south w2 north w1\r\n").starts_with("south  "));
    let empty = ask("\n");
    assert!(empty.contains(" %"), "an empty line is a text too: {empty}");
    drop(input);
    assert!(child.wait().unwrap().success());

    let page = folder.path().join("model/report.html");
    let html = std::fs::read_to_string(&page).unwrap();
    for words in [
        "Confusion matrix",
        "Accuracy by length",
        "as it should be",
        "Loss by step",
        "label_smoothing",
    ] {
        assert!(html.contains(words), "{words}");
    }
    if let Some(browser) = chromium() {
        let (dom, complaints) = browse(&browser, folder.path(), &page, &["--dump-dom"]);
        assert!(!complaints.contains("CONSOLE") && dom.contains("data-ready=\"yes\""));
        for words in ["Confusion matrix", "Accuracy by length", "for all", "predicted"] {
            assert!(dom.contains(words), "{words}");
        }
        // Two curves or three, the matrix, reliability, bars; each for windows and phones.
        assert!(dom.matches("<svg").count() >= 2 * 6, "{}", dom.matches("<svg").count());
    }

    good(&["microscope", "--model", &out, "--device", "cpu"]);
    let (_, again) = good(&["train", "classify", "--resume", &out, "--device", "cpu"]);
    assert!(again.contains("is complete") && again.contains(&told), "{again}");
    let bad = path("bad.tsv");
    std::fs::write(&bad, "w1 north w2 w0 south\tnorth\nw2 south\twest\n").unwrap();
    // What was not learned is wrong, and the first of it is named.
    let (json, said) = good(&["eval", "--model", &out, "--data", &bad, "--json"]);
    for words in ["bad.tsv", "line 2, column 10", "'west'", "'south'"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let score: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&score["sequences"], &score["unknown_labels"]), (&2.into(), &1.into()));
    assert_eq!(score["accuracy"], 0.5);
    let (table, _) = good(&["eval", "--model", &out, "--data", &bad]);
    assert!(table.contains("1 of 2 have labels that the model did not learn"), "{table}");
    let named = path("named.csv");
    std::fs::write(&named, "label,text\nwest,w1 north\nwest,w2 south\n").unwrap();
    fails(&["eval", "--model", &out, "--data", &named], 1, &["named.csv", "line 2, column 1: "]);
    fails(&["train", "classify", "--resume", &out, "--data", &bad], 1, &["not the file"]);
    std::fs::write(&bad, b"w1 north\nw2 \xff\n").unwrap();
    fails(&["predict", &bad, "--model", &out], 1, &["bad.tsv", "line 2", "UTF-8"]);
    let table = path("numbers.csv");
    std::fs::write(&table, "label,a,b\nnorth,1,2\n").unwrap();
    fails(&["eval", "--model", &out, "--data", &table], 1, &["numbers.csv", "reads texts"]);
    fails(&["train", "classify"], 2, &["--data"]);
    fails(&["train", "classify", "--data", &data, "--pool", "middle"], 2, &["last, mean or max"]);
    fails(&["train", "classify", "--data", &data, "--format", "xml"], 2, &["xml", "fasttext"]);
    fails(&["train", "classify", "--data", &data, "--format", "lines"], 2, &["there are tsv"]);
    fails(&["train", "classify", "--data", &data, "--label", "x"], 1, &["--label", "'tsv'"]);
    let scaled = ["train", "classify", "--data", &data, "--scaling", "all"];
    fails(&scaled, 1, &["--scaling is of numbers, and the data are texts"]);
}

#[derive(serde::Deserialize)]
struct ClassRead {
    sequences: usize,
    accuracy: f64,
    majority: Majority,
}

#[derive(serde::Deserialize)]
struct Majority {
    accuracy: f64,
}

/// Files of numbers without labels, in their forms, and those of labels beside them.
#[test]
fn a_whole_job_on_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    // Up or down by turns: the class is what the last three steps do.
    let value = |n: usize, t: usize| {
        let slope = if n.is_multiple_of(2) == (t >= 6) { 10.0 } else { -10.0 };
        500.0 + slope * t as f64 + drawn(n * 40 + t, 9) as f64
    };
    let name = |n: usize| ["up", "down"][n % 2];
    let (mut wide, mut bare) = (String::from("what,a,b,c,d,e,f,g,h,i,j\n"), String::new());
    for n in 0..160 {
        let row: Vec<String> = (0..10 - n % 3).map(|t| value(n, t).to_string()).collect();
        writeln!(wide, "{},{}{}", name(n), row.join(","), ",".repeat(n % 3)).unwrap();
        writeln!(bare, "{}{}", row.join(","), ",".repeat(n % 3)).unwrap();
    }
    std::fs::write(path("wide.csv"), wide).unwrap();
    std::fs::write(path("bare.csv"), bare).unwrap();
    let (data, bare, out) = (path("wide.csv"), path("bare.csv"), path("model"));
    let (_, said) = good(&[
        "train",
        "classify",
        "--data",
        &data,
        "--label",
        "what",
        "--out",
        &out,
        "--hidden",
        "12",
        "--layers",
        "1",
        "--cell",
        "gru",
        "--pool",
        "last",
        "--epochs",
        "20",
        "--lr",
        "0.02",
        "--test-share",
        "0.2",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]);
    assert!(
        said.contains("116 sequences of 1 values a step; 12 for validation, 32 to test"),
        "{said}"
    );
    let (json, _) = good(&["eval", "--model", &out, "--data", &data, "--json"]);
    let score: ClassRead = serde_json::from_str(&json).unwrap();
    assert!(score.accuracy > 0.9 && score.majority.accuracy == 0.5, "{json}");
    let (lines, _) = good(&["predict", &bare, "--model", &out, "--json"]);
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let right = lines.iter().enumerate().filter(|(n, line)| line["label"] == name(*n)).count();
    assert_eq!((lines.len(), right as f64 / 160.0), (160, score.accuracy));
    let mut child = Command::new(env!("CARGO_BIN_EXE_recurra"))
        .args(["predict", "--model", &out, "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(&bare).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().count() == 160 && text.contains("line 160, "), "{text}");
    let words = path("words.txt");
    std::fs::write(&words, "up and down\n").unwrap();
    fails(&["predict", &words, "--model", &out], 1, &["words.txt", "values a step"]);
    for (of_texts, name) in [
        (&["--embedding", "8"][..], "--embedding"),
        (&["--keep-case"], "--keep-case"),
        (&["--token-dropout", "0.1"], "--token-dropout"),
        (&["--min-count", "3"], "--min-count"),
        // An earlier word for it.
        (&["--least", "3"], "--min-count"),
    ] {
        let run = ["train", "classify", "--data", &data, "--label", "what"];
        let expected = format!("{name} is of texts, and the data are numbers");
        fails(&[&run[..], of_texts].concat(), 1, &[&expected]);
    }
    // A step a line: columns are found by their names, in whatever order they come.
    let steps = |order: [usize; 4], name: &str| {
        let mut table = String::new();
        for line in 0..=160usize * 6 {
            let (n, t) = (line.saturating_sub(1) / 6, line.saturating_sub(1) % 6);
            // The class is in the one column alone.
            let up = if n % 2 == 0 { 1 + t } else { 9 - t };
            let cells = match line {
                0 => ["who", "label", "told", "noise"].map(String::from),
                _ => [
                    n.to_string(),
                    ["up", "down"][n % 2].to_string(),
                    up.to_string(),
                    drawn(line, 9).to_string(),
                ],
            };
            writeln!(table, "{}", order.map(|column| cells[column].clone()).join(",")).unwrap();
        }
        std::fs::write(path(name), table).unwrap();
        path(name)
    };
    let (own, other) = (steps([0, 1, 2, 3], "own.csv"), steps([3, 1, 0, 2], "other.csv"));
    let out = path("long");
    let train = ["train", "classify", "--data", &own, "--sequence", "who", "--out", &out];
    let small = ["--hidden", "8", "--layers", "1", "--epochs", "12", "--lr", "0.02"];
    let run = [&train[..], &small, &["--validation", &other, "--test", &other]].concat();
    let (_, said) = good(&[&run[..], &["--device", "cpu", "--threads", "1"]].concat());
    assert!(said.contains("160 for validation, 160 to test"), "{said}");
    let accuracy = |file: &str| {
        let (json, _) = good(&["eval", "--model", &out, "--data", file, "--json"]);
        serde_json::from_str::<ClassRead>(&json).unwrap().accuracy
    };
    assert!(accuracy(&own) > 0.95 && accuracy(&own) == accuracy(&other));
    let predicted = |file: &str| good(&["predict", file, "--model", &out]).0;
    assert_eq!(predicted(&own), predicted(&other));
    let two = path("two.csv");
    std::fs::write(&two, "id,label,a,b\n1,up,1,2\n1,up,3,4\n").unwrap();
    let run = ["train", "classify", "--data", &data, "--label", "what", "--test", &two];
    fails(&run, 1, &["two.csv"]);
    let run = ["train", "classify", "--data", &data, "--label", "what", "--labels", &two];
    fails(&run, 1, &["two.csv", "labels lie in it"]);
}
