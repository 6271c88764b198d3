//! The command line, end to end.

mod common;

use recurra::format::{read_tensors, write_tensors};
use recurra::task::TaskModel;
use recurra::task::lm::LanguageModel;
use recurra::train::{Checkpoint, LogLine, MODEL};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn recurra() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recurra"));
    command.env("RUST_BACKTRACE", "1").env("RECURRA_CACHE", "");
    command
}

fn run(arguments: &[&str]) -> Output {
    recurra().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Three models at once: a folder each, mean and spread in the log, and no way on for one alone.
#[test]
fn ensembles_train_and_resume() {
    let folder = tempfile::tempdir().unwrap();
    let text = small_text(folder.path());
    let out = folder.path().join("all");
    let (text, out) = (text.to_str().unwrap(), out.to_str().unwrap());
    let start = ["train", "--data", text, "--out", out, "--ensemble", "3", "--seed", "5"];
    let rest = ["--steps", "20", "--eval-every", "10"];
    let output = recurra().args(start).args(SMALL).args(rest).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for word in ["3 models, seeds 5 to 7", " ± ", "seed 6", "recurra sample --model"] {
        assert!(stderr(&output).contains(word), "{word}: {}", stderr(&output));
    }
    let log = std::fs::read_to_string(Path::new(out).join("log.jsonl")).unwrap();
    let lines: Vec<LogLine> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.len() == 20 && lines.iter().all(|line| line.loss_spread.unwrap() > 0.0));
    assert!(lines[9].val_loss.is_some() && lines[9].val_loss_spread.is_some());
    let model = |seed: u64| format!("{out}/seed-{seed}");
    for seed in [5, 6, 7] {
        let output = run(&["sample", "--model", &model(seed), "--length", "9", "--device", "cpu"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    // The second is the model of a run of its own.
    let alone = folder.path().join("alone");
    let start = ["train", "--data", text, "--seed", "6", "--out", alone.to_str().unwrap()];
    assert!(recurra().args(start).args(SMALL).args(rest).status().unwrap().success());
    let weights = |folder: &Path| read_tensors(&folder.join(MODEL)).unwrap().tensors;
    assert_eq!(weights(&alone), weights(Path::new(&model(6))));
    let output = run(&["train", "--resume", out, "--device", "cpu"]);
    assert!(stderr(&output).contains("is complete: 20 steps"), "{}", stderr(&output));
    fails(&["train", "--resume", &model(6), "--device", "cpu"], 1, &["goes on with the others"]);
    fails(&["sample", "--model", out], 1, &["an ensemble", "seed-"]);
    fails(&["train", "--ensemble", "0"], 2, &["--ensemble"]);
}

/// Fails with `code` and says all of `words`, without a panic.
fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "{arguments:?} should say '{word}': {message}");
    }
}

fn small_text(folder: &Path) -> PathBuf {
    let path = folder.join("text.txt");
    let text: String = (0..300).map(|i| format!("{} is {}.\n", i, i * i % 97)).collect();
    std::fs::write(&path, text).unwrap();
    path
}

const SMALL: [&str; 8] = ["--hidden", "12", "--seq", "8", "--batch", "4", "--device", "cpu"];

