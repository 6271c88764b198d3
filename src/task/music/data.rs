//! Tunes in JSON files, and in folders of MIDI files.

use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;
#[cfg(feature = "files")]
use std::path::PathBuf;

/// The lowest note, by its number in MIDI: the lowest key of a piano.
pub const LOWEST: u32 = 21;
/// The keys of a piano.
pub const NOTES: usize = 88;

/// Tunes for training, validation and test: of each the notes that sound at each step, from 0 for the lowest key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunes {
    /// To train on.
    pub training: Vec<Vec<Vec<u32>>>,
    /// To choose by.
    pub validation: Vec<Vec<Vec<u32>>>,
    /// To measure by.
    pub test: Vec<Vec<Vec<u32>>>,
}

impl Tunes {
    /// Reads tunes in one of these forms:
    ///
    /// - JSON: `{"train": [[[60, 72], …], …], "valid": …, "test": …}`, tunes of steps of MIDI note numbers (21 to 108;
    ///   negative ones are silence), the form of Boulanger-Lewandowski's data sets. A plain list of tunes is taken for
    ///   tunes to test.
    /// - A folder of MIDI files, in it and in folders in it, each a tune. Those in folders with the names `train`,
    ///   `valid` and `test` belong there, the others to `train`. A step is so many quarter notes long.
    /// - One MIDI file: a tune to test.
    ///
    /// Without `valid` every tenth tune of `train` is held out; of fewer than ten the last, if it is not the only one.
    ///
    /// # Errors
    /// What can't be read or is in none of these forms; a note that is none: its tune and step, or its file and place
    /// are named.
    pub fn read(path: &Path, quarters: f32) -> Result<Self> {
        let in_file = |e: Error| Error::format(path, e.to_string());
        if path.is_dir() || is_midi(path) {
            return Self::of_midi(path, quarters)?.hold_out().map_err(in_file);
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::format(path, e.to_string()))?;
        Self::of(&value).map_err(in_file)
    }

    #[cfg(not(feature = "files"))]
    fn of_midi(path: &Path, _: f32) -> Result<Self> {
        Err(Error::format(path, "MIDI files need the feature 'files'"))
    }

    #[cfg(feature = "files")]
    fn of_midi(path: &Path, quarters: f32) -> Result<Self> {
        let mut tunes = Tunes::default();
        if !path.is_dir() {
            tunes.test.push(super::read_midi(path, quarters)?);
            return Ok(tunes);
        }
        for file in midi_files(path)? {
            let tune = super::read_midi(&file, quarters)?;
            let inside = file.strip_prefix(path).unwrap_or(&file);
            let within = |name: &str| inside.iter().any(|part| part == name);
            match (within("valid"), within("test")) {
                (true, _) => tunes.validation.push(tune),
                (_, true) => tunes.test.push(tune),
                _ => tunes.training.push(tune),
            }
        }
        Ok(tunes)
    }

    /// Holds out every tenth tune of training, or the last of a few, where there are none for validation.
    fn hold_out(mut self) -> Result<Self> {
        if self.training.is_empty() && self.test.is_empty() {
            return Err(Error::invalid("there are no tunes to train on or to test with"));
        }
        let count = self.training.len();
        if self.validation.is_empty() && count >= 2 {
            let tunes = std::mem::take(&mut self.training).into_iter().enumerate();
            let is_held = |i: usize| i % 10 == 9 || (count < 10 && i == count - 1);
            let (held, rest): (Vec<_>, Vec<_>) = tunes.partition(|(i, _)| is_held(*i));
            self.validation = held.into_iter().map(|t| t.1).collect();
            self.training = rest.into_iter().map(|t| t.1).collect();
        }
        Ok(self)
    }

