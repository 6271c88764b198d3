//! The shader preprocessor: `#import`, `#ifdef … #else … #endif`, `#for` and `#{NAME}` substitution.
//!
//! Lines that start with `#` are directives:
//! - `#import path` pastes `shaders/path.wgsl`, once a shader; the path may hold `#{NAME}`;
//! - `#paste path` pastes it wherever it stands, in a `#for` with the word in its place too;
//! - `#bindings` declares the kernel's storage buffers as its description has them, once a shader;
//! - `#ifdef NAME`, `#ifndef NAME`, `#else`, `#endif` keep or drop lines, nested at will;
//! - `#for NAME in WORD WORD …` to `#end` repeats its lines for each word, with the word in the place of
//!   `#{NAME}`, nested at will: numbered variables instead of arrays, so that they stay in registers.
//!
//! Shaders compute in f32. Where a storage buffer holds f16, every place that indexes it is converted
//! (`kernel/half.rs`), and where `gates` or `states` does, SHORT_GATES or SHORT_STATES is defined.
//!
//! Elsewhere `#{NAME}` is replaced with the value defined for NAME, in the directives too. A name may
//! hold another: `#{COUNT_#{X}}`.

use super::{Access, Binding, CustomCell, Kernel, beside, ensemble, half};
use crate::error::{Error, Result};
use crate::tensor::DType;
use include_dir::{Dir, include_dir};
use std::collections::{BTreeMap, BTreeSet};

static SHADERS: Dir = include_dir!("$CARGO_MANIFEST_DIR/shaders");

/// The text of `shaders/{stem}.wgsl`.
fn file(stem: &str) -> Result<&'static str> {
    SHADERS
        .get_file(format!("{stem}.wgsl"))
        .and_then(|f| f.contents_utf8())
        .ok_or_else(|| Error::invalid(format!("shader '{stem}' does not exist")))
}

/// The stems of all kernels' shader files (the files at the top of `shaders/`).
pub fn stems() -> Vec<String> {
    let name = |f: &include_dir::File| Some(f.path().file_stem()?.to_str()?.to_string());
    let mut list: Vec<String> = SHADERS.files().filter_map(name).collect();
    list.sort();
    list
}

