//! `recurra train tag`, and eval, predict and microscope of what it leaves.

use super::common::command::{fails, good, text};
use super::common::data_folder;
use super::common::outside::{browse, chromium};
use super::language;
use recurra::task::tag::{Sentence, parse};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn columns(sentences: &[Sentence]) -> String {
    let mut out = String::new();
    for sentence in sentences {
        out += &format!("# intent = {}\n", sentence.intent.as_deref().unwrap());
        for (word, tag) in sentence.tokens.iter().zip(&sentence.tags) {
            out += &format!("{word} X {tag}\n");
        }
        out += "\n";
    }
    out
}

const SMALL: [&str; 14] = [
    "--hidden",
    "24",
    "--layers",
    "1",
    "--embedding",
    "16",
    "--characters",
    "8",
    "--character-hidden",
    "12",
    "--lr",
    "0.02",
    "--device",
    "cpu",
];

#[test]
fn a_tagger_from_columns_to_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, test, out) = (path("train.txt"), path("test.txt"), path("model"));
    std::fs::write(&data, columns(&language(10, 330))).unwrap();
    std::fs::write(&test, columns(&language(78, 60))).unwrap();
    let mut all = vec!["train", "tag", "--data", &data, "--test", &test, "--out", &out];
    all.extend(SMALL);
    all.extend(["--epochs", "9", "--batch-words", "150", "--microscope", "40"]);
    let (_, said) = good(&all);
    for word in
        ["lstm 1x24 both ways + CRF", "(BIO), 2 intents", "test     model     F1", "baseline"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("does not beat"), "{said}");
    assert!(said.contains("297 sentences") && said.contains("33 for validation, 60 to test"));

    // The page.
    let page = Path::new(&out).join("report.html");
    if let Some(browser) = chromium() {
        let (dom, complaints) = browse(&browser, folder.path(), &page, &["--dump-dom"]);
        assert!(
            !complaints.contains("CONSOLE") && dom.contains("data-ready=\"yes\""),
            "{complaints}"
        );
        for word in [
            "Loss by step",
            "By the sentence's length, test",
            "By type of entity, test",
            "Intents, test",
            "Tagged sentences",
            "words right; intent",
            "Scores of transitions",
            "<span class=\"right\"",
            "spelling.l0",
            "character_hidden",
            "the most frequent tag of each word",
        ] {
            assert!(dom.contains(word), "{word}");
        }
        // Four curves, intents and transitions, each for windows and phones, and the microscope's maps besides.
        assert!(dom.matches("<svg").count() > 2 * 6, "{}", dom.matches("<svg").count());
    }

    // Measures.
    let (json, _) = good(&["eval", "--model", &out, "--data", &test, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    let (own, simple) = (&score["entities"]["f1"], &score["baseline"]["entities"]["f1"]);
    assert!(own.as_f64().unwrap() > 0.9 && simple.as_f64().unwrap() < 0.75, "{score}");
    assert_eq!((&score["sentences"], &score["complaints"]), (&60.into(), &Value::Array(vec![])));
    let (table, _) = good(&["eval", "--model", &out, "--data", &test]);
    assert!(table.contains("    artist") && table.contains("baseline"), "{table}");

    // Predictions: lines from standard input, as columns and as JSON; what is written is read again, and is right.
    let lines: String = language(78, 60)
        .iter()
        .map(|s| s.tokens.join(" ") + "\n")
        .chain(["\n".to_string()])
        .collect();
    let predict = |more: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_recurra"))
            .args(["predict", "--model", &out, "--device", "cpu"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        text(&output.stdout)
    };
    fails(&["predict", "--model", &out, "--next", "2"], 1, &["--next is of texts", "'tag'"]);
    let written = predict(&["--probabilities"]);
    let again = parse(&written, Path::new("p"), Default::default(), true).unwrap();
    let sentences = language(78, 60);
    assert!(again.iter().map(|s| &s.tokens).eq(sentences.iter().map(|s| &s.tokens)));
    let same = again.iter().zip(&sentences).filter(|(a, b)| a.tags == b.tags).count();
    assert!(same > 45, "{same}");
    let own = path("own.txt");
    std::fs::write(&own, written.replace('\t', " ")).unwrap();
    let (json, _) = good(&["eval", "--model", &out, "--data", &own, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&score["entities"]["f1"], &score["sentence_accuracy"]), (&1.0.into(), &1.0.into()));
    let json = predict(&["--json", "--probabilities"]);
    let list: Vec<Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((list.len(), &list[60]["tokens"]), (61, &Value::Array(vec![])));
    for (value, sentence) in list.iter().zip(&again) {
        assert_eq!(value["tags"].as_array().unwrap().len(), sentence.tags.len());
        assert!(value["intent"]["probability"].as_f64().unwrap() >= 0.5);
        for entity in value["entities"].as_array().unwrap() {
            let [from, to] = ["start", "end"].map(|key| entity[key].as_u64().unwrap() as usize);
            assert_eq!(entity["text"], sentence.tokens[from..to].join(" "));
            assert_eq!(sentence.tags[from], format!("B-{}", entity["type"].as_str().unwrap()));
        }
    }
    // The words of columns.
    let (columns, _) = good(&["predict", &test, "--model", &out, "--token-column", "1"]);
    assert_eq!(columns.lines().filter(|l| l.is_empty()).count(), 60);
    assert!(columns.starts_with("# intent = "));
    let (table, _) = good(&["microscope", "--model", &out, "--device", "cpu"]);
    assert!(table.contains("spelling") && table.contains("gate f"), "{table}");

    // What was not learned is wrong, and the first of it is named.
    let strange = "# intent = music\nplay X O\n\n# intent = sport\nit X B-nose\n";
    std::fs::write(&own, strange).unwrap();
    let eval = ["eval", "--model", &out, "--data", &own];
    let (json, said) = good(&[&eval[..], &["--json"]].concat());
    assert!(said.contains("own.txt: line 5, column 3") && said.contains("'B-nose'"), "{said}");
    let score: Value = serde_json::from_str(&json).unwrap();
    for of in [&score, &score["baseline"]] {
        assert_eq!((&of["unknown_tags"], &of["unknown_intents"]), (&1.into(), &1.into()));
        assert_eq!(of["entities"]["recall"], 0.0);
        assert!(
            of["accuracy"].as_f64() <= Some(0.5) && of["intent_accuracy"].as_f64() <= Some(0.5)
        );
    }
    let (table, _) = good(&eval);
    assert!(table.contains("1 words have tags that the model did not learn"), "{table}");
    std::fs::write(&own, "play X O\n").unwrap();
    fails(&["eval", "--model", &out, "--data", &own], 1, &["own.txt: line 1", "no intent"]);
    // A folder may have been written before options had their names.
    let config = Path::new(&out).join("config.json");
    let written = std::fs::read_to_string(&config).unwrap();
    let mut older = written.clone();
    for (now, before) in [("hold_out", "held_out"), ("token_dropout", "word_dropout")] {
        assert!(older.contains(now), "{older}");
        older = older.replace(now, before);
    }
    std::fs::write(&config, older).unwrap();
    // The run is complete, and other sentences are noticed.
    good(&["train", "tag", "--resume", &out, "--device", "cpu"]);
    fails(
        &["train", "tag", "--resume", &out, "--data", &test],
        1,
        &["not those that the run began"],
    );
    fails(&["train", "tag", "--resume", &out, "--no-crf"], 2, &["cannot be used with"]);
}

#[test]
fn bad_sentences_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let data = path("data.txt");
    let train = |content: &str, more: &[&str], words: &[&str]| {
        std::fs::write(&data, content).unwrap();
        let out = path("never");
        let mut all = vec!["train", "tag", "--data", &data, "--out", &out];
        all.extend(SMALL);
        all.extend(more);
        fails(&all, 1, words);
        assert!(!Path::new(&out).exists(), "nothing is written");
    };
    let fine = "a O\nb B-x\n\nc O\n\nd B-x\n";
    train("a O\nb\n", &[], &["data.txt: line 2: column 2: 1 columns, where line 1 has 2"]);
    train(fine, &["--tag-column", "3"], &["line 1: there is no column 3"]);
    train("a\nb\n", &[], &["line 1", "words without tags"]);
    train("", &[], &["empty"]);
    train("\n\n", &[], &["no sentence"]);
    train("a O\n", &[], &["data.txt", "too few"]);
    train("a B-x\nb NN\n\nc O\n\n", &[], &["line 2, column 2", "'NN'"]);
    train("# intent = i\na O\n\nb O\n", &[], &["line 4", "no intent"]);
    train(fine, &["--batch-words", "1"], &["line 1", "2 words; a batch has 1", "(--batch-words)"]);
    train(fine, &["--cell", "rnn", "--forget-bias", "1"], &["forget"]);
    let other = path("other.txt");
    std::fs::write(&other, "a O\nb I-x\n").unwrap();
    train(fine, &["--validation", &other], &["other.txt: line 2, column 2", "'I-x'"]);
    std::fs::write(&data, fine).unwrap();
    let tested = path("tested");
    let mut all = vec!["train", "tag", "--data", &data, "--out", &tested, "--steps", "1"];
    all.extend(SMALL);
    let (_, said) = good(&[&all[..], &["--hold-out", "0", "--test", &other]].concat());
    assert!(said.contains("1 words have tags that the model did not learn"), "{said}");
    // Where intents are left out some of the sentences may have one, in eval too.
    let some = path("some.txt");
    std::fs::write(&some, "# intent = i\na O\n\nb B-x\n\nc O\n").unwrap();
    let alone = path("alone");
    let mut all = vec!["train", "tag", "--data", &some, "--out", &alone, "--steps", "1"];
    all.extend(SMALL);
    good(&[&all[..], &["--tags-only", "--test", &some]].concat());
    good(&["eval", "--model", &alone, "--data", &some]);
    std::fs::write(&data, b"a O\nb\xff O\n").unwrap();
    fails(&["train", "tag", "--data", &data], 1, &["UTF-8", "line 2"]);
    fails(&["train", "tag", "--data", &path("absent")], 1, &["absent", "read"]);
    fails(&["train", "tag"], 2, &["--data"]);
    for [option, value, why] in [
        ["--hold-out", "1", "less than 1"],
        // What was another command's word for it.
        ["--held-out", "1", "less than 1"],
        ["--word-dropout", "1", "less than 1"],
    ] {
        fails(&["train", "tag", "--data", &data, option, value], 2, &[why]);
    }

    // Folders.
    let slots = folder.path().join("slots");
    std::fs::create_dir(&slots).unwrap();
    let name = slots.to_str().unwrap();
    let put = |file: &str, content: &str| std::fs::write(slots.join(file), content).unwrap();
    put("seq.in", "play it\nstop\n");
    fails(&["train", "tag", "--data", name], 1, &["seq.out", "read"]);
    put("seq.out", "O B-x\nO O\n");
    fails(&["train", "tag", "--data", name], 1, &["seq.out: line 2: 2 tags for 1 words"]);
    put("seq.out", "O B-x\n");
    fails(&["train", "tag", "--data", name], 1, &["seq.out: 1 lines, where seq.in has 2"]);
    put("seq.out", "O B-x\nO\n");
    put("label", "on\n\n");
    fails(&["train", "tag", "--data", name], 1, &["label: 1 lines"]);
    put("label", "\noff\n");
    fails(&["train", "tag", "--data", name], 1, &["label: line 1: no intent"]);

    // Tags that mark nothing; a model that has hardly begun says that it is no better than the baseline.
    std::fs::write(&data, "the DET\ncat NOUN\n\na DET\ndog NOUN\n\nthe DET\ndog NOUN\n").unwrap();
    let out = path("poor");
    let mut all = vec!["train", "tag", "--data", &data, "--out", &out, "--steps", "1", "--no-crf"];
    all.extend(SMALL);
    all.extend(["--test", &data]);
    let (_, said) = good(&all);
    assert!(said.contains("(plain)") && said.contains("does not beat its baseline"), "{said}");
    let html = std::fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(html.contains("does not beat its baseline: accuracy of words"));
    let (said, _) = good(&["eval", "--model", &out, "--data", &data]);
    assert!(said.contains("does not beat its baseline") && said.contains("NOUN"), "{said}");
}

/// Two short passes over a part of Snips: far above the baseline, and what no untrained model reaches.
#[test]
fn slots_of_snips_are_learned() {
    let Some(snips) = data_folder("slot_snips") else { return };
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("train");
    std::fs::create_dir(&part).unwrap();
    for file in ["seq.in", "seq.out", "label"] {
        let all = std::fs::read_to_string(snips.join("train").join(file)).unwrap();
        let some: Vec<&str> = all.lines().take(1500).collect();
        std::fs::write(part.join(file), some.join("\n")).unwrap();
    }
    let out = folder.path().join("model");
    let valid = snips.join("valid");
    let [part, out, valid] = [&part, &out, &valid].map(|p| p.to_str().unwrap());
    good(&[
        "train",
        "tag",
        "--data",
        part,
        "--validation",
        valid,
        "--out",
        out,
        "--layers",
        "1",
        "--hidden",
        "48",
        "--epochs",
        "3",
        "--lr",
        "0.01",
        "--device",
        "cpu",
    ]);
    let (json, _) = good(&["eval", "--model", out, "--data", valid, "--json"]);
    let score: Value = serde_json::from_str(&json).unwrap();
    let of = |value: &Value| value.as_f64().unwrap();
    let (f1, simple) = (of(&score["entities"]["f1"]), of(&score["baseline"]["entities"]["f1"]));
    println!(
        "slots: F1 {f1:.3} (baseline {simple:.3}), intents {:.3}",
        of(&score["intent_accuracy"])
    );
    assert!(f1 > 0.6 && simple < 0.5 && of(&score["intent_accuracy"]) > 0.9, "{f1} {simple}");
    assert_eq!(score["sentences"], 700);
    let input = Path::new(valid).join("seq.in");
    let (lines, _) = good(&["predict", input.to_str().unwrap(), "--model", out, "--json"]);
    assert_eq!(lines.lines().count(), 700);
}