#[test]
fn trains_on_shakespeare_and_writes() {
    let Some(data) = common::data_folder("lm_tinyshakespeare") else { return };
    let data = data.join("input.txt");
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let (data, model) = (data.to_str().unwrap(), model.to_str().unwrap());
    let output = run(&[
        "train", "--data", data, "--out", model, "--steps", "200", "--hidden", "64", "--device",
        "cpu", "--lr", "0.01", "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<LogLine> =
        stdout(&output).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let steps: Vec<u64> = lines.iter().map(|l| l.step).collect();
    assert_eq!(steps, (1..=200).collect::<Vec<_>>());
    // Untrained is ln 65 = 4.17; letters by frequency give 3.3, by the letter before 2.5.
    assert!(lines[0].loss > 4.0 && lines[0].loss < 4.6);
    let validation = lines[199].val_loss.unwrap();
    assert!(validation < 2.3, "validation loss {validation}");
    assert!(
        stdout(&output).contains("\"bits_per_char\"") && lines[9].chars_per_second.unwrap() > 0.0
    );
    for file in ["config.json", "model.safetensors", "training.safetensors", "loss.svg"] {
        assert!(Path::new(model).join(file).exists(), "{file}");
    }

    let sample = |seed: &str, temperature: &str| {
        let output = run(&[
            "sample",
            "--model",
            model,
            "--prompt",
            "ROMEO:",
            "--length",
            "120",
            "--seed",
            seed,
            "--temperature",
            temperature,
            "--top-k",
            "20",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let one = sample("1", "0.8");
    assert!(one.starts_with("ROMEO:"));
    assert_eq!(one.chars().count(), 6 + 120 + 1);
    assert_eq!(one, sample("1", "0.8"), "the same seed writes the same");
    assert_ne!(one, sample("2", "0.8"));
    assert_eq!(sample("1", "0"), sample("2", "0"), "no chance at temperature 0");
    // It has learnt what words look like: spaces about every few letters, few rare characters.
    let letters = one.chars().filter(|c| c.is_ascii_lowercase()).count();
    assert!(letters > 60, "{one}");
}

#[test]
fn kill_at_any_instant_leaves_a_checkpoint_that_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let text = small_text(folder.path());
    let model = folder.path().join("model");
    let mut steps = Vec::new();
    for round in 0..20u64 {
        let mut command = recurra();
        if round == 0 {
            command.args(["train", "--data", text.to_str().unwrap(), "--out"]).arg(&model);
            command.args(SMALL).args(["--steps", "10000000", "--save-every", "1"]);
            command.args(["--eval-every", "5"]);
        } else {
            command.args(["train", "--device", "cpu", "--resume"]).arg(&model);
        }
        let null = std::process::Stdio::null;
        let mut child = command.stdout(null()).stderr(null()).spawn().unwrap();
        let start = Instant::now();
        // The last of the first files: from here on the folder is a model.
        while !model.join("config.json").exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint was written");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Between 15 and 165 ms, at a different instant each time.
        std::thread::sleep(Duration::from_micros(15_000 + round * 7_919 * 7 % 150_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let checkpoint = Checkpoint::load(&model).unwrap();
        let (description, _) = LanguageModel::load_config(&model).unwrap();
        description.load_weights(&model).unwrap();
        steps.push(checkpoint.step);
    }
    assert!(steps.is_sorted(), "no step is lost: {steps:?}");
    assert!(steps[19] > steps[0], "the runs went on: {steps:?}");
    println!("steps at the kills: {steps:?}");
}

#[test]
fn bad_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let text = small_text(folder.path()).to_str().unwrap().to_string();
    let out = path("model");
    let with = |more: &[&'static str]| -> Vec<String> {
        let fixed = ["train", "--data", &text, "--out", &out];
        fixed.iter().chain(SMALL.iter()).chain(more).map(|s| s.to_string()).collect()
    };
    let fails_with = |more: &[&'static str], code: i32, words: &[&str]| {
        let arguments = with(more);
        fails(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), code, words);
    };

    std::fs::write(path("empty"), "").unwrap();
    fails(&["train", "--data", &path("empty"), "--out", &out], 1, &["empty", "the text is empty"]);
    std::fs::write(path("short"), "abc").unwrap();
    fails(&["train", "--data", &path("short"), "--out", &out], 1, &["too short", "are needed"]);
    std::fs::write(path("latin"), b"caf\xe9 noir").unwrap();
    fails(&["train", "--data", &path("latin"), "--out", &out], 1, &["not UTF-8", "0xe9", "line 1"]);
    fails(&["train", "--data", &path("absent"), "--out", &out], 1, &["absent", "No such file"]);
    fails(&["train", "--data", &text, "--out", &out, "--device", "abacus"], 1, &["abacus", "cpu"]);
    std::fs::write(path("file"), "").unwrap();
    let inside = path("file/model");
    let start = ["train", "--data", &text, "--out", &inside];
    fails(&start.into_iter().chain(SMALL).collect::<Vec<_>>(), 1, &["file/model"]);
    for option in ["--hidden", "--layers", "--seq", "--batch", "--steps", "--threads"] {
        fails(&["train", option, "0"], 2, &[option]);
    }
    fails(&["train", "--dropout", "1"], 2, &["--dropout", "less than 1"]);
    fails(&["train", "--lr", "nan"], 2, &["--lr"]);
    let sizes = ["train", "--data", &text, "--out", &out];
    for seq in ["9223372036854775808", "9223372036854775809", "18446744073709551615"] {
        let more = sizes.into_iter().chain(["--seq", seq]).collect::<Vec<_>>();
        fails(&more, 1, &["too short"]);
    }
    let deep = SMALL.into_iter().chain(["--layers", "1000000"]);
    fails(&sizes.into_iter().chain(deep).collect::<Vec<_>>(), 1, &["1000000 layers"]);
    fails(&["train", "--data", &text, "--out", &out, "--device", ""], 1, &["no device ''"]);
    fails(&["train", "chess"], 2, &["chess", "unrecognized"]);
    assert!(!Path::new(&out).exists(), "no failed start leaves a folder");

    // Somebody's own file of that name is not overwritten.
    std::fs::create_dir(path("own")).unwrap();
    std::fs::write(path("own/model.safetensors"), "mine").unwrap();
    let own = path("own");
    let start = ["train", "--data", &text, "--out", &own];
    fails(&start.into_iter().chain(SMALL).collect::<Vec<_>>(), 1, &["already holds"]);
    assert_eq!(std::fs::read(path("own/model.safetensors")).unwrap(), b"mine");

    // A loss that is no number: the step is named, the checkpoint of the start is whole.
    fails_with(&["--steps", "60", "--lr", "3e38"], 1, &["the loss became", "at step"]);
    let checkpoint = Checkpoint::load(Path::new(&out)).unwrap();
    assert!(checkpoint.tensors.values().all(|t| t.iter().all(|x| x.is_finite())));
    // A folder with a model is not overwritten.
    fails_with(&["--steps", "5"], 1, &["already holds a model"]);

    let model = Path::new(&out);
    fails(&["sample", "--model", &out, "--prompt", "Ω"], 1, &["'Ω'"]);
    fails(&["sample", "--model", &path("nowhere")], 1, &["nowhere", "config.json"]);
    fails(&["sample", "--model", &out, "--temperature=-1"], 1, &["temperature"]);
    let whole = std::fs::read(model.join(MODEL)).unwrap();
    std::fs::write(model.join(MODEL), &whole[..whole.len() / 2]).unwrap();
    fails(&["sample", "--model", &out], 1, &["model.safetensors", "cut short"]);
    std::fs::write(model.join(MODEL), &whole).unwrap();
    // A weight that is no number, wherever the model is used.
    let mut poisoned = read_tensors(&model.join(MODEL)).unwrap();
    let name = "lstm.weight_hh_l0";
    poisoned.tensors.get_mut(name).unwrap()[[3, 1]] = f32::NAN;
    write_tensors(&model.join(MODEL), &poisoned).unwrap();
    let file = path("nan.onnx");
    for arguments in [&["sample", "--model", &out][..], &["export", &out, "--out", &file]] {
        fails(arguments, 1, &[MODEL, name, "[3, 1]", "NaN"]);
    }
    std::fs::write(model.join(MODEL), &whole).unwrap();
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(model.join("config.json"), config.replace("\"hidden\": 12", "\"hidden\": 13"))
        .unwrap();
    fails(&["sample", "--model", &out], 1, &["shape"]);
    fails(&["train", "--resume", &out, "--device", "cpu"], 1, &["shape"]);
    std::fs::write(model.join("config.json"), "{").unwrap();
    fails(&["sample", "--model", &out], 1, &["config.json", "EOF"]);
    std::fs::write(model.join("config.json"), config).unwrap();
    let other = std::fs::read_to_string(&text).unwrap() + "more";
    std::fs::write(&text, other).unwrap();
    fails(&["train", "--resume", &out, "--device", "cpu"], 1, &["is not the text"]);
}

#[test]
fn a_model_that_does_not_fit_names_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let text = small_text(folder.path());
    let text = text.to_str().unwrap();
    let out = folder.path().join("model");
    let out = out.to_str().unwrap();
    let fixed = ["train", "--data", text, "--out", out, "--seq", "8", "--batch", "4"];
    let big = |more: &[&'static str]| -> Vec<&str> {
        fixed.iter().copied().chain(more.iter().copied()).collect()
    };
    let arguments = big(&["--device", "cpu", "--hidden", "30000", "--layers", "4"]);
    fails(&arguments, 1, &["free memory", "is needed"]);
    if common::gpu_engine().is_some() {
        let arguments = big(&["--device", "gpu", "--hidden", "100000", "--layers", "1"]);
        fails(&arguments, 1, &["lstm.weight_hh_l0"]);
        let arguments = big(&["--device", "gpu", "--hidden", "30000", "--layers", "1"]);
        fails(&arguments, 1, &["maxStorageBufferBindingSize", "is needed", "lstm.weight_hh_l0"]);
    }
}

#[test]
fn profiles_are_traces_on_every_device() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    let path = file.to_str().unwrap();
    let small = ["--time", "3", "--batch", "2", "--input", "4", "--hidden", "6", "--seconds", "0"];
    for device in ["cpu", "gpu"] {
        if device == "gpu" && common::gpu_engine().is_none() {
            continue;
        }
        let bench = ["bench", "--device", device, "--strategy", "step", "--profile", path];
        let output = run(&[&bench[..], &small].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).contains("us a launch"), "{}", stdout(&output));
        assert!(stdout(&output).contains("the device was busy"), "{}", stdout(&output));
        let trace = std::fs::read_to_string(&file).unwrap();
        let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let steps: Vec<_> = events.iter().filter(|e| e["name"] == "step_backward").collect();
        assert_eq!(steps.len(), 3, "{device}");
        // One after another on the device's clock.
        let starts: Vec<_> = steps.iter().map(|e| e["ts"].as_f64().unwrap()).collect();
        assert!(starts.windows(2).all(|w| w[0] < w[1]), "{device}: {starts:?}");
        assert!(steps.iter().all(|e| e["dur"].as_f64().unwrap() > 0.0), "{device}");
    }
    let nowhere = folder.path().join("no/trace.json");
    let bench = ["bench", "--device", "cpu", "--profile", nowhere.to_str().unwrap()];
    fails(&[&bench[..], &small].concat(), 1, &["no/trace.json"]);
}

#[test]
fn suites_are_listed_and_shapes_are_drawn_under_the_roofline() {
    let output = run(&["bench", "--suite", "varlen", "--list"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["cell"], "lstm");
    assert_eq!((&lines[0]["time"], &lines[0]["shortest"]), (&4000.into(), &10.into()));
    fails(&["bench", "--list"], 2, &["--suite"]);
    // What a device can't do is told of each shape, and in JSON too.
    let output =
        run(&["bench", "--suite", "varlen", "--device", "cpu", "--precision", "f16", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("does not fit").count(), 4, "{}", stderr(&output));
    for line in stdout(&output).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["error"].as_str().unwrap().contains("f16"), "{line}");
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roofline.svg");
    let small = ["--time", "3", "--batch", "2", "--input", "4", "--hidden", "6", "--seconds", "0"];
    let fixed = ["bench", "--device", "cpu", "--threads", "1", "--picture"];
    let output = run(&[&fixed[..], &[file.to_str().unwrap()], &small].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    for word in ["driver", "commit"] {
        assert!(stdout(&output).contains(word), "{}", stdout(&output));
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"));
    // Every tag is closed: by itself, or after its text.
    let opened = text.matches('<').count() - text.matches("</").count();
    assert_eq!(opened, text.matches("/>").count() + text.matches("</").count());
    assert_eq!(text.matches("<circle").count(), 1, "a mark a shape");
    for words in ["lstm T3 B2 I4 H6 L1", "cpu (1 thread)", "GFLOP/s", "GB/s", "commit"] {
        assert!(text.contains(words), "{words}");
    }
    // A file that can't be written is named before anything is measured.
    let nowhere = folder.path().join("no/roofline.svg");
    fails(&[&fixed[..], &[nowhere.to_str().unwrap()], &small].concat(), 1, &["no/roofline.svg"]);
}

#[test]
fn verify_devices_bench_explain_and_help_answer() {
    let output = run(&["--version"]);
    assert!(stdout(&output).contains("(commit "), "{}", stdout(&output));
    let output = run(&["devices"]);
    assert!(output.status.success() && stdout(&output).contains("cpu"));
    fails(&["devices", "--tune", "0", "--device", "cpu"], 1, &["GPU"]);
    fails(&["devices", "--tune", "soon"], 2, &["--tune"]);
    fails(&["devices", "--device", "gpu"], 2, &["--tune"]);
    let output = run(&["devices", "--tune", "0", "--json"]);
    // Where there is a GPU, or a driver that computes on the CPU.
    if output.status.success() {
        let line: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
        assert_eq!(line["measured"].as_array().unwrap().len(), 1, "{line}");
        let text = stdout(&run(&["devices", "--tune", "0"])).to_string();
        assert!(text.contains("measured") && text.contains("estimated"), "{text}");
    }
    for command in ["train", "sample", "devices", "verify", "bench", "explain"] {
        let output = run(&[command, "--help"]);
        assert!(output.status.success() && stdout(&output).contains("Usage"), "{command}");
    }
    let output = run(&[
        "bench",
        "--cell",
        "gru",
        "--time",
        "3",
        "--batch",
        "2",
        "--input",
        "4",
        "--hidden",
        "5",
        "--layers",
        "2",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    for name in [
        "cell",
        "time",
        "batch",
        "input",
        "hidden",
        "layers",
        "device",
        "driver",
        "commit",
        "engine",
        "strategy",
        "threads",
        "launches",
        "forward_ms",
        "forward_backward_ms",
        "forward_gflops",
        "forward_backward_gflops",
        "peak_gflops",
    ] {
        assert!(line.get(name).is_some_and(|v| !v.is_null()), "{name} in {line}");
    }
    let small = ["--time", "3", "--batch", "2", "--input", "4", "--hidden", "6", "--device", "cpu"];
    let explain = |more: &[&'static str]| run(&[&["explain"], &small[..], more].concat());
    let output = explain(&["--json", "--heads", "2", "--shortest", "1", "--memory", "1M"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let step = lines.iter().find(|l| l["pass"] == "forward" && l["kernel"] == "step_forward");
    let step = step.unwrap_or_else(|| panic!("{lines:?}"));
    // 2·B·4H·H/heads and 60 for each unit's gates, three times.
    assert_eq!(step["flops"], 3 * (2 * 2 * 24 * 3 + 60 * 2 * 6));
    assert_eq!(step["launches"], 3);
    for name in ["bytes", "predicted_ms", "limit"] {
        assert!(step.get(name).is_some_and(|v| !v.is_null()), "{name} in {step}");
    }
    let text = stdout(&explain(&[])).to_string();
    assert!(text.contains("GFLOP/s") && text.contains("limited by"), "{text}");
    let text = stdout(&explain(&["--weights", "int8"])).to_string();
    // 24 columns of 4 terms and a scale; four gates of six units, which are sixteen.
    assert!(text.contains("weight_ih_l0 of matmul: int8, 0.2 KiB"), "{text}");
    assert!(text.contains("weight_hh_l0 of step_forward: int8, 0.8 KiB"), "{text}");
    assert!(!text.contains("forward+backward"), "{text}");
    let latency = ["--latency", "--seconds", "0", "--weights", "bf16", "--json"];
    let output = run(&[&["bench", "--device", "cpu", "--hidden", "32"], &latency[..]].concat());
    let line: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    // W of 256 columns, R, and two biases.
    assert_eq!(line["weight_bytes"], 2 * 128 * (256 + 32) + 2 * 4 * 128);
    if common::gpu_engine().is_some() {
        fails(&["explain", "--device", "gpu", "--weights", "int8"], 1, &["int8", "CPU"]);
    }
    let output = explain(&["--memory", "1"]);
    assert!(!output.status.success() && stderr(&output).contains("1 bytes"), "{}", stderr(&output));
    let output = run(&["bench", "--suite", "nosuch"]);
    assert!(
        !output.status.success() && stderr(&output).contains("flashrnn"),
        "{}",
        stderr(&output)
    );
    let output = run(&["verify", "--device", "cpu", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut count = 0;
    for line in stdout(&output).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["pass"], true);
        for name in ["kernel", "case", "max_ulp", "max_rel"] {
            assert!(line.get(name).is_some(), "{name} in {line}");
        }
        count += 1;
    }
    assert!(count > 100);
    // Options of a seed in several shapes, other ones for each.
    let random = ["verify", "--device", "cpu", "--json", "--random", "2", "--seed", "5"];
    let output = run(&[&random[..], &["--shapes", "3"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let case =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["case"].clone();
    let cases: BTreeSet<String> = stdout(&output).lines().map(|l| case(l).to_string()).collect();
    assert_eq!(cases.len(), 6, "{cases:?}");
    // It would take days.
    let many = ["verify", "--device", "cpu", "--random", "1000000000", "--seconds", "1"];
    let output = run(&many);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("the time was over"), "{}", stderr(&output));
    assert!(stdout(&output).contains("step_forward/"), "{}", stdout(&output));
    fails(&["verify", "--device", "cpu", "--seconds", "0"], 2, &["--seconds"]);
    fails(&["verify", "--device", "cpu", "--shapes", "3"], 2, &["--random"]);
    fails(&["verify", "--device", "cpu", "--random", "1", "--shapes", "0"], 2, &["--shapes"]);
}

/// Two runs never write into one folder; a run that was killed before its first checkpoint was whole
/// does not block its folder; a model file that is older than the checkpoint is made anew.
#[test]
fn folders_belong_to_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let text = small_text(folder.path());
    let text = text.to_str().unwrap();
    let model = folder.path().join("model");
    let out = model.to_str().unwrap();
    let train = |steps: &'static str| -> Vec<&str> {
        let start = ["train", "--data", text, "--out", out, "--steps", steps];
        start.into_iter().chain(SMALL).collect()
    };
    // Killed between its first files.
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join(".lock"), "").unwrap();
    std::fs::write(model.join("training.safetensors"), "half").unwrap();
    let mut first =
        recurra().args(train("10000000")).stderr(std::process::Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !model.join("config.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    fails(&["train", "--resume", out, "--device", "cpu"], 1, &["another run"]);
    first.kill().unwrap();
    first.wait().unwrap();

    std::fs::remove_dir_all(&model).unwrap();
    assert!(run(&train("20")).status.success());
    let weights = std::fs::read(model.join(MODEL)).unwrap();
    let old = {
        let other = folder.path().join("other");
        let start = ["train", "--data", text, "--out", other.to_str().unwrap(), "--steps", "1"];
        assert!(recurra().args(start).args(SMALL).status().unwrap().success());
        std::fs::read(other.join(MODEL)).unwrap()
    };
    assert_ne!(weights, old);
    std::fs::write(model.join(MODEL), old).unwrap();
    std::fs::remove_file(model.join("loss.svg")).unwrap();
    assert!(run(&["train", "--resume", out, "--device", "cpu"]).status.success());
    assert_eq!(std::fs::read(model.join(MODEL)).unwrap(), weights);
    assert!(model.join("loss.svg").exists());
}

/// Every loss up to the one that is no number is in the log.
#[test]
fn the_log_reaches_the_step_of_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let text = small_text(folder.path());
    let model = folder.path().join("model");
    let output = recurra()
        .args(["train", "--data", text.to_str().unwrap(), "--out"])
        .arg(&model)
        .args(SMALL)
        .args(["--cell", "rnn_relu", "--lr", "3", "--clip", "1e38", "--optimizer", "sgd"])
        .output()
        .unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let (_, after) = message.split_once("at step ").unwrap();
    let step: u64 = after.split(';').next().unwrap().parse().unwrap();
    let log = std::fs::read_to_string(model.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count() as u64, step - 1, "{message}");
}

/// The script for machines with a GPU, without any time: it goes through all of its sections, and says of each that the
/// time was over.
#[test]
#[cfg(unix)]
fn the_script_for_gpus_writes_in_its_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/on-gpu");
    let mut command = Command::new("bash");
    command.args([script, env!("CARGO_BIN_EXE_recurra")]).arg(folder.path()).arg("cpu");
    let output = command.env("RECURRA_MINUTES", "0").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let files: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path()).collect();
    let report = files.iter().find(|file| file.extension().is_some_and(|end| end == "md"));
    let report = std::fs::read_to_string(report.unwrap()).unwrap();
    for words in ["## Verify", "## Suite deepbench", "the time was over in recurra bench"] {
        assert!(report.contains(words), "{report}");
    }
    assert_eq!(files.len(), 2, "{files:?}");
}
