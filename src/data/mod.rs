//! Real inputs: text, its vocabulary, and batches of parallel streams.

mod buckets;
mod corpus;
mod random;
mod streams;
mod text;
mod vocabulary;

#[cfg(feature = "files")]
pub(crate) use buckets::LastPass;
pub use buckets::{Batch, Buckets, Passes};
pub use corpus::own_sources;
pub(crate) use random::{Draw, random};
pub use streams::Streams;
#[cfg(feature = "files")]
pub use text::text_lines;
pub use text::{read_bytes, read_text};
#[cfg(feature = "files")]
pub(crate) use text::{text_of, unpacked};
pub use vocabulary::{END_OF_LINE, TextWriter, Tokens, UNKNOWN, Vocabulary, VocabularyText};