/// Another number where any shader's text is another (FNV-1a).
pub fn digest() -> u64 {
    fn add(sum: u64, folder: &Dir) -> u64 {
        let mut files: Vec<_> = folder.files().collect();
        files.sort_by_key(|file| file.path());
        let of_file = |sum, file: &&include_dir::File| {
            let bytes = file.path().as_os_str().as_encoded_bytes().iter().chain(file.contents());
            bytes.fold(sum, |sum: u64, &b| (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
        };
        let mut folders: Vec<_> = folder.dirs().collect();
        folders.sort_by_key(|folder| folder.path());
        folders.into_iter().fold(files.iter().fold(sum, of_file), add)
    }
    add(0xcbf2_9ce4_8422_2325, &SHADERS)
}

/// The complete WGSL of a kernel's permutation.
///
/// # Errors
/// A directive that is unknown, unbalanced or names what does not exist.
pub fn source(kernel: &dyn Kernel) -> Result<String> {
    source_with(kernel, &kernel.bindings(), 1, None)
}

/// Whether all of a kernel's text is this crate's: none is a caller's cell.
pub fn is_own(kernel: &dyn Kernel) -> bool {
    kernel.defines().iter().all(|(name, _)| *name != CustomCell::TEXT)
}

/// How every shader declares its parameter block.
pub(super) const UNIFORM: &str = "@group(0) @binding(0) var<uniform> ";

/// The shader with its parameter block as immediates, which a launch sets without a buffer.
pub fn with_immediates(source: &str) -> String {
    source.replacen(UNIFORM, "var<immediate> ", 1)
}

/// A fault to plant: in file `shaders/{stem}.wgsl`, the first `old` becomes `new`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The file; or [`Fault::CONVERTED`].
    pub stem: &'static str,
    /// A text that stands in it.
    pub old: &'static str,
    /// What takes its place.
    pub new: &'static str,
}

impl Fault {
    /// For a stem: what was made of shaders over buffers of f16, wherever the text stands in it.
    pub const CONVERTED: &str = "f16";
    /// For a stem: what was made of shaders for launches side by side, wherever the text stands in it.
    pub const BESIDE: &str = "beside";
    /// For a stem: what was made of shaders for the members of an ensemble, wherever the text stands in it.
    pub const MEMBERS: &str = "members";
}

/// The same over buffers of other element types, for the members of an ensemble, and with a fault planted: how
/// the tests show that the conformance suite notices faults.
///
/// # Errors
/// As [`source`]; the fault's text does not stand in its file.
pub fn source_with(
    kernel: &dyn Kernel,
    bindings: &[Binding],
    members: u32,
    fault: Option<&Fault>,
) -> Result<String> {
    let mut defines: BTreeMap<_, _> = kernel.defines().into_iter().collect();
    let short = |binding: &&Binding| binding.dtype == DType::F16;
    for (name, define) in [("gates", "SHORT_GATES"), ("states", "SHORT_STATES")] {
        if bindings.iter().filter(short).any(|binding| binding.name == name) {
            defines.insert(define, String::new());
        }
    }
    let items = kernel.items();
    let declarations = declarations(bindings);
    let imported = BTreeSet::new();
    let mut expander = Expander { defines, declarations, fault, imported, out: String::new() };
    expander.expand(kernel.name())?;
    let mut text = expander.out;
    let planted = |text: String, stem| match fault.filter(|fault| fault.stem == stem) {
        Some(fault) => text.replace(fault.old, fault.new),
        None => text,
    };
    let own = if items > 1 { beside::of_one(bindings) } else { bindings.to_vec() };
    if members > 1 {
        text = planted(ensemble::of_members(&text, &own, members), Fault::MEMBERS);
    }
    let shorts = own.iter().filter(short);
    for binding in shorts.clone() {
        text = half::converted(&text, binding.name, binding.vectors);
    }
    if shorts.count() > 0 {
        text = format!("enable f16;\n{}", planted(text, Fault::CONVERTED));
    }
    if items > 1 {
        text = planted(beside::of_launches(&text, bindings, items, members), Fault::BESIDE);
    }
    Ok(text)
}

/// The storage variables of a kernel, in binding order.
fn declarations(bindings: &[Binding]) -> String {
    let mut text = String::new();
    for (i, binding) in bindings.iter().enumerate() {
        let access = match binding.access {
            Access::Read => "read",
            Access::Write => "read_write",
        };
        let (number, name, element) = (i + 1, beside::variable(bindings, i), element(binding));
        text.push_str(&format!(
            "@group(0) @binding({number}) var<storage, {access}> {name}: array<{element}>;\n"
        ));
    }
    text
}

/// The type of a binding's elements.
pub(super) fn element(binding: &Binding) -> &'static str {
    match (binding.dtype, binding.vectors) {
        (DType::F32, false) => "f32",
        (DType::F32, true) => "vec4<f32>",
        (DType::F16, false) => "f16",
        (DType::F16, true) => "vec4<f16>",
        // What is handed over: atomics alone are seen by other workgroups under every memory model.
        (DType::U32, false) if binding.shared => "atomic<u32>",
        (DType::U32, false) => "u32",
        (DType::U32, true) => "vec4<u32>",
    }
}

struct Expander<'a> {
    declarations: String,
    fault: Option<&'a Fault>,
    defines: BTreeMap<&'static str, String>,
    imported: BTreeSet<String>,
    out: String,
}

