//! Tells the program which commit it was built from (`RECURRA_COMMIT`): that of this checkout, with `+`
//! where its sources differ from it, or `unknown`. An environment variable of that name goes first.

use std::path::Path;
use std::process::Command;

/// What the program is made of.
const SOURCES: [&str; 4] = ["src", "shaders", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo:rerun-if-env-changed=RECURRA_COMMIT");
    println!("cargo:rerun-if-changed=src/build.rs");
    let given = std::env::var("RECURRA_COMMIT").ok().filter(|text| !text.trim().is_empty());
    // Nobody measures debug builds, so a commit does not make anyone compile one again.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| if release { checked_out() } else { None });
    println!("cargo:rustc-env=RECURRA_COMMIT={}", commit.as_deref().unwrap_or("unknown").trim());
}

/// The commit of the checkout whose root this package is, if it is one.
fn checked_out() -> Option<String> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&root).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // The log of HEAD grows with every commit and checkout.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    for path in SOURCES {
        println!("cargo:rerun-if-changed={path}");
    }
    let mut commit = git(&["rev-parse", "--short", "HEAD"])?;
    let differs = [&["diff", "--quiet", "HEAD", "--"], &SOURCES[..]].concat();
    if !Command::new("git").args(differs).status().ok()?.success() {
        commit.push('+');
    }
    Some(commit)
}

/// What git prints, or nothing if it fails or is not there.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_string())
}
