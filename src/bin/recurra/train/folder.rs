//! The folder of a run: made, or taken up again, by one run at a time.

use recurra::task::{Description, TaskModel, holds_members, is_ensemble};
use recurra::train::{CONFIG, Checkpoint, MODEL, TRAINING};
use recurra::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Held open and locked while a run trains in a folder; the system lets go of it however the run ends.
const LOCK: &str = ".lock";

/// A folder that is this process's alone as long as this is kept.
pub struct RunFolder {
    pub path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes the folder of a new run. One that already holds a model is never overwritten.
    pub fn create(wanted: Option<&Path>) -> Result<Self> {
        let Some(folder) = wanted else {
            // The one that makes the folder has it: two runs that start together get two.
            let mut n = 1u64;
            loop {
                let name = if n == 1 { String::new() } else { format!("-{n}") };
                let folder = PathBuf::from(format!("recurra-model{name}"));
                match std::fs::create_dir(&folder) {
                    Ok(()) => return Self::take(&folder),
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => n += 1,
                    Err(e) => return Err(Error::io(folder, "create", e)),
                }
            }
        };
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        let has = |name: &str| folder.join(name).exists();
        // A run that was killed before its first checkpoint was whole leaves its lock and no config.
        let killed = has(LOCK) && !has(CONFIG);
        let holds = || has(MODEL) || has(TRAINING) || holds_members(folder);
        if has(CONFIG) || (!killed && holds()) {
            let reason =
                "this folder already holds a model: go on with --resume, or name another --out";
            return Err(Error::format(folder, reason));
        }
        Self::take(folder)
    }

    /// Takes a folder for this process alone.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let file = File::create(&path).map_err(|e| Error::io(&path, "write", e))?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::format(folder, "another run is training in this folder"))
            }
            // Some network file systems have no locks.
            _ => Ok(RunFolder { path: folder.to_path_buf(), _lock: file }),
        }
    }

    /// Whether there is something to go on from.
    pub fn check_resumable(&self) -> Result<()> {
        if self.path.join(TRAINING).exists() {
            return Ok(());
        }
        // The whole name, also of `.`.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let hint = match path.parent() {
            Some(all) if is_ensemble(all) => {
                "; one model of an ensemble goes on with the others: name the folder that they lie in"
            }
            _ => "",
        };
        Err(Error::format(&self.path, format!("there is no {TRAINING} to go on from{hint}")))
    }
}

/// A run to be taken up again: its folder, taken, and its last checkpoint.
pub type Resumed = (RunFolder, Checkpoint);

/// The model in a folder, and how it is trained.
///
/// # Errors
/// The folder holds no model, another task's, or another version's.
pub fn trained<M: TaskModel, C: DeserializeOwned>(folder: &Path) -> Result<(M, C)> {
    let (model, training) = M::load_config(folder)?;
    let training = serde_json::from_value(training)
        .map_err(|e| Error::format(folder.join(CONFIG), e.to_string()))?;
    Ok((model, training))
}

/// Takes up the run in a folder. `check` refuses data that are not those the run began with.
///
/// # Errors
/// What `check` says; no run of this task is there, or another process has it.
pub fn take_up<M: TaskModel, C: DeserializeOwned>(
    folder: &Path,
    check: impl FnOnce(&M, &mut C) -> Result<()>,
) -> Result<(M, C, Resumed)> {
    // Before a lock is left in a folder that is no run's.
    let task = Description::read(folder)?.task;
    if task != M::TASK {
        let own = folder.display();
        let reason = format!(
            "a model of task '{task}', not of '{}': go on with recurra train {task} --resume {own}",
            M::TASK
        );
        return Err(Error::format(folder, reason));
    }
    trained::<M, C>(folder)?;
    let held = RunFolder::take(folder)?;
    let (model, mut training) = trained(folder)?;
    check(&model, &mut training).map_err(|e| from_config(folder, e))?;
    held.check_resumable()?;
    let checkpoint = Checkpoint::load(folder)?;
    Ok((model, training, (held, checkpoint)))
}

/// A file of data as `config.json` keeps it: found from wherever the run is taken up.
///
/// # Errors
/// A name that is no UTF-8, which JSON can't hold.
pub fn kept(file: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(file).map_err(|e| Error::io(file, "find", e))?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => {
            let reason = format!("a path that is no UTF-8 can't be kept in {CONFIG}: rename it");
            Err(Error::format(path, reason))
        }
    }
}

/// The same of several.
pub fn kept_all(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    files.iter().map(|file| kept(file)).collect()
}

/// Says of a file that can't be read that nobody but the run's description named it, if so.
pub fn from_config(folder: &Path, error: Error) -> Error {
    fn names(value: &Value, path: &Path) -> bool {
        match value {
            Value::String(name) => !name.is_empty() && path.starts_with(name),
            Value::Array(list) => list.iter().any(|value| names(value, path)),
            Value::Object(map) => map.values().any(|value| names(value, path)),
            _ => false,
        }
    }
    match error {
        Error::Io { path, action: "read", source }
            if Description::read(folder).is_ok_and(|own| names(&own.training, &path)) =>
        {
            let config = folder.join(CONFIG);
            let reason = format!(
                "read failed: {source}; the run's {} says that its data lie there: --data tells where they are now \
                 (--labels, --validation, --test likewise)",
                config.display()
            );
            Error::format(path, reason)
        }
        other => other,
    }
}

/// Refuses a file that is not the one a run began with.
pub fn check_same(folder: &Path, file: &Path, hash: &str) -> Result<()> {
    if file_hash(file)? == hash {
        return Ok(());
    }
    let file = file.display();
    Err(Error::format(folder, format!("{file} is not the file that the run began with")))
}

/// Refuses a pipe for data to train on: it can be read once only, and a run that is taken up again reads its data again.
pub fn refuse_pipe(path: &Path) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?;
    if kind.is_file() || kind.is_dir() {
        return Ok(());
    }
    let reason =
        "a pipe can be read once only, and a run's data are read again: write them to a file";
    Err(Error::format(path, reason))
}

/// The [`file_hash`] of data to train on.
pub fn hash_to_keep(path: &Path) -> Result<String> {
    refuse_pipe(path)?;
    file_hash(path)
}

/// The [`data_hash`] of a file; of a folder, that of the names and hashes of what is in it.
pub fn file_hash(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return Ok(data_hash(&std::fs::read(path).map_err(|e| Error::io(path, "read", e))?));
    }
    let bad = |e| Error::io(path, "read", e);
    let list = std::fs::read_dir(path).map_err(bad)?;
    let names = list.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
    let mut names = names.map_err(bad)?;
    names.sort();
    let each = |name: std::ffi::OsString| -> Result<String> {
        Ok(format!("{} {}\n", name.to_string_lossy(), file_hash(&path.join(&name))?))
    };
    let lines = names.into_iter().map(each).collect::<Result<String>>()?;
    Ok(data_hash(lines.as_bytes()))
}

/// FNV-1a over bytes, in hexadecimal: so that other data than a run began with are noticed.
pub fn data_hash(bytes: &[u8]) -> String {
    let step = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}
