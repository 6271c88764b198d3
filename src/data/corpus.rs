//! The default corpus: this project's own sources, shaders and documents, compiled in.

use include_dir::{Dir, DirEntry, include_dir};

static SOURCES: Dir = include_dir!("$CARGO_MANIFEST_DIR/src");
static SHADERS: Dir = include_dir!("$CARGO_MANIFEST_DIR/shaders");
static DOCS: Dir = include_dir!("$CARGO_MANIFEST_DIR/docs");
static README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));

/// All of it as one text, files in the order of a hash of their paths, so that the end (the
/// validation part) is a mixture too.
pub fn own_sources() -> String {
    let mut files = vec![("README.md".to_string(), README)];
    for (folder, dir) in [("src", &SOURCES), ("shaders", &SHADERS), ("docs", &DOCS)] {
        collect(folder, dir, &mut files);
    }
    files.sort_by_key(|(path, _)| (hash(path), path.clone()));
    files.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n")
}

fn collect<'a>(folder: &str, dir: &Dir<'a>, files: &mut Vec<(String, &'a str)>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(dir) => collect(folder, dir, files),
            DirEntry::File(file) => {
                let path = format!("{folder}/{}", file.path().display());
                let kind = file.path().extension().and_then(|e| e.to_str());
                if matches!(kind, Some("rs" | "wgsl" | "md"))
                    && let Some(text) = file.contents_utf8()
                {
                    files.push((path, text));
                }
            }
        }
    }
}

/// FNV-1a (Fowler, Noll, Vo), the same on every machine.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_holds_sources_shaders_and_documents() {
        let text = super::own_sources();
        assert!(text.len() > 100_000);
        assert!(text.contains("fn own_sources") && text.contains("@compute"));
    }
}
