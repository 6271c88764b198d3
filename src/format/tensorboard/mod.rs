//! Event files, as TensorBoard reads them: numbers, texts, histograms and pictures of a training run.
//!
//! A file is a list of records, each framed with checksums (see `record.rs`). A run that goes on after
//! an interruption writes another file into the same folder; TensorBoard puts them together, and leaves
//! out what the first one tells of steps that the second one makes again.

mod histogram;
mod messages;
mod record;

pub use histogram::Histogram;

use crate::error::{Error, Result};
use messages::{
    Content, Event, Image, PluginData, SessionLog, Shape, Summary, SummaryMetadata, SummaryValue,
    TextTensor, What,
};
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What every event file's name starts with.
const PREFIX: &str = "events.out.tfevents.";
/// The first record of a file.
const VERSION: &str = "brain.Event:2";
/// TensorFlow's number of strings.
const STRING: i32 = 7;
/// The class of data that texts are.
const TENSOR_CLASS: i32 = 2;
/// A session's status: it starts.
const START: i32 = 1;

/// An event file that is being written.
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventFile {
    /// Makes a new event file, and the folder where there is none. Records are buffered until
    /// [`flush`](Self::flush), or until the file is dropped.
    ///
    /// # Errors
    /// The folder can't be made or written.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        let (path, file) = new_file(folder)?;
        let mut events = EventFile { path, file: BufWriter::new(file) };
        events.write(0, What::FileVersion(VERSION.to_string()))?;
        Ok(events)
    }

    /// Makes a new event file for a run that goes on behind step `done`: TensorBoard forgets what earlier
    /// files tell of later steps.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn resume(folder: &Path, done: u64) -> Result<Self> {
        let mut events = Self::create(folder)?;
        events.write(done.saturating_add(1), What::SessionLog(SessionLog { status: START }))?;
        Ok(events)
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number under a tag, as "loss/training": what stands before the slash groups charts.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f32) -> Result<()> {
        self.scalars(step, &[(tag, value)])
    }

    /// Numbers of one step, in one record.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f32)| plain(tag, Content::Scalar(value));
        self.summary(step, values.iter().map(value).collect())
    }

    /// A text; TensorBoard takes it for Markdown, so that what should stand as it is has to be indented
    /// by four spaces.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        let tensor = TextTensor {
            dtype: STRING,
            tensor_shape: Some(Shape {}),
            string_val: vec![text.as_bytes().to_vec()],
        };
        let metadata = SummaryMetadata {
            plugin_data: Some(PluginData { plugin_name: "text".to_string() }),
            data_class: TENSOR_CLASS,
        };
        let value =
            SummaryValue { metadata: Some(metadata), ..plain(tag, Content::Tensor(tensor)) };
        self.summary(step, vec![value])
    }

    /// How the values of a tensor are spread.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn histogram(&mut self, step: u64, tag: &str, histogram: &Histogram) -> Result<()> {
        self.summary(step, vec![plain(tag, Content::Histogram(histogram.message()))])
    }

    /// A picture: the bytes of a PNG file.
    ///
    /// # Errors
    /// The bytes are no PNG, or the file can't be written.
    pub fn png(&mut self, step: u64, tag: &str, png: &[u8]) -> Result<()> {
        let [width, height, colorspace] = png_header(png).ok_or_else(|| {
            Error::invalid(format!("the picture '{tag}' is no PNG: its header is not there"))
        })?;
        let image = Image { height, width, colorspace, encoded_image_string: png.to_vec() };
        self.summary(step, vec![plain(tag, Content::Image(image))])
    }

    /// Hands what was written so far to the system, so that a TensorBoard that watches sees it.
    ///
    /// # Errors
    /// The disk is full, or gone.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, "write", e))
    }

    fn summary(&mut self, step: u64, value: Vec<SummaryValue>) -> Result<()> {
        self.write(step, What::Summary(Summary { value }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event {
            wall_time: now(),
            step: i64::try_from(step).unwrap_or(i64::MAX),
            what: Some(what),
        };
        let mut bytes = Vec::new();
        record::frame(&event.encode_to_vec(), &mut bytes);
        self.file.write_all(&bytes).map_err(|e| Error::io(&self.path, "write", e))
    }
}

fn plain(tag: &str, content: Content) -> SummaryValue {
    SummaryValue { tag: tag.to_string(), content: Some(content), metadata: None }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// A file of a name that sorts behind all that are there, as TensorBoard reads them in that order. Its
/// second stands in it, but a clock that was set back must not bring a new file before an old one.
fn new_file(folder: &Path) -> Result<(PathBuf, File)> {
    let mut second = now() as u64;
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "read", e))?;
    for entry in entries.filter_map(|entry| entry.ok()) {
        let name = entry.file_name();
        let time = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next());
        if let Some(time) = time.and_then(|time| time.parse::<u64>().ok()) {
            second = second.max(time.saturating_add(1));
        }
    }
    loop {
        let path = folder.join(format!("{PREFIX}{second:010}.recurra"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            // Another run was faster.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => second = second.saturating_add(1),
            Err(e) => return Err(Error::io(path, "create", e)),
        }
    }
}

/// Width, height and channels of a PNG.
fn png_header(png: &[u8]) -> Option<[i32; 3]> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..)?.strip_prefix(b"IHDR")?;
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        i32::try_from(u32::from_be_bytes(bytes)).ok()
    };
    // Gray, colours, a palette's colours, gray and alpha, colours and alpha.
    let channels = match header.get(9)? {
        0 => 1,
        4 => 2,
        6 => 4,
        _ => 3,
    };
    Some([number(0)?, number(4)?, channels])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file, with both checksums of each record checked.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], record::masked_crc(&rest[..8]).to_le_bytes());
            let body = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], record::masked_crc(body).to_le_bytes());
            events.push(Event::decode(body).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    #[test]
    fn a_file_starts_with_its_version_and_holds_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("a/b");
        let mut file = EventFile::create(&runs).unwrap();
        file.scalars(3, &[("loss", 1.5), ("zero", 0.0)]).unwrap();
        file.flush().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        // wall_time (9 bytes), then field 3 of 13 bytes.
        assert_eq!(bytes[0], 24);
        assert_eq!(&bytes[21..36], b"\x1a\x0dbrain.Event:2");
        let events = read(file.path());
        assert_eq!((events.len(), events[1].step), (2, 3));
        let Some(What::Summary(summary)) = &events[1].what else { panic!() };
        assert_eq!(summary.value[1], plain("zero", Content::Scalar(0.0)));
        assert!(events[1].wall_time > 1.7e9);
    }

    #[test]
    fn files_of_one_folder_sort_in_the_order_they_were_made() {
        let folder = tempfile::tempdir().unwrap();
        let future = format!("{PREFIX}{:010}.zeta", now() as u64 + 500);
        std::fs::write(folder.path().join(&future), b"").unwrap();
        let make = || EventFile::resume(folder.path(), 10).unwrap().path().to_path_buf();
        let (one, two) = (make(), make());
        assert!(folder.path().join(future) < one && one < two);
        let events = read(&one);
        assert_eq!(events[1].step, 11);
        assert!(matches!(events[1].what, Some(What::SessionLog(_))));
    }

    #[test]
    fn what_is_no_png_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path()).unwrap();
        for bytes in [&b""[..], b"GIF89a", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0"] {
            let error = file.png(1, "states", bytes).unwrap_err();
            assert!(error.to_string().contains("'states' is no PNG"));
        }
    }
}
