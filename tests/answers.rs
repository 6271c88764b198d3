//! What commands answer where something is missing, unknown, or in the way.
#![cfg(feature = "cli")]

mod common;

use common::command::{fails, good, text};
use flate2::Compression;
use flate2::write::GzEncoder;
use recurra::cell::CellKind;
use recurra::convert::{CellChoice, export_language_model, import};
use recurra::data::Vocabulary;
use recurra::format::{TensorFile, write_tensors};
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, ModelConfig};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const SMALL: [&str; 8] = ["--hidden", "12", "--seq", "8", "--batch", "4", "--device", "cpu"];

/// A text of sums: its path.
fn sums(folder: &Path) -> String {
    let path = folder.join("sums.txt");
    let text: String = (0..300).map(|i| format!("{} and {} is {}.\n", i, i, 2 * i)).collect();
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

/// A language model's folder, hardly more than its names.
fn language_model(folder: &Path, cell: &str, layer_norm: bool) {
    let model = LanguageModel::new(ModelConfig {
        cell: cell.to_string(),
        embedding: 3,
        hidden: 4,
        layers: 1,
        layer_norm,
        ..ModelConfig::new(&Vocabulary::of("abc"))
    })
    .unwrap();
    model.save_config(folder, &()).unwrap();
    let file = TensorFile { tensors: model.initial_weights(1), ..TensorFile::default() };
    write_tensors(&folder.join("model.safetensors"), &file).unwrap();
}

/// A cell goes out, and comes in again, as itself or not at all.
#[test]
fn no_cell_is_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for cell in CellKind::ALL.map(CellKind::name) {
        let dir = path(cell);
        language_model(Path::new(&dir), cell, false);
        let file = format!("{dir}/model.safetensors");
        let [onnx, tensors, layers] =
            ["onnx", "safetensors", "l.onnx"].map(|ending| path(&format!("{cell}.{ending}")));
        let Some(choice) = CellChoice::named(cell) else {
            let said = export_language_model(Path::new(&dir)).unwrap_err();
            assert!(matches!(said, recurra::Error::Unsupported(_)), "{said}");
            for out in [&onnx, &tensors] {
                fails(&["export", &dir, "--out", out], 1, &[cell]);
                fails(&["export", &file, "--out", out], 1, &[cell]);
                assert!(!Path::new(out).exists());
            }
            fails(&["import", &file], 1, &[cell]);
            continue;
        };
        for (from, out) in [(&dir, &onnx), (&dir, &tensors), (&file, &layers)] {
            good(&["export", from, "--out", out]);
        }
        for file in [&file, &onnx, &tensors, &layers] {
            let found = import(Path::new(file), None).unwrap().layers;
            assert_eq!(found[0].facts.cell, choice.cell, "{file}");
            let wanted = choice.activation.map_or(choice.cell.activations().to_vec(), |a| vec![a]);
            assert_eq!(found[0].facts.activations, Some(vec![wanted]), "{file}");
        }
    }
    let normed = path("normed");
    language_model(Path::new(&normed), "lstm", true);
    let (file, out) = (format!("{normed}/model.safetensors"), path("n.safetensors"));
    fails(&["export", &normed, "--out", &out], 1, &["layer norm"]);
    fails(&["import", &file, "--out", &out], 1, &["norm_"]);
    let (table, said) = good(&["import", &file]);
    assert!(table.contains("lstm") && said.contains("can't be converted"), "{said}");
    // What is read stays.
    let (dir, file) = (path("lstm"), path("lstm/model.safetensors"));
    let before = std::fs::read(&file).unwrap();
    fails(&["import", &file, "--out", &file], 1, &["name another --out"]);
    for model in [&dir, &file] {
        fails(&["export", model, "--out", &file], 1, &["name another --out"]);
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

/// A run without validation tells its training loss, and takes no option that goes by another.
#[test]
fn a_run_without_validation_tells_its_loss() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(folder.path());
    let out = folder.path().join("model");
    let start = ["train", "--data", &data, "--out", out.to_str().unwrap(), "--overfit", "2"];
    let steps = ["--steps", "25", "--eval-every", "8"];
    let (_, said) = good(&[&start[..], &SMALL, &steps].concat());
    for word in
        ["step      8  loss ", "step     16  loss ", "done     25 steps", "; training loss "]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("validation "), "{said}");
    for (more, word) in
        [(["--schedule", "plateau"], "--schedule plateau"), (["--average", "nt-asgd"], "nt-asgd")]
    {
        let lm = ["train", "--data", &data, "--overfit", "2"];
        fails(&[&lm[..], &SMALL, &more].concat(), 1, &[word, "validat"]);
    }
}

