//! Music as a multi-label sequence: which notes sound at each step, from those at all steps before.

mod compose;
mod data;
#[cfg(feature = "files")]
mod midi;
mod model;
mod train;

pub use compose::Composer;
pub use data::{LOWEST, NOTES, Tunes};
#[cfg(feature = "files")]
pub use midi::{read_midi, write_midi};
pub use model::{MusicModel, MusicScore, NoteModel};
pub use train::MusicTask;

/// The task's name in a model's folder.
pub const NAME: &str = "music";
