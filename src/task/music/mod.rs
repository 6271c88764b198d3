//! Music as a multi-label sequence: which notes sound at each step, from those at all steps before.

mod data;
mod model;
mod train;

pub use data::{LOWEST, NOTES, Tunes};
pub use model::{MusicModel, MusicScore, NoteModel};
pub use train::MusicTask;

/// The task's name in a model's folder.
pub const NAME: &str = "music";