/// A folder without weights says what it lacks.
#[test]
fn a_folder_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(folder.path());
    let model = folder.path().join("model");
    let out = model.to_str().unwrap();
    let start = ["train", "--data", &data, "--out", out, "--steps", "2"];
    good(&[&start[..], &SMALL].concat());
    let whole = std::fs::read(model.join("model.safetensors")).unwrap();
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    fails(&["sample", "--model", out], 1, &["model.safetensors is missing", "--resume"]);
    good(&["train", "--resume", out, "--device", "cpu"]);
    assert_eq!(std::fs::read(model.join("model.safetensors")).unwrap(), whole);
    for file in ["model.safetensors", "training.safetensors"] {
        std::fs::remove_file(model.join(file)).unwrap();
    }
    for arguments in [&["sample", "--model", out][..], &["train", "--resume", out]] {
        fails(arguments, 1, &["safetensors"]);
        let output = Command::new(env!("CARGO_BIN_EXE_recurra")).args(arguments).output().unwrap();
        assert!(!text(&output.stderr).contains("ensemble"), "{}", text(&output.stderr));
    }
}

/// Data are found again from elsewhere; where they are no more it is said whence their name comes. A name that
/// can't be kept is refused before anything is trained.
#[test]
fn runs_find_their_data_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (here, data) = (folder.path(), sums(folder.path()));
    let out = here.join("model");
    let command = || Command::new(env!("CARGO_BIN_EXE_recurra"));
    let start = ["train", "--data", "sums.txt", "--out", "model", "--steps", "2"];
    let begun = command().args(start).args(SMALL).current_dir(here).output().unwrap();
    assert!(begun.status.success(), "{}", text(&begun.stderr));
    let out = out.to_str().unwrap();
    good(&["train", "--resume", out, "--device", "cpu"]);
    good(&["microscope", "--model", out, "--device", "cpu"]);
    let moved = here.join("moved.txt");
    std::fs::rename(&data, &moved).unwrap();
    for arguments in [&["train", "--resume", out][..], &["microscope", "--model", out]] {
        fails(arguments, 1, &["sums.txt", "config.json", "--data"]);
    }
    good(&["train", "--resume", out, "--device", "cpu", "--data", moved.to_str().unwrap()]);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let strange = here.join(std::ffi::OsStr::from_bytes(b"n\xffme.txt"));
        std::fs::copy(&moved, &strange).unwrap();
        let never = here.join("never");
        let mut train = command();
        train.args(["train", "--data"]).arg(&strange).arg("--out").arg(&never).args(SMALL);
        let output = train.output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("me.txt"), "{said}");
        assert!(said.contains("UTF-8") && !never.exists(), "{said}");
    }
}

/// What a command prints of what it reads from standard input.
fn piped(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recurra"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    text(&output.stdout)
}

/// A table is the same table by its name and from standard input.
#[test]
fn tables_are_known_by_their_first_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let many = |line: &dyn Fn(usize) -> String| (0..40).map(line).collect::<String>();
    let texts = many(&|i| format!("{i},\"a{} b, c{}\",{}\n", i % 2, i % 3, i % 2));
    let numbers = many(&|i| format!("{},{},{}\n", i % 2, i % 5, ["x", "y"][i % 2]));
    for (name, table, bare) in [
        ("texts", format!("id,text,label\n{texts}"), "text\na1 b\n\"a0, b\"\n"),
        ("numbers", format!("first,second,label\n{numbers}"), "first,second\n1,2\n0,4\n"),
    ] {
        let (file, out) = (path(&format!("{name}.csv")), path(name));
        std::fs::write(&file, &table).unwrap();
        let train = ["train", "classify", "--data", &file, "--out", &out, "--steps", "2"];
        good(&[&train[..], &["--hidden", "8", "--layers", "1", "--device", "cpu"]].concat());
        let predict = ["predict", "--model", &out, "--device", "cpu"];
        let (by_name, _) = good(&[&predict[..], &[&file]].concat());
        assert_eq!(by_name.lines().count(), 40, "{by_name}");
        assert_eq!(piped(&predict, &table), by_name);
        assert_eq!(piped(&predict, bare).lines().count(), 2, "{name}");
    }
    // Other lines are texts as ever.
    let predict = ["predict", "--model", &path("texts"), "--device", "cpu"];
    assert_eq!(piped(&predict, "a1 b, c\na0\n").lines().count(), 2);
}

