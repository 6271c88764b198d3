//! The program, as people call it, and a disk without room.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `recurra`.
pub fn recurra(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recurra")).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that ends well prints, and says.
pub fn good(arguments: &[&str]) -> (String, String) {
    let output = recurra(arguments);
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {said}");
    (out, said)
}

/// A command that fails with this code, and says these words.
pub fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = recurra(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    words.iter().for_each(|w| assert!(said.contains(w), "{arguments:?} should say '{w}': {said}"));
}

/// Calls with the root of a disk of so many bytes (`256k`); not at all, and says so, where none can be mounted.
pub fn on_a_small_disk(size: &str, test: impl FnOnce(&Path)) {
    let mount = tempfile::tempdir().unwrap();
    let options = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
    let mounted = Command::new("mount").args(options).arg(mount.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: this user can't mount a small tmpfs");
        return;
    }
    let result = catch_unwind(AssertUnwindSafe(|| test(mount.path())));
    let _ = Command::new("umount").arg(mount.path()).status();
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// Leaves room for nothing: the file that takes it.
pub fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("other");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut block = 1 << 16;
    while block > 0 {
        if file.write_all(&vec![0u8; block]).is_err() {
            block /= 2;
        }
    }
    path
}
