//! Whole jobs on the command line: what a run leaves and shows, every kind of token, music, scores and predictions.

mod common;

use common::command::{fails, fill, good, on_a_small_disk, text};
use common::outside::{browse, chromium, python, read_by_tensorboard};
use recurra::data::Buckets;
use recurra::engine::Engine;
use recurra::task::RecurrentConfig;
use recurra::task::TaskModel;
use recurra::task::lm::LanguageModel;
use recurra::task::music::{
    LOWEST, MusicModel, MusicTask, NOTES, NoteModel, Tunes, read_midi, write_midi,
};
use recurra::tensor::NamedTensors;
use recurra::train::{Checkpoint, LogLine, TrainOptions, Trainer, View};
use recurra::{CellKind, Error};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const SMALL: [&str; 8] = ["--hidden", "16", "--seq", "12", "--batch", "4", "--device", "cpu"];

fn sums(path: &Path) -> String {
    let text: String =
        (0..200).map(|i| format!("{} plus {} is {}.\n", i % 17, i % 13, i % 17 + i % 13)).collect();
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn a_run_leaves_what_there_is_to_see() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(&folder.path().join("sums.txt"));
    let out = folder.path().join("model");
    let out_name = out.to_str().unwrap();
    let mut all = vec!["train", "lm", "--data", &data, "--out", out_name, "--steps", "60"];
    all.extend(SMALL);
    all.extend(["--eval-every", "20", "--tensorboard", "--microscope", "20", "--lr", "0.02"]);
    all.extend(["--average", "ema:0.9", "--schedule", "one-cycle", "--clip-value", "0.5"]);
    let (_, said) = good(&all);
    for word in ["model    lstm 2x16", "validation", "bits/char", "the report:", "a sample:"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let lines = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let lines: Vec<LogLine> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 60);
    let rates: Vec<f32> = lines.iter().filter_map(|l| l.learning_rate).collect();
    assert!(
        rates.len() >= 6 && rates[rates.len() - 1] < 1e-5 && rates.iter().any(|&rate| rate > 0.017)
    );
    assert!(lines[59].gradient_norm.unwrap() > 0.0 && lines[19].val_loss.is_some());
    let looks = std::fs::read_to_string(out.join("microscope.jsonl")).unwrap();
    let looks: Vec<View> = looks.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(looks.iter().map(|l| l.step).collect::<Vec<_>>(), [1, 21, 41]);

    let page = out.join("report.html");
    let html = std::fs::read_to_string(&page).unwrap();
    for word in
        ["Loss by step", "Norm of all gradients", "Gradient microscope", "dL/dc(t)", "ema:0.9"]
    {
        assert!(html.contains(word), "{word}");
    }
    if let Some(browser) = chromium() {
        let (dom, complaints) = browse(&browser, folder.path(), &page, &["--dump-dom"]);
        assert!(!complaints.contains("CONSOLE") && dom.contains("data-ready=\"yes\""));
        // Three curves, two maps a layer, the updates; each for windows and phones.
        assert!(dom.matches("<svg").count() >= 2 * (3 + 4 + 1), "{}", dom.matches("<svg").count());
        assert!(dom.contains("Written by the model") && dom.contains("lstm.l1"));
    }
    if let Some(python) = python() {
        let found = read_by_tensorboard(&python, &out);
        let scalars = found["scalars"].as_object().unwrap();
        assert_eq!(scalars["loss/training"].as_array().unwrap().len(), 60);
        assert_eq!(scalars["loss/validation"].as_array().unwrap().len(), 3);
        let last = &scalars["loss/training"][59];
        assert!((last[1].as_f64().unwrap() - f64::from(lines[59].loss)).abs() < 1e-6);
        for tag in ["learning_rate", "gradient_norm", "updates/linear.weight"] {
            assert!(scalars.contains_key(tag), "{tag}: {:?}", scalars.keys());
        }
    }

    // Scores and predictions.
    let (json, _) = good(&["eval", "--model", out_name, "--data", &data, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    let loss = score["loss"].as_f64().unwrap();
    assert!(loss < 2.5 && (score["perplexity"].as_f64().unwrap().ln() - loss).abs() < 1e-9);
    assert!(
        (score["bits_per_byte"].as_f64().unwrap() - score["bits"].as_f64().unwrap()).abs() < 0.01
    );
    assert!(score["accuracy"].as_f64().unwrap() > 0.2);
    let mut child = Command::new(env!("CARGO_BIN_EXE_recurra"))
        .args(["predict", "--model", out_name, "--json", "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"3 plus 4 is 7.\n\n7 si 4 sulp\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let each = |line: usize| {
        lines[line]["nats"].as_f64().unwrap() / lines[line]["tokens"].as_f64().unwrap()
    };
    assert!(each(0) < each(2), "what is written as it learned is likelier");
    assert!(lines[1]["perplexity"].is_null() && lines[1]["tokens"] == 0);
    assert_eq!(lines[0]["next"].as_array().unwrap().len(), 3);
    std::fs::write(folder.path().join("odd.txt"), "3 plus 4\nwhat?\n").unwrap();
    let odd = folder.path().join("odd.txt");
    let odd = odd.to_str().unwrap();
    fails(&["predict", odd, "--model", out_name], 1, &["odd.txt", "line 2", "'w'"]);
    fails(&["eval", "--data", odd, "--model", out_name], 1, &["odd.txt", "line 2"]);

    // The microscope on what was trained.
    let (json, _) = good(&["microscope", "--model", out_name, "--json", "--device", "cpu"]);
    let view: View = serde_json::from_str(&json).unwrap();
    assert_eq!((view.layers.len(), view.layers[1].gradients.h.len()), (2, 12));
    assert!(!json.contains("\"step\""), "the weights don't tell of which step they are");
    let page = folder.path().join("look.html");
    let arguments = ["microscope", "--model", out_name, "--out", page.to_str().unwrap()];
    let (table, _) = good(&arguments);
    assert!(table.contains("gate f") && table.contains("spectral radius") && page.exists());

    // Somebody else's folder, and one of another version.
    let config = std::fs::read_to_string(out.join("config.json")).unwrap();
    let other = config.replace("\"task\": \"lm\"", "\"task\": \"chess\"");
    std::fs::write(out.join("config.json"), other).unwrap();
    for command in ["eval", "predict", "microscope"] {
        let arguments = [command, "--model", out_name, "--data", &data];
        let arguments = if command == "predict" { &arguments[..3] } else { &arguments };
        fails(arguments, 1, &["'chess'"]);
    }
    fails(&["sample", "--model", out_name], 1, &["'chess'", "'lm'"]);
    std::fs::write(out.join("config.json"), config.replace("\"format\": 2", "\"format\": 9"))
        .unwrap();
    fails(&["sample", "--model", out_name], 1, &["format 9", "up to format 2"]);
    // Version 0.1 had no tokens, and another number.
    let old = config.replace("\"format\": 2", "\"format\": 1");
    let old: String = old.lines().filter(|l| !l.contains("\"tokens\": \"characters\"")).collect();
    std::fs::write(out.join("config.json"), old).unwrap();
    good(&["sample", "--model", out_name, "--length", "5"]);
}

#[test]
fn looks_at_a_job_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(&folder.path().join("sums.txt"));
    let out = folder.path().join("model");
    let picture = folder.path().join("rates.svg");
    let run = |more: &[&str]| {
        let mut all = vec!["train", "--data", &data, "--out", out.to_str().unwrap()];
        all.extend(SMALL);
        all.extend(more);
        good(&all)
    };
    let (_, said) = run(&["--dry-run"]);
    assert!(said.contains("dry run") && said.contains("ms a step"), "{said}");
    let (table, _) = run(&["--check-gradients"]);
    assert!(table.contains("lstm.weight_hh_l1") && table.contains("difference"), "{table}");
    let (found, _) = run(&["--find-lr", picture.to_str().unwrap()]);
    assert!(found.contains("Learning rate"), "{found}");
    assert!(std::fs::read_to_string(&picture).unwrap().contains("<svg"));
    assert!(!out.exists(), "nothing else is written");
    // Nowhere to print: it is said, and the picture is there. Nowhere to draw: nothing is swept.
    let kept = folder.path().join("kept.svg");
    for look in [&["--find-lr", kept.to_str().unwrap()][..], &["--check-gradients"]] {
        let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else { break };
        let start = ["train", "--data", &data];
        let mut command = Command::new(env!("CARGO_BIN_EXE_recurra"));
        let output = command.args(start).args(SMALL).args(look).stdout(full).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("standard output") && !said.contains("panicked"), "{said}");
    }
    assert!(std::fs::read_to_string(&kept).unwrap().contains("<svg"));
    let nowhere = folder.path().join("no/rates.svg");
    run_fails(&data, &["--find-lr", nowhere.to_str().unwrap()], &["no/rates.svg"]);
    for (arguments, words) in [
        (&["train", "--dry-run", "--find-lr"][..], &["cannot be used with"][..]),
        (&["train", "--optimizer", "adagrad"], &["adagrad", "rms-prop"]),
        (&["train", "--schedule", "stairs"], &["stairs", "cosine"]),
        (&["train", "--average", "ema:2"], &["ema:2"]),
        (&["train", "--resume", "x", "--schedule", "cosine"], &["cannot be used with"]),
        (&["train", "--overfit", "2", "--patience", "3"], &["cannot be used with"]),
        (&["train", "lm", "--tokens", "letters"], &["letters", "words"]),
    ] {
        fails(arguments, 2, words);
    }
    let arguments = ["train", "--data", &data, "--tied", "--hidden", "16", "--embedding", "8"];
    fails(&arguments, 1, &["tied weights", "16", "8"]);
    run_fails(&data, &["--dry-run", "--microscope"], &["is no run", "--microscope"]);
    run_fails(&data, &["--vocabulary", "9"], &["--vocabulary is for words"]);
    run_fails(&data, &["--back", "40", "--memory", "1K"], &["keep within"]);
    let arguments = ["train", "--data", &data, "--cell", "rnn", "--forget-bias", "1"];
    fails(&arguments, 1, &["forget"]);
}

fn run_fails(data: &str, more: &[&str], words: &[&str]) {
    let mut all = vec!["train", "--data", data];
    all.extend(SMALL);
    all.extend(more);
    fails(&all, 1, words);
}

/// What a reviewer found: an ensemble over somebody's models, another text for validation, averages that were not
/// saved, the best of an ensemble, bytes that are no text.
#[test]
fn folders_and_texts_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let data = sums(&folder.path().join("sums.txt"));
    let other = path("validation.txt");
    std::fs::write(&other, "3 plus 4 is 7.\n".repeat(20)).unwrap();
    let run = |more: &[&str]| {
        let mut all = vec!["train", "--data", &data];
        all.extend(SMALL);
        all.extend(more);
        good(&all).1
    };
    let (one, all) = (path("all/seed-1"), path("all"));
    run(&["--steps", "5", "--out", &one]);
    run_fails(
        &data,
        &["--steps", "5", "--ensemble", "2", "--out", &all],
        &["already holds a model"],
    );

    // The least loss is another seed's than the last evaluation's: the best is told and sampled.
    let many = path("many");
    let few =
        ["--steps", "40", "--eval-every", "4", "--lr", "0.3", "--ensemble", "3", "--out", &many];
    let said = run(&few);
    let checkpoint = Checkpoint::load(Path::new(&many)).unwrap();
    let best = (0..3)
        .min_by(|&a, &b| checkpoint.state.best[a].loss.total_cmp(&checkpoint.state.best[b].loss));
    let name = format!("many/seed-{}", 1 + best.unwrap());
    assert!(said.contains(&name), "{name}: {said}");
    let (_, again) = good(&["train", "--resume", &many, "--device", "cpu"]);
    assert!(again.contains(&name), "{name}: {again}");

    let validated = path("validated");
    run(&["--steps", "5", "--validation", &other, "--out", &validated]);
    good(&["train", "--resume", &validated, "--device", "cpu"]);
    std::fs::write(&other, "4 plus 4 is 8.\n".repeat(20)).unwrap();
    fails(&["train", "--resume", &validated, "--device", "cpu"], 1, &["validated with"]);
    fails(&["train", "--resume", &one, "--precision", "f16"], 1, &["began in f32"]);

    // Nothing is evaluated here: the model is the average all the same.
    let average = path("average");
    run(&["--steps", "9", "--overfit", "4", "--average", "ema:0.9", "--out", &average]);
    let model =
        recurra::format::read_tensors(&Path::new(&average).join("model.safetensors")).unwrap();
    let checkpoint = Checkpoint::load(Path::new(&average)).unwrap();
    assert_eq!(model.tensors["linear.weight"], checkpoint.tensors["average.linear.weight"]);
    assert_ne!(model.tensors["linear.weight"], checkpoint.tensors["linear.weight"]);

    let binary = path("binary");
    std::fs::write(&binary, (0..3000u32).map(|i| (i * i % 251) as u8).collect::<Vec<_>>()).unwrap();
    let out = path("bytes");
    let mut all =
        vec!["train", "--data", &binary, "--tokens", "bytes", "--steps", "5", "--out", &out];
    all.extend(SMALL);
    good(&all);
    let (json, _) = good(&["eval", "--model", &out, "--data", &binary, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    // The same number by two ways of dividing.
    let [bits, per_byte] = ["bits", "bits_per_byte"].map(|name| score[name].as_f64().unwrap());
    assert!((bits / per_byte - 1.0).abs() < 1e-14, "{bits} {per_byte}");
    good(&["predict", &binary, "--model", &out, "--json"]);
}

#[test]
fn a_run_is_interrupted_from_the_keyboard_and_goes_on() {
    interrupted_by("-INT");
}

#[test]
fn a_run_that_the_system_ends_is_saved() {
    interrupted_by("-TERM");
}

fn interrupted_by(signal: &str) {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(&folder.path().join("sums.txt"));
    let out = folder.path().join("model");
    let mut all = vec!["train", "--data", &data, "--out", out.to_str().unwrap()];
    all.extend(SMALL);
    all.extend(["--steps", "100000000", "--eval-every", "50"]);
    let child = Command::new(env!("CARGO_BIN_EXE_recurra"))
        .args(&all)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    while !out.join("config.json").exists() {
        assert!(start.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("ending after this step") && said.contains("train lm --resume"),
        "{said}"
    );
    let checkpoint = Checkpoint::load(&out).unwrap();
    let lines = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    assert_eq!(lines.lines().count() as u64, checkpoint.step, "the log reaches the last step");
}

#[test]
fn bytes_and_words_are_modelled_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(&folder.path().join("sums.txt"));
    let binary = folder.path().join("binary");
    let bytes: Vec<u8> = (0..4000u32).map(|i| (i * i % 251) as u8).collect();
    std::fs::write(&binary, bytes).unwrap();
    let run = |name: &str, data: &str, more: &[&str]| {
        let out = folder.path().join(name).to_str().unwrap().to_string();
        let mut all = vec!["train", "--data", data, "--out", &out, "--steps", "40"];
        all.extend(SMALL);
        all.extend(more);
        let (_, said) = good(&all);
        let (written, _) = good(&["sample", "--model", &out, "--length", "30", "--top-p", "0.9"]);
        (out, said, written)
    };
    run("b", binary.to_str().unwrap(), &["--tokens", "bytes"]);
    let (out, said, written) =
        run("w", &data, &["--tokens", "words", "--vocabulary", "12", "--tied", "--back", "20"]);
    assert!(said.contains("perplexity") && said.contains("vocabulary 12"), "{said}");
    assert!(written.split_whitespace().count() > 15, "{written}");
    let (json, _) = good(&["eval", "--model", &out, "--data", &data, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    assert!(score["perplexity"].as_f64().unwrap() < 12.0);
    fails(&["sample", "--model", &out, "--top-p", "0"], 1, &["top-p"]);

    // Words that stand in the held-out tenth alone are unknown: <unk>, the line's end, aa, bb, cc.
    let late = folder.path().join("late.txt");
    let words = (0..2700).map(|i| ["aa", "bb", "cc"][i * (i + 1) / 2 % 3].to_string());
    let new = (0..300).map(|i| format!("new{i}"));
    std::fs::write(&late, words.chain(new).collect::<Vec<_>>().join(" ")).unwrap();
    let late = late.to_str().unwrap();
    let (_, said, _) = run("late", late, &["--tokens", "words"]);
    assert!(said.contains("vocabulary 4"), "{said}");
}

fn tunes() -> Tunes {
    // A scale up and down, of lengths that differ, with a note that depends on the one two steps before.
    let tune = |n: usize, length: usize| -> Vec<Vec<u32>> {
        (0..length)
            .map(|t| vec![((t + n) % 12 + 20) as u32, ((t + n + 2) % 12 + 40) as u32])
            .collect()
    };
    let many = |from: usize, count: usize| -> Vec<Vec<Vec<u32>>> {
        (from..from + count).map(|n| tune(n, 5 + n * 7 % 23)).collect()
    };
    Tunes { training: many(0, 40), validation: many(40, 9), test: many(49, 9) }
}

fn music(cell: CellKind) -> MusicModel {
    MusicModel::new(NoteModel::new(RecurrentConfig::new(cell, 48))).unwrap()
}

/// Batches of several shapes with masks against each tune by itself; and the same bits after an interruption.
#[test]
fn music_in_batches_of_many_shapes() {
    let tunes = tunes();
    let engine = Engine::cpu(Some(2)).unwrap();
    let options =
        TrainOptions { learning_rate: 0.05, evaluate_every: 50, ..TrainOptions::new(2000) };
    let run = |cut: Option<u64>| {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, mut checkpoint) = (Vec::new(), None);
        for cut in cut.into_iter().map(Some).chain([None]) {
            let task = MusicTask::new(music(CellKind::Gru), &tunes, 120).unwrap();
            assert!(task.buckets().shapes().len() > 2);
            let mut trainer = Trainer::new(&engine, &task, options.clone(), checkpoint).unwrap();
            let result = trainer.run(Some(folder.path()), |event| match event {
                recurra::train::Event::Losses(_, more) => {
                    losses.extend(more.iter().map(|l| l.0[0]));
                    Ok(())
                }
                recurra::train::Event::Saved(step) if Some(*step) == cut => {
                    Err(Error::Invalid("cut off".to_string()))
                }
                _ => Ok(()),
            });
            assert_eq!(result.is_err(), cut.is_some());
            checkpoint = Some(Checkpoint::load(folder.path()).unwrap());
        }
        (losses, checkpoint.unwrap())
    };
    let (whole, cut) = (run(None), run(Some(200)));
    assert_eq!(whole.0, cut.0);
    assert!(whole.1.tensors == cut.1.tensors);
    // Evenly unsure notes are 61 nats a step; by how often each sounds, 6.9.
    assert!(whole.0[0] > 50.0 && whole.0[1999] < 1.5, "{} {}", whole.0[0], whole.0[1999]);

    let model = music(CellKind::Gru);
    let weights: NamedTensors = whole.1.tensors.clone();
    let task = MusicTask::new(model.clone(), &tunes, 120).unwrap();
    let mut trainer = Trainer::new(&engine, &task, options, Some(whole.1)).unwrap();
    let evaluated = trainer.evaluate().unwrap().unwrap().0[0];
    let score = model.mean_score(&engine, &weights, &tunes.validation).unwrap();
    assert!((score.loss - f64::from(evaluated)).abs() < 1e-4 * score.loss, "{score:?} {evaluated}");
    // One tune at a time gives what many side by side give.
    let all = model.score(&engine, &weights, &tunes.test).unwrap();
    for (tune, (score, next)) in tunes.test.iter().zip(&all) {
        let alone = model.score(&engine, &weights, std::slice::from_ref(tune)).unwrap();
        assert!((alone[0].0.loss - score.loss).abs() < 1e-5 && next.len() == NOTES);
        let apart = alone[0].1.iter().zip(next).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5);
        assert!(score.accuracy > 0.6, "{score:?}");
    }
    let lengths: Vec<usize> = tunes.training.iter().map(Vec::len).collect();
    assert!(Buckets::new(&lengths, 120, 5).unwrap().padding() < 0.35);
}

#[test]
fn chorales_are_learned_on_the_command_line() {
    let Some(data) = common::data_folder("music_jsb") else { return };
    let data = data.join("jsb-chorales-quarter.json");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
    let (_, said) = good(&[
        "train", "music", "--data", data, "--out", out, "--hidden", "64", "--layers", "1",
        "--cell", "gru", "--epochs", "12", "--lr", "0.02", "--device", "cpu",
    ]);
    assert!(said.contains("test") && said.contains("nats a step"), "{said}");
    let (json, _) = good(&["eval", "--model", out, "--data", data, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    // By how often each note sounds in the tunes to train on, whatever came before: 11.06.
    let loss = score["loss"].as_f64().unwrap();
    println!("chorales: {loss} nats a step after 12 passes");
    assert!(loss < 10.0 && score["steps"] == 4725, "{score}");
    let (lines, _) = good(&["predict", data, "--model", out, "--json"]);
    assert_eq!(lines.lines().count(), 77);
    let bad = folder.path().join("bad.json");
    std::fs::write(&bad, r#"{"train": [[[60], [200]]]}"#).unwrap();
    let bad = bad.to_str().unwrap();
    fails(&["train", "music", "--data", bad], 1, &["bad.json", "tune 1, step 2", "200"]);
    fails(&["predict", "--model", out], 1, &["name a file or a folder"]);
    fails(&["train", "music"], 2, &["--data"]);
}

/// A folder of MIDI files is trained on, evaluated, and gone on from; what is played is a MIDI file too.
#[test]
fn midi_files_are_learned_and_played() {
    let folder = tempfile::tempdir().unwrap();
    let tunes = tunes();
    let files = folder.path().join("midi");
    for (name, list) in [("train", &tunes.training), ("valid", &tunes.validation)] {
        std::fs::create_dir_all(files.join(name)).unwrap();
        for (number, tune) in list.iter().enumerate() {
            let file = files.join(name).join(format!("{number:03}.mid"));
            write_midi(&file, tune, 0.5).unwrap();
        }
    }
    let read = Tunes::read(&files, 0.5).unwrap();
    assert!(read == Tunes { test: Vec::new(), ..tunes.clone() });
    let name = |path: &Path| path.to_str().unwrap().to_string();
    let (data, out) = (name(&files), name(&folder.path().join("model")));
    let (_, said) = good(&[
        "train",
        "music",
        "--data",
        &data,
        "--step",
        "0.5",
        "--out",
        &out,
        "--hidden",
        "48",
        "--layers",
        "1",
        "--cell",
        "gru",
        "--epochs",
        "40",
        "--lr",
        "0.02",
        "--batch-steps",
        "120",
        "--device",
        "cpu",
    ]);
    assert!(said.contains("midi: 40 tunes") && said.contains("9 of"), "{said}");
    let (json, _) = good(&["eval", "--model", &out, "--data", &data, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    // By how often each note sounds, 6.9.
    assert!(score["loss"].as_f64().unwrap() < 3.5, "{score}");
    // It goes on with a scale as the tunes do, and hears what it played: notes of each step in the next ones.
    let (prompt, played) = (files.join("valid/000.mid"), name(&folder.path().join("played.mid")));
    let play = ["sample", "--model", &out, "--prompt", prompt.to_str().unwrap(), "--length", "6"];
    good(&[&play[..], &["--temperature", "0", "--out", &played]].concat());
    let heard = &tunes.validation[0];
    let whole = read_midi(Path::new(&played), 0.5).unwrap();
    assert!(whole.len() <= heard.len() + 6 && whole[..heard.len()] == heard[..]);
    let (lines, _) = good(&[&play[..], &["--temperature", "0"]].concat());
    let notes: Vec<Vec<u32>> = lines
        .lines()
        .map(|line| line.split_whitespace().map(|n| n.parse::<u32>().unwrap() - LOWEST).collect())
        .collect();
    assert_eq!(notes.len(), heard.len() + 6);
    assert!(notes[..whole.len()] == whole[..], "{notes:?} {whole:?}");
    let (model, weights) = MusicModel::load(Path::new(&out)).unwrap();
    let engine = Engine::cpu(Some(1)).unwrap();
    for t in 0..6 {
        let before = vec![notes[..heard.len() + t].to_vec()];
        let next = &model.score(&engine, &weights, &before).unwrap()[0].1;
        let likely: Vec<u32> = (0..NOTES as u32).filter(|&key| next[key as usize] > 0.5).collect();
        assert_eq!(notes[heard.len() + t], likely, "step {t}");
    }
    // Other files under the same names are not what the run began with.
    let resume = ["train", "music", "--resume", &out];
    good(&resume);
    write_midi(&files.join("train/000.mid"), &tunes.training[1], 0.5).unwrap();
    fails(&resume, 1, &["not the file that the run began with"]);
    std::fs::write(files.join("train/broken.mid"), b"MThd").unwrap();
    let broken = ["train", "music", "--data", &data, "--out", &played];
    fails(&broken, 1, &["broken.mid", "no MIDI file"]);
    fails(&["sample", "--model", &out, "--top-k", "3"], 1, &["--top-k"]);
    fails(&[&broken[..], &["--step", "0"]].concat(), 2, &["above 0"]);
}

#[test]
fn parameters_in_groups_move_by_their_own_rates() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(&folder.path().join("sums.txt"));
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let all = ["train", "--data", &data, "--out", out.to_str().unwrap(), "--steps", "3"];
        good(&[&all[..], &SMALL, more].concat());
        Checkpoint::load(&out).unwrap().tensors
    };
    let plain = run("plain", &[]);
    let groups = run("groups", &["--group", "embedding:0", "--group", "l0+linear:0.5:0.1"]);
    let (model, _) = LanguageModel::load_config(&folder.path().join("groups")).unwrap();
    let start = model.initial_weights(1);
    assert_eq!(groups["embedding.weight"], start["embedding.weight"]);
    for name in ["lstm.weight_hh_l0", "linear.weight", "embedding.weight"] {
        assert_ne!(plain[name], groups[name], "{name}");
        assert_ne!(plain[name], start[name], "{name}");
    }
    let nowhere = folder.path().join("nowhere");
    let out =
        [&["train", "--data", &data, "--out", nowhere.to_str().unwrap()], &SMALL[..]].concat();
    fails(&[&out[..], &["--group", "lstm:x"]].concat(), 2, &["'x' is no factor"]);
    fails(&[&out[..], &["--group", "nothing:1"]].concat(), 1, &["no parameter is in the group"]);
}

/// What each task is trained on in a moment, and with which options.
fn small_jobs(folder: &Path) -> Vec<Vec<String>> {
    let file = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name).to_str().unwrap().to_string()
    };
    let many = |line: &dyn Fn(usize) -> String| (0..60).map(line).collect::<String>();
    let tunes = serde_json::json!({ "train": vec![[[60, 64], [62, 65], [64, 67]]; 20] });
    let sold = |i: usize| format!("2024-{:02}-{:02},{}\n", 1 + i / 28, 1 + i % 28, i % 7 + i / 20);
    let jobs = [
        ("lm", sums(&folder.join("sums.txt")), "--seq 12 --batch 4"),
        ("music", file("tunes.json", tunes.to_string()), "--batch-steps 12"),
        (
            "classify",
            file("texts.tsv", many(&|i| format!("a{} b{} c\t{}\n", i % 2, i % 5, i % 2))),
            "--batch 8",
        ),
        (
            "forecast",
            file("sales.csv", format!("date,sold\n{}", many(&sold))),
            "--target sold --horizon 3 --seq 12",
        ),
        (
            "tag",
            file("words.txt", many(&|i| format!("to O\nx{} B-x\n\n", i % 5))),
            "--batch-words 12",
        ),
    ];
    let common = "--hidden 8 --layers 1 --steps 6 --device cpu --threads 1";
    let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
    let job = |(task, data, own): (&str, String, &str)| {
        let start = ["train", task, "--data", &data].map(String::from).to_vec();
        [start, words(own), words(common)].concat()
    };
    jobs.into_iter().map(job).collect()
}

/// On a disk without room a run of any task says which file could not be written, and what was there stays: the
/// model still serves, and the run goes on when there is room.
#[test]
fn a_full_disk_loses_no_task() {
    let folder = tempfile::tempdir().unwrap();
    for job in small_jobs(folder.path()) {
        on_a_small_disk("4m", |disk| {
            let out = disk.join("model").to_str().unwrap().to_string();
            let job: Vec<&str> = job.iter().map(String::as_str).chain(["--out", &out]).collect();
            good(&job);
            let names = ["config.json", "model.safetensors", "training.safetensors"];
            let read = || names.map(|name| std::fs::read(disk.join("model").join(name)).unwrap());
            let before = read();
            let other = fill(disk);
            let resume = ["train", job[1], "--resume", &out];
            fails(&resume, 1, &["training.safetensors", "space"]);
            assert!(read() == before, "{}: the files are as they were", job[1]);
            good(&["eval", "--model", &out, "--data", job[3], "--device", "cpu"]);
            std::fs::remove_file(other).unwrap();
            good(&resume);
        });
    }
}

/// A run in JSON ends with what eval says in JSON, of the parts that were held out.
#[test]
fn runs_in_json_end_with_their_measures() {
    let folder = tempfile::tempdir().unwrap();
    for job in small_jobs(folder.path()) {
        let out = folder.path().join(&job[1]).to_str().unwrap().to_string();
        let more = ["--out", &out, "--json"];
        let (lines, _) = good(&job.iter().map(String::as_str).chain(more).collect::<Vec<_>>());
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        if job[1] == "lm" {
            assert_eq!(last["step"], 6, "a language model has its losses alone");
            continue;
        }
        let eval = ["eval", "--model", &out, "--data", &job[3], "--device", "cpu", "--json"];
        let measured: Value = serde_json::from_str(&good(&eval).0).unwrap();
        assert_eq!(keys(&last["validation"]), keys(&measured), "{}", job[1]);
    }
}

/// A folder says what it is, and no other task takes it.
#[test]
fn no_task_takes_anothers_folder() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = small_jobs(folder.path());
    let outs: Vec<String> = jobs
        .iter()
        .map(|job| {
            let out = folder.path().join(&job[1]).to_str().unwrap().to_string();
            good(&job.iter().map(String::as_str).chain(["--out", &out]).collect::<Vec<_>>());
            out
        })
        .collect();
    let file = |out: &String| Path::new(out).join("model.safetensors");
    let weights: Vec<Vec<u8>> = outs.iter().map(|out| std::fs::read(file(out)).unwrap()).collect();
    for (number, (job, out)) in jobs.iter().zip(&outs).enumerate() {
        let config = std::fs::read_to_string(Path::new(out).join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["task"], job[1].as_str());
        for other in jobs.iter().filter(|other| other[1] != job[1]) {
            let own = format!("task '{}'", job[1]);
            let hint = format!("recurra train {} --resume", job[1]);
            let wanted = format!("'{}'", other[1]);
            fails(&["train", &other[1], "--resume", out], 1, &[&own, &wanted, &hint]);
        }
        // Weights of another model are refused by name.
        std::fs::write(file(out), &weights[(number + 1) % weights.len()]).unwrap();
        let said = ["model.safetensors"];
        fails(&["eval", "--model", out, "--data", &job[3], "--device", "cpu"], 1, &said);
    }
}