/// Words that a model doesn't know cost no bits, so there are no bits per byte.
#[test]
fn unknown_words_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(folder.path());
    let out = folder.path().join("model");
    let out = out.to_str().unwrap();
    let start = ["train", "--data", &data, "--out", out, "--steps", "2", "--tokens", "words"];
    good(&[&start[..], &SMALL].concat());
    let eval = |content: &str| {
        let other = folder.path().join("other.txt");
        std::fs::write(&other, content).unwrap();
        let eval = ["eval", "--model", out, "--data", other.to_str().unwrap(), "--device", "cpu"];
        let json: Value =
            serde_json::from_str(&good(&[&eval[..], &["--json"]].concat()).0).unwrap();
        (good(&eval).0, json)
    };
    let (table, json) = eval("1 and 1 is 2.");
    assert!(table.contains("bits per byte") && json["bits_per_byte"].as_f64() > Some(0.0));
    assert_eq!(json["unknown_words"], 0.0);
    let (table, json) = eval("1 and one is 2.");
    assert!(!table.contains("bits per byte") && table.contains("20.00 % of the words"), "{table}");
    assert_eq!((&json["bits_per_byte"], &json["unknown_words"]), (&Value::Null, &0.2.into()));
}

/// Few tunes are enough, one is not.
#[test]
fn few_tunes_are_learned() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tunes.json");
    let out = folder.path().join("model");
    let (data, model) = (file.to_str().unwrap(), out.to_str().unwrap());
    let tunes = |count: usize| {
        let tune = [[60, 64], [62, 65], [64, 67]];
        std::fs::write(&file, serde_json::json!({ "train": vec![tune; count] }).to_string())
            .unwrap();
    };
    let train = ["train", "music", "--data", data, "--out", model, "--steps", "2", "--hidden", "8"];
    tunes(1);
    fails(&train, 1, &["one tune alone"]);
    let output = Command::new(env!("CARGO_BIN_EXE_recurra")).args(train).output().unwrap();
    assert!(!text(&output.stderr).contains("--batch-steps"), "{}", text(&output.stderr));
    tunes(3);
    fails(&[&train[..], &["--batch-steps", "2"]].concat(), 1, &["3 steps", "(--batch-steps)"]);
    let (_, said) = good(&[&train[..], &["--device", "cpu"]].concat());
    assert!(said.contains("2 tunes of 6 steps, 1 of 3 for validation"), "{said}");
}

/// Options of another task, and what no data can have, are refused; the help of a command is its own.
#[test]
fn options_and_helps_are_the_commands_own() {
    let folder = tempfile::tempdir().unwrap();
    let data = sums(folder.path());
    let out = folder.path().join("model");
    let out = out.to_str().unwrap();
    let start = ["train", "--data", &data, "--out", out, "--steps", "1"];
    good(&[&start[..], &SMALL].concat());
    let of = ["--model", out, "--data", &data, "--labels", &data];
    fails(&[&["eval"], &of[..]].concat(), 1, &["--labels"]);
    fails(&["predict", &data, "--model", out, "--probabilities"], 1, &["--probabilities", "'lm'"]);
    fails(&["predict", &data, "--model", out, "--token-column", "1"], 1, &["--token-column"]);
    let table = folder.path().join("sales.csv");
    let rows: String = (1..60).map(|i| format!("{i},{}\n", i % 7)).collect();
    std::fs::write(&table, format!("row,sold\n{rows}")).unwrap();
    let table = table.to_str().unwrap();
    let forecast = ["train", "forecast", "--data", table, "--target", "sold", "--horizon", "2"];
    for (option, word) in [("--lags", "a lag of 500"), ("--season", "a season of 500")] {
        fails(&[&forecast[..], &[option, "500"]].concat(), 1, &["sales.csv", word]);
    }
    // Of bytes the advice is where it can be taken.
    let bytes = folder.path().join("bytes.txt");
    std::fs::write(&bytes, b"a\xff b\tx\n").unwrap();
    let bytes = bytes.to_str().unwrap();
    fails(&["train", "lm", "--data", bytes], 1, &["--tokens bytes"]);
    for arguments in [
        &["train", "tag", "--data", bytes][..],
        &["train", "classify", "--data", bytes],
        &["eval", "--model", out, "--data", bytes],
    ] {
        fails(arguments, 1, &["not UTF-8"]);
        let output = Command::new(env!("CARGO_BIN_EXE_recurra")).args(arguments).output().unwrap();
        assert!(!text(&output.stderr).contains("as bytes"), "{}", text(&output.stderr));
    }
    for (command, words) in [
        (&["predict", "--help"][..], &["the tags of each sentence"][..]),
        (&["run", "--help"], &["the small ones around them on the host"]),
        (&["export", "--help"], &["operator set 22", "DIR|FILE"]),
        (&["train", "forecast", "--help"], &["60 passes"]),
        (&["--help"], &["Run an ONNX model", "Say what a trained model makes of each line"]),
    ] {
        let (help, _) = good(command);
        words.iter().for_each(|word| assert!(help.contains(word), "{word}: {help}"));
    }
}

