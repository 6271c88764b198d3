//! Entities and shares against a slow count that goes another way.

use super::Draw;
use recurra::task::tag::{Guess, Scheme, Sentence, TagScore};

fn letter_and_type(tag: &str) -> (&str, &str) {
    tag.split_once('-').unwrap_or((tag, ""))
}

/// Whether an entity ends between two neighbouring tags.
fn ends(before: &str, now: &str) -> bool {
    let ((a, kind), (b, other)) = (letter_and_type(before), letter_and_type(now));
    match a {
        "O" => false,
        "E" | "S" => true,
        _ => matches!(b, "O" | "B" | "S") || kind != other,
    }
}

/// Whether one begins there.
fn begins(before: &str, now: &str) -> bool {
    let ((a, kind), (b, other)) = (letter_and_type(before), letter_and_type(now));
    match b {
        "O" => false,
        "B" | "S" => true,
        _ => matches!(a, "O" | "E" | "S") || kind != other,
    }
}

/// Right, guessed and wanted entities, word by word with one bit of memory, as the script of CoNLL-2000 goes.
fn slow(truth: &[&str], guess: &[&str]) -> [usize; 3] {
    let (mut right, mut guessed, mut wanted, mut along) = (0, 0, 0, false);
    let (mut last_truth, mut last_guess) = ("O", "O");
    for place in 0..=truth.len() {
        let end = place == truth.len();
        let (now, own) = if end { ("O", "O") } else { (truth[place], guess[place]) };
        if along {
            let (a, b) = (ends(last_truth, now), ends(last_guess, own));
            right += usize::from(a && b);
            along = !a && !b;
        }
        if begins(last_truth, now) {
            wanted += 1;
            along = begins(last_guess, own) && letter_and_type(now).1 == letter_and_type(own).1;
        }
        guessed += usize::from(begins(last_guess, own));
        (last_truth, last_guess) = (now, own);
    }
    [right, guessed, wanted]
}

#[test]
fn entities_are_counted_as_the_script_counts_them() {
    let tags = ["O", "O", "B-x", "I-x", "I-x", "B-y", "I-y", "E-x", "S-x"];
    let mut draw = Draw(5);
    let mut all = [0; 3];
    let (mut sentences, mut guesses): (Vec<Sentence>, Vec<Vec<&str>>) = Default::default();
    for _ in 0..4000 {
        let length = 1 + draw.below(9) as usize;
        let truth: Vec<&str> = (0..length).map(|_| tags[draw.below(9) as usize]).collect();
        // Mostly the truth, so that many are right.
        let guess = truth.iter().map(|&tag| match draw.below(5) {
            0 => tags[draw.below(9) as usize],
            _ => tag,
        });
        let guess: Vec<&str> = guess.collect();
        let one = slow(&truth, &guess);
        let sentence = Sentence::new(&vec!["w"; length], &truth);
        let own = Guess { tags: guess.clone(), intent: None };
        let score = TagScore::of(Scheme::Bio, std::slice::from_ref(&sentence), [own]);
        let counts = score.entities.unwrap();
        assert_eq!([counts.right, counts.guessed, counts.wanted], one, "{truth:?} {guess:?}");
        all.iter_mut().zip(one).for_each(|(sum, n)| *sum += n);
        sentences.push(sentence);
        guesses.push(guess);
    }
    let own = guesses.iter().map(|tags| Guess { tags: tags.clone(), intent: None });
    let counts = TagScore::of(Scheme::Bio, &sentences, own).entities.unwrap();
    assert_eq!([counts.right, counts.guessed, counts.wanted], all);
    assert!(all[0] > 4000 && all[0] < all[1] / 2 * 2 && all[1] != all[2], "{all:?}");
}
