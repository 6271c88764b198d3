//! Who imports whom: the table of rooms in docs/design.md is true, and goes one way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rooms that each may import.
const COMMON: [&str; 4] = ["error", "tensor", "clock", "wait"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Room and what it imports, as the table has them, in its order.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let design = std::fs::read_to_string(root().join("docs/design.md")).unwrap();
    let rows = design.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let imports = match cells[3] {
            "nothing but error" => BTreeSet::from(["error".to_string()]),
            list => {
                let named = list.split(", ").filter(|name| !name.is_empty());
                named.chain(COMMON).map(String::from).collect()
            }
        };
        (cells[1].trim_matches('`').to_string(), imports)
    };
    rows.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false => into.push(path),
        }
    }
}

/// The rooms that a file names behind `crate::`, outside of comments and of its tests.
fn imports(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate` too is this crate, and so is a list of several rooms.
        let behind = &code[at + "crate::".len()..];
        match behind.strip_prefix('{') {
            None => drop(found.insert(word(behind))),
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                found.extend(list.split(',').map(|name| word(name.trim())));
            }
        }
    }
    // What the crate's root has by a shorter name.
    for (short, room) in [("Error", "error"), ("Result", "error"), ("CellKind", "cell")] {
        if found.remove(short) {
            found.insert(room.to_string());
        }
    }
    found.remove("");
    found
}

#[test]
fn rooms_import_what_the_table_says() {
    let table = table();
    let mut above = BTreeSet::from(COMMON.map(String::from));
    for (room, imports) in table.iter().filter(|(room, _)| room != "bin") {
        let below: Vec<&String> = imports.difference(&above).collect();
        assert!(below.is_empty(), "{room} imports {below:?}, which stand below it in the table");
        above.insert(room.clone());
    }
    let allowed: BTreeMap<String, BTreeSet<String>> = table.into_iter().collect();
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut rooms = BTreeSet::new();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_string_lossy();
        let room = room.trim_end_matches(".rs").to_string();
        if ["lib", "build"].contains(&room.as_str()) {
            continue;
        }
        rooms.insert(room.clone());
        if room == "bin" {
            continue;
        }
        let own = allowed.get(&room).unwrap_or_else(|| panic!("the table lacks {room}"));
        let text = std::fs::read_to_string(&file).unwrap();
        for import in imports(&text).into_iter().filter(|import| *import != room) {
            assert!(own.contains(&import), "{}: the table lets no {import} in", file.display());
            used.entry(room.clone()).or_default().insert(import);
        }
    }
    assert!(allowed.keys().eq(&rooms), "{:?} and {rooms:?}", allowed.keys());
    for (room, own) in allowed.iter().filter(|(room, _)| *room != "bin") {
        let common = |import: &&String| !COMMON.contains(&import.as_str());
        let unused: Vec<&String> = own
            .iter()
            .filter(common)
            .filter(|import| !used.get(room).is_some_and(|used| used.contains(*import)))
            .collect();
        assert!(unused.is_empty(), "{room} does not import {unused:?}");
    }
}

#[test]
fn imports_are_found() {
    let text = "use crate::{task, Error};\n// crate::no\n    crate::live::Stream\n\
                #[cfg(test)]\nmod tests {\n crate::bin }";
    let names: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(names, ["error", "live", "task"]);
}
