//! Tagging: a tag for each word of a sentence, and where sentences have one, a class for the whole of it (an intent).
//!
//! Words become vectors by what they are (an embedding), by how they are spelled (a recurrent layer over their
//! characters, both ways) and by how they are capitalised; a recurrent layer reads the sentence, both ways; a
//! conditional random field chooses the tags (Huang, Xu and Yu 2015, "Bidirectional LSTM-CRF models for sequence
//! tagging"; Lample 2016, "Neural architectures for named entity recognition"). The intent is a softmax over the
//! mean of the layer's outputs; the loss is the sum of both, in nats a sentence.

mod baseline;
mod batch;
mod model;
mod predict;
mod read;
mod scheme;
mod score;
mod sentence;
mod train;
mod words;

pub use baseline::Baseline;
pub use model::{Features, TagConfig, TagModel};
pub use predict::Predicted;
pub use read::{Columns, hold_out, parse, read, read_tags};
pub use scheme::{Entity, Scheme, entities};
pub use score::{Counts, Guess, TagScore};
pub use sentence::Sentence;
pub use train::{Batches, TagTask};
pub use words::{SHAPES, normal, shape};

/// The task's name in a model's folder.
pub const NAME: &str = "tag";