/// A run goes on with the texts that it began with: the held-out part stays held out.
#[test]
fn a_run_goes_on_with_its_own_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (sums(folder.path()), path("model"));
    let start = ["train", "--data", &data, "--out", &out, "--steps", "2"];
    good(&[&start[..], &SMALL].concat());
    let resume = ["train", "lm", "--resume", &out, "--validation", &data];
    fails(&resume, 1, &["the last tenth", "--validation"]);
    good(&resume[..4]);
    let (words, test, other) = (path("words.txt"), path("test.txt"), path("other.txt"));
    std::fs::write(&words, "a O\nb B-x\n\n".repeat(8)).unwrap();
    std::fs::write(&test, "b B-x\n").unwrap();
    std::fs::write(&other, "a O\n").unwrap();
    let out = path("tagger");
    let tag = ["train", "tag", "--data", &words, "--test", &test, "--out", &out, "--steps", "2"];
    good(&[&tag[..], &["--hidden", "4", "--layers", "1", "--device", "cpu"]].concat());
    fails(&["train", "tag", "--resume", &out, "--test", &other], 1, &["not those that the run"]);
    good(&["train", "tag", "--resume", &out]);
}

/// A byte order mark is no part of a text, and neither is what packs it: in training, predictions and measures alike.
#[test]
fn marks_and_packing_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let tagged = "to O\nrome B-x\n\n".repeat(20);
    let jobs = [
        ("lm", "1 and 1 is 2.\n".repeat(200), "1 and 2\n2\n"),
        ("classify", "a one\tx\nb two\ty\n".repeat(20), "a one\nb two\n"),
        ("tag", tagged, "rome to\nto rome\n"),
    ];
    for (task, text, lines) in jobs {
        let (data, marked, out) = (path("data.txt"), path("marked.txt"), path(task));
        std::fs::write(&data, &text).unwrap();
        std::fs::write(&marked, format!("\u{feff}{text}")).unwrap();
        let own: &[&str] = if task == "lm" { &["--seq", "8", "--batch", "4"] } else { &[] };
        let small = ["--hidden", "8", "--layers", "1", "--steps", "3", "--device", "cpu"];
        let start = ["train", task, "--data", &marked, "--out", &out];
        good(&[&start[..], &small, own].concat());
        let config = std::fs::read_to_string(Path::new(&out).join("config.json")).unwrap();
        assert!(!config.contains('\u{feff}'), "{task}: {config}");
        let eval = |file: &str| good(&["eval", "--model", &out, "--data", file]).0;
        assert_eq!(eval(&data), eval(&marked), "{task}");
        let predict = ["predict", "--model", &out, "--device", "cpu"];
        let plain = piped(&predict, lines);
        assert_eq!(piped(&predict, &format!("\u{feff}{lines}")), plain, "{task}");
        let packed = path("packed");
        let file = std::fs::File::create(&packed).unwrap();
        let mut packer = GzEncoder::new(file, Compression::fast());
        packer.write_all(lines.as_bytes()).unwrap();
        packer.finish().unwrap();
        assert_eq!(good(&[&predict[..], &[&packed]].concat()).0, plain, "{task}");
    }
}

