//! Loops of this crate's shaders end by themselves: they have no guard of wgpu's (`engine/gpu/trust.rs`).

use std::path::{Path, PathBuf};

/// All files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether `line`, a loop's head, goes over a range: `for (var i = …; i < …; i++)`, or counts or halves down to 0.
fn ends(line: &str) -> bool {
    let Some(head) = line.strip_prefix("for (var ").and_then(|l| l.strip_suffix(") {")) else {
        return false;
    };
    let parts: Vec<&str> = head.split("; ").collect();
    let [start, condition, step] = parts[..] else { return false };
    let Some((name, _)) = start.split_once(" = ") else { return false };
    let below = [" < ", " <= "].map(|sign| format!("{name}{sign}"));
    let up = below.iter().any(|below| condition.starts_with(below))
        && (step == format!("{name}++") || step.starts_with(&format!("{name} += ")));
    let down = condition == format!("{name} > 0u")
        && (step == format!("{name}--") || step == format!("{name} /= 2u"));
    // What is added is a constant of the shader (or a product of such), never 0.
    let by = step.split_once(" += ").map_or("1u", |(_, by)| by);
    let constant = |word: &str| {
        let number = word.strip_suffix('u').is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n > 0));
        number || word.chars().all(|c| c.is_ascii_uppercase() || "#{}_u".contains(c))
    };
    (up || down) && by.split(" * ").all(constant)
}

#[test]
fn every_loop_ends_by_itself() {
    // A word's bits until none is left; SPINS rounds at most.
    let known = ["while bits != 0u {", "while least_#{H} == 0u {"];
    let (mut heads, mut seen) = (0, Vec::new());
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().map(str::trim) {
            let word = line.split([' ', '{', '(']).next().unwrap_or_default();
            if !["for", "while", "loop"].contains(&word) {
                continue;
            }
            heads += 1;
            match known.iter().find(|&&head| head == line) {
                Some(head) => seen.push(*head),
                None => assert!(ends(line), "{}: {line}", path.display()),
            }
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, {
        let mut known = known;
        known.sort();
        known
    });
    assert!(heads > 150, "{heads} loops");
    for endless in [
        "loop {",
        "for (var i = 0u; i != n; i++) {",
        "for (var i = 0u; i < n; i += step) {",
        "for (var i = 0u; i < n; i += 0u) {",
        "for (var i = 0u; j < n; i++) {",
    ] {
        assert!(!ends(endless), "{endless}");
    }
}
