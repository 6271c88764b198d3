//! What can't be right is refused, and the refusal says what it is: by the library, by the command
//! line. A length of zero is right.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod host;
mod lengths;
mod options;
mod shapes;

use recurra::Error;
use recurra::cell::CellKind;
use recurra::layer::Recurrent;

fn says(what: &str, error: Error, words: &[&str]) {
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{what} should say '{word}': {message}");
    }
}

fn stack(kind: CellKind) -> Recurrent {
    Recurrent::new("rnn", kind, 3, 4)
}
