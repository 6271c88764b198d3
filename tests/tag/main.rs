//! Tagging: entities counted, files read, gradients, batches against sentences alone, training, the command line.

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod counting;
mod learning;
mod model;

use recurra::CellKind;
use recurra::task::RecurrentConfig;
use recurra::task::TaskModel;
use recurra::task::tag::{Features, Sentence, TagConfig, TagModel};

/// Small numbers that look random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn name(&mut self, ending: &str) -> String {
        let mut name: String = (0..2)
            .map(|_| ["ba", "ko", "mi", "ru", "ta", "ne", "lo", "si"][self.below(8) as usize])
            .collect();
        name += ["d", "n", "r", "k"][self.below(4) as usize];
        name + ending
    }
}

/// Sentences of a little language. Artists and songs are told apart by the endings of their names
/// alone, and nearly each name is new, so that a model has to spell; `tomorrow` is a day or a song,
/// so that it has to read.
fn language(seed: u64, count: usize) -> Vec<Sentence> {
    let mut draw = Draw(seed);
    (0..count).map(|_| sentence(&mut draw)).collect()
}

fn sentence(draw: &mut Draw) -> Sentence {
    let (mut tokens, mut tags) = (Vec::new(), Vec::new());
    let mut say = |words: &str, kind: &str| {
        for (place, word) in words.split(' ').enumerate() {
            tokens.push(word.to_string());
            tags.push(match (kind, place) {
                ("", _) => "O".to_string(),
                (kind, 0) => format!("B-{kind}"),
                (kind, _) => format!("I-{kind}"),
            });
        }
    };
    let intent = if draw.below(2) == 0 {
        say(["play", "please put on", "i want"][draw.below(3) as usize], "");
        // Behind the same words, an artist or a song.
        if draw.below(2) == 0 {
            say(&format!("{} {}", draw.name("o"), draw.name("son")), "artist");
        } else {
            let song = match draw.below(5) {
                0 => "tomorrow".to_string(),
                1 => draw.name("ia"),
                _ => format!("{} {}", draw.name("ia"), draw.name("ia")),
            };
            say(&song, "song");
        }
        if draw.below(2) == 0 {
            say("by", "");
            say(&format!("{} {}", draw.name("o"), draw.name("son")), "artist");
        }
        "music"
    } else {
        say(["rain in", "will it be cold in", "weather for"][draw.below(3) as usize], "");
        say(&draw.name("ville"), "city");
        if draw.below(2) == 0 {
            say("and", "");
            say(&draw.name("ville"), "city");
        }
        say(["tomorrow", "on 12 May", "now please"][draw.below(3) as usize], "day");
        "weather"
    };
    let [tokens, tags] =
        [&tokens, &tags].map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
    Sentence::new(&tokens, &tags).with_intent(intent)
}

/// A small tagger for sentences.
fn tagger(
    sentences: &[Sentence],
    change: impl FnOnce(&mut RecurrentConfig, &mut Features),
) -> TagModel {
    let mut recurrent = RecurrentConfig { both: true, ..RecurrentConfig::new(CellKind::Lstm, 24) };
    let mut features =
        Features { word: 16, character: 8, character_hidden: 12, shape: 3, ..Features::default() };
    change(&mut recurrent, &mut features);
    let config = TagConfig::new(recurrent, features, None, sentences, &[]).unwrap();
    TagModel::new(config).unwrap()
}
