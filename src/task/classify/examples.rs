//! Sequences and their labels.

use crate::error::{Error, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Sequences.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Texts, which a model cuts into tokens.
    Texts(Vec<String>),
    /// `width` numbers a step, the steps of a sequence one after the other.
    Numbers {
        /// I.
        width: usize,
        /// Each \[T, I\].
        list: Vec<Vec<f32>>,
    },
}

impl Content {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Content::Texts(list) => list.len(),
            Content::Numbers { list, .. } => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As in `3 values a step`.
    pub fn kind(&self) -> String {
        match self {
            Content::Texts(_) => "texts".to_string(),
            Content::Numbers { width, .. } => format!("{width} values a step"),
        }
    }

    fn choose(&self, which: &[usize]) -> Self {
        match self {
            Content::Texts(list) => {
                Content::Texts(which.iter().map(|&i| list[i].clone()).collect())
            }
            Content::Numbers { width, list } => {
                let list = which.iter().map(|&i| list[i].clone()).collect();
                Content::Numbers { width: *width, list }
            }
        }
    }
}

/// Sequences, with a label each or without any, and where each was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    content: Content,
    labels: Vec<String>,
    /// The place in its file of each: a line's or a sequence's number from 1.
    places: Vec<(usize, usize)>,
    /// Where in its line each label stands, from 1; 0 where that is not known.
    columns: Vec<usize>,
    /// The files, and what their places count.
    files: Vec<(PathBuf, &'static str)>,
}

impl Examples {
    /// Texts with a label each, or with none at all.
    ///
    /// # Errors
    /// Another number of labels.
    pub fn texts(list: Vec<String>, labels: Vec<String>) -> Result<Self> {
        Self::new(Content::Texts(list), labels)
    }

    /// Sequences of `width` numbers a step with a label each, or with none at all.
    ///
    /// # Errors
    /// Another number of labels; values that are no whole number of steps, none, or no numbers: the sequence is named.
    pub fn numbers(width: usize, list: Vec<Vec<f32>>, labels: Vec<String>) -> Result<Self> {
        for (number, own) in list.iter().enumerate() {
            let bad =
                |what: String| Err(Error::invalid(format!("sequence {}: {what}", number + 1)));
            if own.is_empty() || !own.len().is_multiple_of(width.max(1)) {
                let n = own.len();
                return bad(format!(
                    "{n} numbers are no whole number of steps of {width}, or none"
                ));
            }
            if let Some(at) = own.iter().position(|x| !x.is_finite()) {
                return bad(format!("step {}: {} is no number", at / width.max(1) + 1, own[at]));
            }
        }
        if width == 0 {
            return Err(Error::invalid("a step has at least one value"));
        }
        Self::new(Content::Numbers { width, list }, labels)
    }

    fn new(content: Content, labels: Vec<String>) -> Result<Self> {
        let (n, given) = (content.len(), labels.len());
        if given != n && given != 0 {
            return Err(Error::invalid(format!("there are {given} labels for {n} sequences")));
        }
        let places = (1..=n).map(|place| (0, place)).collect();
        let files = vec![(PathBuf::new(), "sequence")];
        Ok(Examples { content, labels, places, columns: vec![0; n], files })
    }

    /// The same as found in a file, at these places (from 1), which count lines or sequences.
    #[cfg(feature = "files")]
    pub(super) fn found(self, file: &Path, unit: &'static str, places: Vec<usize>) -> Self {
        let places = places.into_iter().map(|place| (0, place)).collect();
        Examples { places, files: vec![(file.to_path_buf(), unit)], ..self }
    }

