//! Real inputs: text, its vocabulary, and batches of parallel streams.

mod corpus;
mod streams;
mod text;

pub use corpus::own_sources;
pub use streams::Streams;
pub use text::{Vocabulary, read_text};
