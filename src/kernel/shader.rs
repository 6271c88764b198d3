//! The shader preprocessor: `#import`, `#ifdef … #else … #endif` and `#{NAME}` substitution.
//!
//! Lines that start with `#` are directives:
//! - `#import path` pastes `shaders/path.wgsl`, once a shader; the path may hold `#{NAME}`;
//! - `#bindings` declares the kernel's storage buffers as its description has them, once a shader;
//! - `#ifdef NAME`, `#ifndef NAME`, `#else`, `#endif` keep or drop lines, nested at will.
//!
//! Elsewhere `#{NAME}` is replaced with the value defined for NAME.

use super::{Access, Binding, Kernel};
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

/// The complete WGSL of a kernel's permutation.
///
/// # Errors
/// A directive that is unknown, unbalanced or names what does not exist.
pub fn source(kernel: &dyn Kernel) -> Result<String> {
    source_with(kernel, None)
}

/// A fault to plant: in file `shaders/{stem}.wgsl`, the first `old` becomes `new`.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The file.
    pub stem: &'static str,
    /// A text that stands in it.
    pub old: &'static str,
    /// What takes its place.
    pub new: &'static str,
}

/// The same with a fault planted: how the tests show that the conformance suite notices faults.
///
/// # Errors
/// As [`source`]; the fault's text does not stand in its file.
pub fn source_with(kernel: &dyn Kernel, fault: Option<&Fault>) -> Result<String> {
    let defines: BTreeMap<_, _> = kernel.defines().into_iter().collect();
    let declarations = declarations(&kernel.bindings());
    let imported = BTreeSet::new();
    let mut expander = Expander { defines, declarations, fault, imported, out: String::new() };
    expander.expand(kernel.name())?;
    Ok(expander.out)
}

/// The storage variables of a kernel, in binding order.
fn declarations(bindings: &[Binding]) -> String {
    let mut text = String::new();
    for (i, binding) in bindings.iter().enumerate() {
        let access = match binding.access {
            Access::Read => "read",
            Access::Write => "read_write",
        };
        let element = match binding.dtype {
            DType::F32 => "f32",
            DType::U32 => "u32",
        };
        let (number, name) = (i + 1, binding.name);
        text.push_str(&format!(
            "@group(0) @binding({number}) var<storage, {access}> {name}: array<{element}>;\n"
        ));
    }
    text
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
        let fail = |line: usize, what: &str| {
            Error::invalid(format!("shader '{stem}', line {}: {what}", line + 1))
        };
        // For each open #ifdef: are its lines kept, as far as it alone decides?
        let mut open: Vec<bool> = Vec::new();
        let mut text = file(stem)?.to_string();
        if let Some(fault) = self.fault.filter(|fault| fault.stem == stem) {
            if !text.contains(fault.old) {
                return Err(Error::invalid(format!("'{}' is not in shader '{stem}'", fault.old)));
            }
            text = text.replacen(fault.old, fault.new, 1);
        }
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            let (word, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
            match word {
                "#ifdef" => open.push(self.defines.contains_key(rest.trim())),
                "#ifndef" => open.push(!self.defines.contains_key(rest.trim())),
                "#else" => match open.last_mut() {
                    Some(last) => *last = !*last,
                    None => return Err(fail(number, "#else without #ifdef")),
                },
                "#endif" => {
                    open.pop().ok_or_else(|| fail(number, "#endif without #ifdef"))?;
                }
                _ if open.contains(&false) => {}
                "#bindings" => {
                    let declarations = std::mem::take(&mut self.declarations);
                    self.out.push_str(&declarations);
                }
                "#import" => {
                    let path = self.substitute(rest.trim()).map_err(|e| fail(number, &e))?;
                    if self.imported.insert(path.clone()) {
                        self.expand(&path)?;
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
        if open.is_empty() { Ok(()) } else { Err(fail(0, "#ifdef without #endif")) }
    }

    fn substitute(&self, line: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("#{") {
            let (name, after) = after.split_once('}').ok_or("'#{' without '}'")?;
            let value = self.defines.get(name).ok_or(format!("'{name}' is not defined"))?;
            out.push_str(before);
            out.push_str(value);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
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
        assert!(expander.substitute("#{B}").is_err());
        assert!(expander.expand("no/such/file").is_err());
    }
}
