//! Tunes in JSON files.

use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

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
    /// Reads `{"train": [[[60, 72], …], …], "valid": …, "test": …}`: tunes of steps of MIDI note numbers (21 to 108;
    /// negative ones are silence), the form of Boulanger-Lewandowski's data sets. A plain list of tunes is taken for
    /// tunes to test; without `valid` every tenth tune of `train` is held out.
    ///
    /// # Errors
    /// The file can't be read or is no such JSON; a note that is none: its tune and step are named.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::format(path, e.to_string()))?;
        Self::of(&value).map_err(|e| Error::format(path, e.to_string()))
    }

    fn of(value: &Value) -> Result<Self> {
        if value.is_array() {
            return Ok(Tunes { test: tunes("the list", value)?, ..Tunes::default() });
        }
        let part = |name: &str| match value.get(name) {
            Some(list) => tunes(name, list),
            None => Ok(Vec::new()),
        };
        let mut all =
            Tunes { training: part("train")?, validation: part("valid")?, test: part("test")? };
        if all.training.is_empty() && all.test.is_empty() {
            return Err(Error::invalid("there is neither 'train' nor 'test' with tunes"));
        }
        if all.validation.is_empty() && all.training.len() >= 10 {
            let tunes = std::mem::take(&mut all.training).into_iter().enumerate();
            let (held, rest): (Vec<_>, Vec<_>) = tunes.partition(|(i, _)| i % 10 == 9);
            all.validation = held.into_iter().map(|t| t.1).collect();
            all.training = rest.into_iter().map(|t| t.1).collect();
        }
        Ok(all)
    }
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
        assert_eq!(tunes.training, [vec![vec![0, 39], vec![]], vec![vec![87]]]);
        assert_eq!(of("[[[21]]]").unwrap().test, [[[0]]]);
        for (text, words) in [
            (r#"{"train": [[[60], [109]]]}"#, "'train', tune 1, step 2: note 109"),
            (r#"{"train": [[[60]], [[20]]]}"#, "tune 2, step 1: note 20"),
            (r#"{"train": [[["a"]]]}"#, "is no number"),
            (r#"{"train": [[60]]}"#, "step 1: is no list"),
            (r#"{"valid": [[[60]]]}"#, "neither"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let many = format!(r#"{{"train": [{}]}}"#, vec!["[[60]]"; 20].join(","));
        let many = of(&many).unwrap();
        assert_eq!((many.training.len(), many.validation.len()), (18, 2));
    }
}