impl Expander<'_> {
    fn expand(&mut self, stem: &str) -> Result<()> {
        let lines = self.pasted(stem)?.into_iter().enumerate().collect::<Vec<_>>();
        self.lines(stem, &lines)
    }

    /// The lines of a file, with those of others in the place of `#paste`.
    fn pasted(&self, stem: &str) -> Result<Vec<String>> {
        let mut text = file(stem)?.to_string();
        if let Some(fault) = self.fault.filter(|fault| fault.stem == stem) {
            if !text.contains(fault.old) {
                return Err(Error::invalid(format!("'{}' is not in shader '{stem}'", fault.old)));
            }
            text = text.replacen(fault.old, fault.new, 1);
        }
        let mut lines = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("#paste ") {
                Some(path) => lines.extend(self.pasted(path.trim())?),
                None => lines.push(line.to_string()),
            }
        }
        Ok(lines)
    }

    /// Expands lines with their numbers in the file, that is with what is pasted into it.
    fn lines(&mut self, stem: &str, lines: &[(usize, String)]) -> Result<()> {
        let fail = |line: usize, what: &str| {
            Error::invalid(format!("shader '{stem}', line {}: {what}", line + 1))
        };
        // For each open #ifdef: are its lines kept, as far as it alone decides?
        let mut open: Vec<bool> = Vec::new();
        let mut rest = lines;
        while let Some(((number, line), after)) = rest.split_first() {
            rest = after;
            let number = *number;
            let trimmed = line.trim();
            let (word, argument) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
            let kept = !open.contains(&false);
            // In dropped lines names need not be defined.
            let argument = match kept && word.starts_with('#') && !word.starts_with("#{") {
                true => self.substitute(argument.trim()).map_err(|e| fail(number, &e))?,
                false => String::new(),
            };
            match word {
                "#ifdef" => open.push(self.defines.contains_key(argument.as_str())),
                "#ifndef" => open.push(!self.defines.contains_key(argument.as_str())),
                "#else" => match open.last_mut() {
                    Some(last) => *last = !*last,
                    None => return Err(fail(number, "#else without #ifdef")),
                },
                "#endif" => {
                    open.pop().ok_or_else(|| fail(number, "#endif without #ifdef"))?;
                }
                _ if !kept => {}
                "#for" => {
                    let what = "not '#for NAME in WORDS'";
                    let (name, words) =
                        argument.split_once(" in ").ok_or_else(|| fail(number, what))?;
                    let end = end_of(rest).ok_or_else(|| fail(number, "#for without #end"))?;
                    for word in words.split_whitespace() {
                        let placed = |line: &String| line.replace(&format!("#{{{name}}}"), word);
                        let body: Vec<_> =
                            rest[..end].iter().map(|(n, line)| (*n, placed(line))).collect();
                        self.lines(stem, &body)?;
                    }
                    rest = &rest[end + 1..];
                }
                "#bindings" => {
                    let declarations = std::mem::take(&mut self.declarations);
                    self.out.push_str(&declarations);
                }
                "#import" => {
                    if self.imported.insert(argument.clone()) {
                        self.expand(&argument)?;
                    }
                }
                _ if trimmed.starts_with('#') && !trimmed.starts_with("#{") => {
                    return Err(fail(number, &format!("unknown directive '{word}'")));
                }
                _ => {
                    let line = self.substitute(line).map_err(|e| fail(number, &e))?;
                    self.out.push_str(&line);
                    self.out.push('\n');
                }
            }
        }
        let first = lines.first().map_or(0, |line| line.0);
        if open.is_empty() { Ok(()) } else { Err(fail(first, "#ifdef without #endif")) }
    }

    /// Values take the place of names, the innermost name first.
    fn substitute(&self, line: &str) -> Result<String, String> {
        let mut line = line.to_string();
        while let Some(end) = line.find("#{").and_then(|i| Some(i + line[i..].find('}')?)) {
            let start = line[..end].rfind("#{").ok_or("'}' before '#{'")?;
            let name = &line[start + 2..end];
            let value = self.defines.get(name).ok_or(format!("'{name}' is not defined"))?;
            line.replace_range(start..=end, value);
        }
        if line.contains("#{") { Err("'#{' without '}'".to_string()) } else { Ok(line) }
    }
}

/// The number of lines before the `#end` of a `#for` that has just been opened.
fn end_of(lines: &[(usize, String)]) -> Option<usize> {
    let mut open = 1;
    lines.iter().position(|(_, line)| {
        match line.trim() {
            "#end" => open -= 1,
            line if line.starts_with("#for ") => open += 1,
            _ => {}
        }
        open == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_keep_and_drop_lines() {
        let mut expander = Expander {
            declarations: String::new(),
            fault: None,
            defines: [("A", "7".to_string())].into_iter().collect(),
            imported: BTreeSet::new(),
            out: String::new(),
        };
        assert_eq!(expander.substitute("x#{A}y#{A}").unwrap(), "x7y7");
        assert!(expander.substitute("#{B}").is_err() && expander.substitute("#{A").is_err());
        assert!(expander.expand("no/such/file").is_err());
    }

    fn expanded(text: &str) -> Result<String> {
        let defines = [("LIST_a", "0 1"), ("LIST_b", "2"), ("FLAG_b", "")];
        let mut expander = Expander {
            declarations: String::new(),
            fault: None,
            defines: defines.into_iter().map(|(name, value)| (name, value.to_string())).collect(),
            imported: BTreeSet::new(),
            out: String::new(),
        };
        let lines: Vec<_> = text.lines().map(String::from).enumerate().collect();
        expander.lines("text", &lines)?;
        Ok(expander.out)
    }

    #[test]
    fn lines_repeat_for_each_word() {
        let text = "#for X in a b\n#for I in #{LIST_#{X}}\n#{X}#{I}\n#end\n#ifdef FLAG_#{X}\n\
                    flag #{X}\n#endif\n#end\nlast";
        assert_eq!(expanded(text).unwrap(), "a0\na1\nb2\nflag b\nlast\n");
        // Dropped lines may hold names that are not defined.
        let dropped = "#ifdef NONE\n#for I in #{NONE}\n#{I}\n#end\n#endif";
        assert_eq!(expanded(dropped).unwrap(), "");
        for wrong in ["#for X in a\n#{X}", "#for X\n#end", "#end", "#for X in a\n#ifdef B\n#end"] {
            assert!(expanded(wrong).is_err(), "{wrong}");
        }
    }
}
