//! Text files.

use crate::error::{Error, Result};
#[cfg(feature = "files")]
use std::io::{BufRead, Cursor, Read};
use std::path::Path;

/// The byte order mark, which some programs put before a text: it is no part of it.
#[cfg(feature = "files")]
const MARK: &[u8] = b"\xef\xbb\xbf";
/// What files of gzip begin with.
#[cfg(feature = "files")]
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Reads a UTF-8 text, without the byte order mark that may stand before it.
///
/// # Errors
/// The file can't be read, is empty, or is no UTF-8: the error names line and byte.
pub fn read_text(path: &Path) -> Result<String> {
    let text = text_of(path, read_bytes(path)?)?;
    if text.is_empty() { Err(Error::format(path, "the text is empty")) } else { Ok(text) }
}

/// The bytes of a file (or of what has this name in messages) as a text, without the byte order mark that may stand
/// before it.
///
/// # Errors
/// They are no UTF-8: the error names line and byte.
pub(crate) fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        let byte = e.as_bytes()[at];
        let reason = format!(
            "the text is not UTF-8: byte 0x{byte:02x} at offset {at} (line {line}); \
             convert it first, for example with iconv -t utf-8"
        );
        Error::format(path, reason)
    })?;
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_string()),
        None => Ok(text),
    }
}

/// What gzip packed, or what wasn't packed; `path` is its name in messages.
///
/// # Errors
/// It is cut short or damaged.
#[cfg(feature = "files")]
pub(crate) fn unpacked(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    if !bytes.starts_with(GZIP) {
        return Ok(bytes);
    }
    let mut all = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut all);
    read.map_err(|e| Error::format(path, format!("no whole gzip file ({e}); is it cut short?")))?;
    Ok(all)
}

/// The lines of a text as they come, unpacked if gzip packed them, and without a byte order mark. No more is read ahead
/// than shows that: whoever types lines is answered at each. `name` is what messages call it.
///
/// # Errors
/// What can't be read; a packed text that is cut short or damaged.
#[cfg(feature = "files")]
pub fn text_lines(name: &Path, mut from: Box<dyn BufRead>) -> Result<Box<dyn BufRead>> {
    let failed = |e| Error::io(name, "read", e);
    let mut start = Vec::new();
    // Byte by byte, as long as it may be one of the two.
    while [MARK, GZIP].iter().any(|m| m.len() > start.len() && m.starts_with(&start)) {
        let Some(&byte) = from.fill_buf().map_err(failed)?.first() else { break };
        from.consume(1);
        start.push(byte);
    }
    if start == GZIP {
        from.read_to_end(&mut start).map_err(failed)?;
        return text_lines(name, Box::new(Cursor::new(unpacked(name, start)?)));
    }
    let start = if start == MARK { Vec::new() } else { start };
    Ok(Box::new(Cursor::new(start).chain(from)))
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
        std::fs::write(&path, MARK).unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("empty"));
        std::fs::write(&path, "\u{feff}a\u{feff}").unwrap();
        assert_eq!(read_text(&path).unwrap(), "a\u{feff}");
    }

    #[cfg(feature = "files")]
    #[test]
    fn lines_come_without_what_packs_them() {
        use std::io::Write;
        let packed = |bytes: &[u8]| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        };
        let read = |bytes: &[u8]| {
            let lines = text_lines(Path::new("t"), Box::new(Cursor::new(bytes.to_vec())))?;
            Ok::<_, Error>(lines.split(b'\n').map(Result::unwrap).collect::<Vec<_>>())
        };
        let marked = [MARK, b"a\nb\n"].concat();
        for bytes in [b"a\nb\n".to_vec(), marked.clone(), packed(b"a\nb"), packed(&marked)] {
            assert_eq!(read(&bytes).unwrap(), [b"a", b"b"]);
        }
        // What only begins as one of them stays.
        assert_eq!(read(b"\xef\xbba").unwrap(), [b"\xef\xbba".to_vec()]);
        assert_eq!(read(b"\x1f").unwrap(), [b"\x1f".to_vec()]);
        assert!(read(b"").unwrap().is_empty());
        let cut = packed(b"a\nb");
        let error = read(&cut[..cut.len() - 9]).unwrap_err().to_string();
        assert!(error.contains("cut short"), "{error}");
    }
}
