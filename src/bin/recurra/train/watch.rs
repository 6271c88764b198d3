//! Where else a run is told: TensorBoard's files, the terminal's dashboard, the microscope's record.

use recurra::format::tensorboard::EventFile;
use recurra::train::{Event, MemberLosses, View};
use recurra::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The microscope's record in the model folder: a JSON line a look.
pub const LOOKS: &str = "microscope.jsonl";

/// TensorBoard's files of a run.
pub struct Board(EventFile);

impl Board {
    /// In the model's folder; of a run that goes on behind so many steps.
    pub fn open(folder: &Path, step: u64, resumes: bool) -> Result<Self> {
        Ok(Board(match resumes {
            false => EventFile::create(folder)?,
            true => EventFile::resume(folder, step)?,
        }))
    }

    pub fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Losses(progress, losses) => {
                let first = progress.step + 1 - losses.len() as u64;
                for (losses, step) in losses.iter().zip(first..) {
                    self.losses(step, "loss/training", losses)?;
                }
                let mut more = vec![
                    ("learning_rate", progress.learning_rate),
                    ("speed/symbols_per_second", progress.symbols_per_second as f32),
                ];
                more.extend(progress.gradient_norm.map(|norm| ("gradient_norm", norm)));
                self.0.scalars(progress.step, &more)?;
                self.0.flush()
            }
            Event::Validation(progress, losses) => {
                self.losses(progress.step, "loss/validation", losses)?;
                self.0.flush()
            }
            Event::Look(view) => {
                for layer in &view.layers {
                    if let Some(kept) = layer.gradients.kept {
                        let tag = format!("microscope/{}/gradient_kept_a_step", layer.name);
                        self.0.scalar(view.step, &tag, kept)?;
                    }
                    for gate in &layer.gates {
                        let tag = format!("microscope/{}/{}_at_its_ends", layer.name, gate.name);
                        self.0.scalar(view.step, &tag, gate.low + gate.high)?;
                    }
                }
                for update in &view.updates {
                    let tag = format!("updates/{}", update.parameter);
                    self.0.scalar(view.step, &tag, update.ratio)?;
                }
                self.0.flush()
            }
            _ => Ok(()),
        }
    }

    fn losses(&mut self, step: u64, tag: &str, losses: &MemberLosses) -> Result<()> {
        self.0.scalar(step, tag, losses.mean())?;
        match losses.spread() {
            Some(spread) => self.0.scalar(step, &format!("{tag}_spread"), spread),
            None => Ok(()),
        }
    }

    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
        self.0.text(step, tag, &lines.join("\n"))?;
        self.0.flush()
    }
}

/// The microscope's record of a run.
pub struct Looks {
    path: PathBuf,
    file: BufWriter<File>,
    pub views: Vec<View>,
}

impl Looks {
    /// The looks of a folder at steps up to `step`.
    pub fn read(folder: &Path, step: u64) -> Vec<View> {
        let old = std::fs::read(folder.join(LOOKS)).unwrap_or_default();
        let lines = old.split(|&b| b == b'\n');
        let views = lines.filter_map(|l| serde_json::from_slice::<View>(l).ok());
        views.filter(|view| view.step <= step).collect()
    }

    /// Opens the record of a folder and keeps what is of steps up to `step`.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(LOOKS);
        let views = Self::read(folder, step);
        let mut text = String::new();
        for view in &views {
            text += &crate::args::json_line(view)?;
            text.push('\n');
        }
        recurra::format::write_atomic(&path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = BufWriter::new(file.map_err(|e| Error::io(&path, "write", e))?);
        Ok(Looks { path, file, views })
    }

    pub fn add(&mut self, view: &View) -> Result<()> {
        let line = crate::args::json_line(view)?;
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        written.map_err(|e| Error::io(&self.path, "write", e))?;
        self.views.push(view.clone());
        Ok(())
    }
}