/// What would have no effect, or can't be done twice, is refused before anything is trained.
#[test]
fn options_without_an_effect_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        std::fs::write(folder.path().join(name), content).unwrap();
        folder.path().join(name).to_str().unwrap().to_string()
    };
    let text = sums(folder.path());
    let classes = file("classes.tsv", &"a b\tx\nc d\ty\n".repeat(20));
    let rows: String = (1..=60).map(|i| format!("2024-{i:03},{}\n", i % 7)).collect();
    let table = file("sold.csv", &format!("date,sold\n{rows}"));
    let (lm, classify) =
        (["train", "lm", "--data", &text], ["train", "classify", "--data", &classes]);
    let horizon = ["--target", "sold", "--horizon", "2"];
    let forecast = [&["train", "forecast", "--data", &table][..], &horizon].concat();
    for (start, more, words) in [
        (&lm[..], &["--cell", "min_gru", "--orthogonal"][..], &["min_gru", "orthogonal"][..]),
        (&lm, &["--check-gradients", "--precision", "f16"], &["--check-gradients", "f32"]),
        (&lm, &["--batch", "9999"], &["training", "too short", "9999 rows"]),
        (&classify, &["--validation-labels", &text, "--hold-out", "0.2"], &["--validation-labels"]),
        (&classify, &["--test-labels", &text, "--test-share", "0.2"], &["--test-labels"]),
        (&classify, &["--tokens", "bytes", "--vocabulary", "9"], &["--vocabulary", "bytes"]),
        (&classify, &["--tokens", "bytes", "--least", "3"], &["--min-count", "bytes"]),
        (&forecast, &["--head", "mean", "--quantiles", "0.1,0.5,0.9"], &["--quantiles"]),
        (&forecast, &["--paths", "10"], &["--paths", "--recursive"]),
        (&forecast, &["--recursive", "--head", "mean", "--paths", "10"], &["--paths"]),
        (&["explain"], &["--time", "4", "--shortest", "9"], &["--shortest 9", "--time 4"]),
    ] {
        fails(&[start, more].concat(), 1, words);
    }
    // What was called as it is needed is no error by itself.
    fails(&[&classify[..], &["--validation-labels", &text]].concat(), 2, &["--validation"]);
    let slots = folder.path().join("slots");
    std::fs::create_dir(&slots).unwrap();
    let slots = slots.to_str().unwrap();
    fails(&["train", "tag", "--data", slots, "--tag-column", "2"], 1, &["--tag-column", "folders"]);
    let data = Command::new(env!("CARGO_BIN_EXE_recurra"))
        .args(["train", "classify", "--data", "/dev/stdin"])
        .stdin(Stdio::piped())
        .output()
        .unwrap();
    let said = common::command::text(&data.stderr);
    assert!(said.contains("a pipe can be read once only"), "{said}");
}

/// What trains side by side or in parts has one shape of batches, whatever the lengths.
#[test]
fn tunes_of_all_lengths_train_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tunes.json");
    let tunes: Vec<_> = (1..=20).map(|n| vec![[60, 64]; n]).collect();
    std::fs::write(&file, serde_json::json!({ "train": tunes }).to_string()).unwrap();
    let data = file.to_str().unwrap();
    for (number, (more, shape)) in [
        (&["--ensemble", "2"][..], "of 19x18 steps by rows"),
        (&["--accumulate", "2", "--batch-steps", "100"], "of 19x5 steps by rows"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(number.to_string());
        let start = ["train", "music", "--data", data, "--out", out.to_str().unwrap()];
        let small = ["--hidden", "8", "--layers", "1", "--steps", "2", "--device", "cpu"];
        let (_, said) = good(&[&start[..], &small, more].concat());
        assert!(said.contains(shape), "{said}");
    }
    // Notes are drawn each by itself; a file may have none that tell anything.
    let out = folder.path().join("1");
    let model = ["--model", out.to_str().unwrap()];
    for share in ["1.5", "nan", "0.5"] {
        fails(&[&["sample"][..], &model, &["--top-p", share]].concat(), 1, &["--top-p"]);
    }
    let one = folder.path().join("one.json");
    std::fs::write(&one, r#"{"train": [[[60], [62]]]}"#).unwrap();
    let eval = ["eval", "--data", one.to_str().unwrap()];
    fails(&[&eval[..], &model].concat(), 1, &["one.json", "no tunes to test"]);
    let ensemble = folder.path().join("0");
    fails(&["import", ensemble.to_str().unwrap()], 1, &["an ensemble"]);
}
