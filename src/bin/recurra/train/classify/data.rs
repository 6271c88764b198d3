//! The sequences of a run: which files they come from, and what is held out.

use crate::train::folder::{check_same, hash_to_keep, kept_all};
use crate::train::options::RunConfig;
use recurra::task::classify::{Examples, Format, Reading};
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Files, with their labels where these lie in files of their own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Files {
    files: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<PathBuf>,
    /// Of the files, then of the labels.
    hashes: Vec<String>,
}

impl Files {
    pub fn new(files: &[PathBuf], labels: &[PathBuf]) -> Result<Self> {
        let hashes =
            files.iter().chain(labels).map(|file| hash_to_keep(file)).collect::<Result<_>>()?;
        Ok(Files { files: kept_all(files)?, labels: kept_all(labels)?, hashes })
    }

    /// The same files elsewhere.
    pub fn take(&mut self, files: &[PathBuf], labels: &[PathBuf]) -> Result<()> {
        for (own, other) in [(&mut self.files, files), (&mut self.labels, labels)] {
            if !other.is_empty() {
                *own = kept_all(other)?;
            }
        }
        Ok(())
    }

    fn check_same(&self, folder: &Path) -> Result<()> {
        let all: Vec<&PathBuf> = self.files.iter().chain(&self.labels).collect();
        if all.len() != self.hashes.len() {
            let (n, wanted) = (all.len(), self.hashes.len());
            let what = format!("{n} files of data and labels, and the run began with {wanted}");
            return Err(Error::format(folder, what));
        }
        all.into_iter()
            .zip(&self.hashes)
            .try_for_each(|(file, hash)| check_same(folder, file, hash))
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The first of them.
    pub fn first(&self) -> PathBuf {
        self.files.first().cloned().unwrap_or_default()
    }

    /// The names of the files.
    pub fn title(&self) -> String {
        let name =
            |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// How a model of classes is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClassTraining {
    pub data: Files,
    pub validation: Files,
    pub test: Files,
    pub reading: Reading,
    /// The form that the files turned out to have, and their columns' names: others are known by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    pub hold_out: f32,
    pub test_share: f32,
    pub split_seed: u64,
    pub batch: usize,
    pub shapes: usize,
    pub token_dropout: f32,
    pub label_smoothing: f32,
    pub balance: bool,
    #[serde(flatten)]
    pub run: RunConfig,
}

impl ClassTraining {
    /// Refuses other files than the run began with.
    pub fn check_same(&self, folder: &Path) -> Result<()> {
        [&self.data, &self.validation, &self.test]
            .into_iter()
            .try_for_each(|files| files.check_same(folder))
    }

    /// How other files are read that are like those that were trained with.
    pub fn reading(&self) -> Reading {
        match self.format {
            Some(format) => self.reading.settled(format, &self.columns),
            None => self.reading.clone(),
        }
    }
}

/// What is learned, what the best weights are chosen by, and what is measured by.
pub struct Parts {
    pub training: Examples,
    pub validation: Option<Examples>,
    pub test: Option<Examples>,
    /// The form of the files to train on, and the names of their columns.
    pub format: Format,
    pub columns: Vec<String>,
}

impl Parts {
    pub fn read(training: &ClassTraining) -> Result<Self> {
        let Files { files, labels, .. } = &training.data;
        let found = training.reading.read_all(files, labels, true)?;
        let reading = training.reading.settled(found.format, &found.columns);
        let read = |files: &Files| reading.read_all(&files.files, &files.labels, true);
        let hold_out = |all: Examples, share: f32, seed: u64| -> Result<_> {
            if share == 0.0 {
                return Ok((all, None));
            }
            let (rest, held) = all
                .split(share, seed)
                .map_err(|e| Error::format(training.data.first(), e.to_string()))?;
            Ok((rest, Some(held)))
        };
        let (rest, test) = match (training.test.is_empty(), found.test) {
            (false, _) => (found.examples, Some(read(&training.test)?.examples)),
            (true, Some(test)) if training.test_share == 0.0 => (found.examples, Some(test)),
            (true, _) => hold_out(found.examples, training.test_share, training.split_seed)?,
        };
        let (rest, validation) = match training.validation.is_empty() {
            false => (rest, Some(read(&training.validation)?.examples)),
            // Another seed than the test's, so that the two are drawn apart.
            true => hold_out(rest, training.hold_out, training.split_seed.wrapping_add(1))?,
        };
        Ok(Parts { training: rest, validation, test, format: found.format, columns: found.columns })
    }
}
