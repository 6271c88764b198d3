//! The one error type of the crate. Each variant says what was wrong, where, and what to do.

use std::path::PathBuf;

/// What the library's fallible functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, named by tensor, shape, file or device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than the operation needs.
    #[error("{tensor}: expected shape {expected}, got {got}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// The shape it should have, in the field's letters or numbers.
        expected: String,
        /// The shape it has.
        got: String,
    },
    /// A size, rate or option is outside what makes sense.
    #[error("{0}")]
    Invalid(String),
    /// A named tensor is absent from a file, a store or a recording.
    #[error("{place}: tensor '{tensor}' is missing")]
    Missing {
        /// The tensor's name.
        tensor: String,
        /// The file or object it was looked for in.
        place: String,
    },
    /// Reading or writing a file failed.
    #[error("{}: {action} failed: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: "read", "write", "rename" …
        action: &'static str,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file is there but its content is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file asks for something that this program does not do; it is named with its place.
    #[error("{0}")]
    Unsupported(String),
    /// No device of that name, or none at all.
    #[error("{0}")]
    Device(String),
    /// A recording needs more than the device offers.
    #[error(
        "the device '{device}' allows {limit} = {allowed}, but {needed} is needed ({what}); \
         use a smaller hidden size, batch or sequence, or another device"
    )]
    Limit {
        /// The adapter's name.
        device: String,
        /// The limit's name in WebGPU.
        limit: &'static str,
        /// What the device allows.
        allowed: u64,
        /// What would have been needed.
        needed: u64,
        /// The buffer or launch that needs it.
        what: String,
    },
    /// The device was lost, or refused a command.
    #[error("the device '{device}' failed: {reason}")]
    DeviceFailed {
        /// The adapter's name.
        device: String,
        /// The driver's words.
        reason: String,
    },
    /// The loss, or a weight, stopped being a number.
    #[error("{what} became {value} at step {step}; {hint}")]
    NotFinite {
        /// "the loss", or the tensor's name.
        what: String,
        /// The training step, counted from 1.
        step: u64,
        /// NaN or an infinity.
        value: f32,
        /// What was kept and what to try.
        hint: String,
    },
}

impl Error {
    /// A shape mismatch, with shapes as slices.
    pub fn shape(tensor: impl Into<String>, expected: &[usize], got: &[usize]) -> Self {
        Error::Shape {
            tensor: tensor.into(),
            expected: format!("{expected:?}"),
            got: format!("{got:?}"),
        }
    }

    /// An option outside its range.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Error::Invalid(reason.into())
    }

    /// Something that this program does not do.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Error::Unsupported(what.into())
    }

    /// An input or output failure on `path`.
    pub fn io(path: impl Into<PathBuf>, action: &'static str, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), action, source }
    }

    /// A malformed file.
    pub fn format(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Error::Format { path: path.into(), reason: reason.into() }
    }
}
