//! What commands answer where something is missing, unknown, or in the way.
#![cfg(feature = "cli")]

mod common;

use common::command::{fails, good};
use recurra::cell::CellKind;
use recurra::convert::{CellChoice, export_language_model, import};
use recurra::data::Vocabulary;
use recurra::format::{TensorFile, write_tensors};
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, ModelConfig};
use std::path::Path;

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