    fn of(value: &Value) -> Result<Self> {
        if value.is_array() {
            return Ok(Tunes { test: tunes("the list", value)?, ..Tunes::default() });
        }
        let part = |name: &str| match value.get(name) {
            Some(list) => tunes(name, list),
            None => Ok(Vec::new()),
        };
        Tunes { training: part("train")?, validation: part("valid")?, test: part("test")? }
            .hold_out()
    }
}

fn is_midi(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    ending == "mid" || ending == "midi"
}

/// The MIDI files in a folder and in those in it, by their names.
#[cfg(feature = "files")]
fn midi_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "read", e))?;
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in list {
        let entry = entry.map_err(|e| Error::io(folder, "read", e))?;
        // Not the kind of what a link leads to: links may lead in circles.
        let kind = entry.file_type().map_err(|e| Error::io(entry.path(), "read", e))?;
        match entry.path() {
            path if kind.is_dir() => folders.push(path),
            path if is_midi(&path) => files.push(path),
            _ => {}
        }
    }
    for inner in folders {
        files.extend(midi_files(&inner)?);
    }
    files.sort();
    Ok(files)
}

fn tunes(name: &str, list: &Value) -> Result<Vec<Vec<Vec<u32>>>> {
    let bad = |tune: usize, step: Option<usize>, what: &str| {
        let step = step.map_or(String::new(), |step| format!(", step {}", step + 1));
        Error::invalid(format!("'{name}', tune {}{step}: {what}", tune + 1))
    };
    let all = list.as_array().ok_or_else(|| Error::invalid(format!("'{name}' is no list")))?;
    let mut result = Vec::new();
    for (number, tune) in all.iter().enumerate() {
        let steps = tune.as_array().ok_or_else(|| bad(number, None, "is no list of steps"))?;
        let mut own = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let notes = step.as_array().ok_or_else(|| bad(number, Some(at), "is no list"))?;
            let mut keys = Vec::new();
            for note in notes {
                let midi = note.as_f64().filter(|n| n.fract() == 0.0);
                let midi = midi.ok_or_else(|| {
                    bad(number, Some(at), &format!("{note} is no number of a note"))
                })?;
                if midi < 0.0 {
                    continue;
                }
                let key = midi - f64::from(LOWEST);
                if !(0.0..NOTES as f64).contains(&key) {
                    let highest = LOWEST as usize + NOTES - 1;
                    let what = format!("note {midi} is not between {LOWEST} and {highest}");
                    return Err(bad(number, Some(at), &what));
                }
                keys.push(key as u32);
            }
            keys.sort_unstable();
            keys.dedup();
            own.push(keys);
        }
        result.push(own);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Tunes> {
        Tunes::of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn notes_become_keys_and_bad_ones_are_placed() {
        let tunes = of(r#"{"train": [[[60, 21, 60], []], [[-1, 108.0]]], "test": []}"#).unwrap();
        assert_eq!(tunes.training, [[vec![0, 39], vec![]]]);
        assert_eq!(tunes.validation, [[vec![87]]]);
        assert_eq!(of("[[[21]]]").unwrap().test, [[[0]]]);
        for (text, words) in [
            (r#"{"train": [[[60], [109]]]}"#, "'train', tune 1, step 2: note 109"),
            (r#"{"train": [[[60]], [[20]]]}"#, "tune 2, step 1: note 20"),
            (r#"{"train": [[["a"]]]}"#, "is no number"),
            (r#"{"train": [[60]]}"#, "step 1: is no list"),
            (r#"{"valid": [[[60]]]}"#, "no tunes to train on"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let many = format!(r#"{{"train": [{}]}}"#, vec!["[[60]]"; 20].join(","));
        let many = of(&many).unwrap();
        assert_eq!((many.training.len(), many.validation.len()), (18, 2));
        for (count, held) in [(1, 0), (2, 1), (9, 1)] {
            let few = format!(r#"{{"train": [{}]}}"#, vec!["[[60]]"; count].join(","));
            let few = of(&few).unwrap();
            assert_eq!((few.training.len(), few.validation.len()), (count - held, held));
        }
    }
}
