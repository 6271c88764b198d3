//! Text files.

use crate::error::{Error, Result};
use std::path::Path;

/// Reads a UTF-8 text.
///
/// # Errors
/// The file can't be read, is empty, or is no UTF-8: the error names line and byte.
pub fn read_text(path: &Path) -> Result<String> {
    text_of(path, read_bytes(path)?)
}

/// The bytes of a file (or of what has this name in messages) as a text.
///
/// # Errors
/// They are no UTF-8: the error names line and byte.
pub(crate) fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        let byte = e.as_bytes()[at];
        let reason = format!(
            "the text is not UTF-8: byte 0x{byte:02x} at offset {at} (line {line}); \
             convert it first, for example with iconv -t utf-8"
        );
        Error::format(path, reason)
    })
}

/// Reads a file of any content.
///
/// # Errors
/// The file can't be read, or is empty.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    if bytes.is_empty() { Err(Error::format(path, "the text is empty")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.txt");
        std::fs::write(&path, b"one\ntw\xff").unwrap();
        let message = read_text(&path).unwrap_err().to_string();
        assert!(message.contains("0xff at offset 6 (line 2)"), "{message}");
        assert_eq!(read_bytes(&path).unwrap().len(), 7);
        std::fs::write(&path, b"").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("empty"));
    }
}