    /// The same with their labels in these columns (from 1) of their lines.
    #[cfg(feature = "files")]
    pub(super) fn labelled_in(self, columns: Vec<usize>) -> Self {
        Examples { columns, ..self }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// The sequences.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The labels; none where there are none at all.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The place of one in its file, from 1, and what it counts: `line` or `sequence`.
    pub fn place(&self, number: usize) -> (&Path, &'static str, usize) {
        let (file, place) = self.places.get(number).copied().unwrap_or((0, number + 1));
        let (path, unit) =
            self.files.get(file).map_or((Path::new(""), "sequence"), |f| (f.0.as_path(), f.1));
        (path, unit, place)
    }

    /// An error about one of them, with its file and place.
    pub fn error_at(&self, number: usize, what: &str) -> Error {
        self.error(number, "", what)
    }

    fn error(&self, number: usize, column: &str, what: &str) -> Error {
        let (path, unit, place) = self.place(number);
        match path.as_os_str().is_empty() {
            true => Error::invalid(format!("{unit} {place}{column}: {what}")),
            false => Error::format(path, format!("{unit} {place}{column}: {what}")),
        }
    }

    /// These and others behind them.
    ///
    /// # Errors
    /// They are of another kind or width; some have labels and others none.
    pub fn and(mut self, more: Examples) -> Result<Self> {
        let [own, other] = [self.content.kind(), more.content.kind()];
        let place = more.files.first().map(|f| f.0.clone()).unwrap_or_default();
        let refuse = |what: String| Err(Error::format(place, what));
        if self.labels.is_empty() != more.labels.is_empty() {
            return refuse("some files have labels and others none".to_string());
        }
        match (&mut self.content, more.content) {
            (Content::Texts(list), Content::Texts(more)) => list.extend(more),
            (Content::Numbers { width, list }, Content::Numbers { width: other, list: more })
                if *width == other =>
            {
                list.extend(more);
            }
            _ => return refuse(format!("it has {other}, and the files before it {own}")),
        }
        self.labels.extend(more.labels);
        self.columns.extend(more.columns);
        let before = self.files.len();
        self.places.extend(more.places.into_iter().map(|(file, place)| (before + file, place)));
        self.files.extend(more.files);
        Ok(self)
    }

    /// Some of them.
    pub fn choose(&self, which: &[usize]) -> Self {
        let labels = match self.labels.is_empty() {
            true => Vec::new(),
            false => which.iter().map(|&i| self.labels[i].clone()).collect(),
        };
        Examples {
            content: self.content.choose(which),
            labels,
            places: which.iter().map(|&i| self.places[i]).collect(),
            columns: which.iter().map(|&i| self.columns.get(i).copied().unwrap_or(0)).collect(),
            files: self.files.clone(),
        }
    }

    /// The classes, in the order of numbers where all labels are whole ones, else of the alphabet, and how many
    /// sequences each has.
    pub fn classes(&self) -> (Vec<String>, Vec<u64>) {
        let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
        self.labels.iter().for_each(|label| *counts.entry(label).or_default() += 1);
        let mut list: Vec<(&String, u64)> = counts.into_iter().collect();
        if list.iter().all(|(label, _)| label.parse::<i64>().is_ok()) {
            list.sort_by_key(|(label, _)| label.parse::<i64>().unwrap_or_default());
        }
        list.into_iter().map(|(label, n)| (label.clone(), n)).unzip()
    }

    /// The numbers of their classes; none of a label that is none of them.
    ///
    /// # Errors
    /// There are no labels.
    pub fn known_targets(&self, classes: &[String]) -> Result<Vec<Option<u32>>> {
        if self.labels.is_empty() && !self.is_empty() {
            return Err(self.error_at(0, "there is no label here, nor at any other sequence"));
        }
        let numbers: HashMap<&String, u32> = classes.iter().zip(0..).collect();
        Ok(self.labels.iter().map(|label| numbers.get(label).copied()).collect())
    }

    /// The numbers of their classes.
    ///
    /// # Errors
    /// There are no labels; one that is none of the classes: file and line are named.
    pub fn targets(&self, classes: &[String]) -> Result<Vec<u32>> {
        let number = |(at, (target, label)): (usize, (Option<u32>, &String))| {
            target.ok_or_else(|| {
                let mut known = classes.iter().take(12).map(|c| format!("'{c}'"));
                let known = known.by_ref().collect::<Vec<_>>().join(", ");
                let more = if classes.len() > 12 { " …" } else { "" };
                let what = format!("unknown label '{label}'; the model has {known}{more}");
                let column = match self.columns.get(at) {
                    None | Some(0) => String::new(),
                    Some(column) => format!(", column {column}"),
                };
                self.error(at, &column, &what)
            })
        };
        let known = self.known_targets(classes)?.into_iter();
        known.zip(&self.labels).enumerate().map(number).collect()
    }

    /// Those to go on with, and about `share` of each class held out, drawn from a seed. Of a class of one sequence
    /// that stays in the first part.
    ///
    /// # Errors
    /// A share outside (0, 1); nothing would be held out, or nothing left.
    pub fn split(&self, share: f32, seed: u64) -> Result<(Self, Self)> {
        if !(share > 0.0 && share < 1.0) {
            return Err(Error::invalid(format!("a share of {share} can't be held out")));
        }
        let mut of_class: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for i in 0..self.len() {
            of_class.entry(self.labels.get(i).map_or("", String::as_str)).or_default().push(i);
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut rest, mut held) = (Vec::new(), Vec::new());
        for mut own in of_class.into_values() {
            own.shuffle(&mut random);
            let count = (f64::from(share) * own.len() as f64).round() as usize;
            let (out, stay) = own.split_at(count.min(own.len() - 1));
            held.extend_from_slice(out);
            rest.extend_from_slice(stay);
        }
        if held.is_empty() {
            let n = self.len();
            let what = format!("{share} of each class of {n} sequences is none to hold out");
            return Err(Error::invalid(what));
        }
        rest.sort_unstable();
        held.sort_unstable();
        Ok((self.choose(&rest), self.choose(&held)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Examples {
        let texts = (0..40).map(|i| format!("t{i}")).collect();
        let labels = (0..40).map(|i| ["10", "9", "9", "9"][i % 4].to_string()).collect();
        Examples::texts(texts, labels).unwrap()
    }

    #[test]
    fn splits_keep_labels_and_shares() {
        let all = some();
        assert_eq!(all.classes(), (vec!["9".to_string(), "10".to_string()], vec![30, 10]));
        let (rest, held) = all.split(0.2, 3).unwrap();
        assert_eq!(held.classes().1, [6, 2]);
        assert_eq!(rest.classes().1, [24, 8]);
        let mut seen: Vec<String> = Vec::new();
        for part in [&rest, &held] {
            let Content::Texts(list) = part.content() else { panic!() };
            for (i, (text, label)) in list.iter().zip(part.labels()).enumerate() {
                let n: usize = text[1..].parse().unwrap();
                assert_eq!(label, &all.labels()[n]);
                assert_eq!(part.place(i).2, n + 1);
                seen.push(text.clone());
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 40);
        assert_eq!(all.split(0.2, 3).unwrap().1, held);
        assert_ne!(all.split(0.2, 4).unwrap().1, held);
        for share in [0.0, 1.0, f32::NAN, 0.001] {
            assert!(all.split(share, 1).is_err());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let all = some();
        let message = all.targets(&["10".to_string()]).unwrap_err().to_string();
        assert!(message.contains("sequence 2") && message.contains("'9'"), "{message}");
        let numbers = Examples::numbers(2, vec![vec![0.0; 4]], vec!["a".to_string()]).unwrap();
        assert!(all.clone().and(numbers.clone()).unwrap_err().to_string().contains("2 values"));
        assert!(Examples::numbers(2, vec![vec![0.0; 3]], vec![]).is_err());
        assert!(Examples::numbers(2, vec![vec![0.0; 2], vec![]], vec![]).is_err());
        assert!(Examples::numbers(0, vec![], vec![]).is_err());
        let error = Examples::numbers(1, vec![vec![0.0, f32::NAN]], vec![]).unwrap_err();
        assert!(error.to_string().contains("step 2"), "{error}");
        let both = numbers.clone().and(numbers).unwrap();
        assert_eq!((both.len(), both.place(1).2), (2, 1));
    }
}
