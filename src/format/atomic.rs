//! Files that are there whole or not at all.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes `bytes` to `path` so that at every instant, a power cut included, the path holds the old
/// content or the new one: a file beside it is written, flushed to the disk and renamed over it.
///
/// # Errors
/// The folder can't be written, or the disk is full; the old content is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let beside = path.with_file_name(name);
    let fail = |action| {
        let beside = beside.clone();
        move |e| {
            // A partial file is of no use to anyone.
            let _ = fs::remove_file(&beside);
            Error::io(path, action, e)
        }
    };
    let mut file = File::create(&beside).map_err(fail("write"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    file.sync_all().map_err(fail("flush"))?;
    drop(file);
    fs::rename(&beside, path).map_err(fail("rename"))?;
    // The rename itself lasts once the folder is flushed; not every system can do that.
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("no/such/folder/x");
        assert!(write_atomic(&missing, b"").unwrap_err().to_string().contains("no/such"));
    }
}
