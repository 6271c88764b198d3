//! What was measured of a device: handed out, handed back, kept in a file that the host names.

use super::grid::{known_resident, set_known_resident};
use super::rates::{Rates, set_known};
use super::sequences::{REFUSED, Times, known_times, set_known_times};
use super::{DeviceInfo, GpuEngine};
use crate::error::{Error, Result};
use crate::format::write_atomic;
use crate::kernel::{COOPERATIVE_TILES, TILES, TileRate, shader};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An adapter's name and its driver.
pub(super) fn key(info: &DeviceInfo) -> [String; 2] {
    [info.name.clone(), info.driver.clone()]
}

/// What was measured on a device: how fast it multiplies with each tile, and how fast the strategies of
/// recurrences are. Only speed depends on it, but for the last bits of recurrences, whose sums may have another
/// order in each strategy, and of products of f16, if matrices of a subgroup multiply them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The adapter's name.
    pub device: String,
    /// Its driver and the driver's version.
    pub driver: String,
    /// Rates by the names of the tiles: all of [`TILES`], and those of [`COOPERATIVE_TILES`] that the
    /// device takes.
    pub tiles: BTreeMap<String, TileRate>,
    /// The names of those whose rates were measured. The others are estimates, and are measured where there is time.
    #[serde(default)]
    pub measured: BTreeSet<String>,
    /// Milliseconds of some steps, each launched and in one launch, by kernel and shape.
    #[serde(default)]
    pub strategies: Times,
    /// Workgroups that the device keeps at work side by side; none where that was not found out.
    #[serde(default)]
    pub resident: Option<usize>,
    /// Kernels whose trial has begun and has not ended. Where a process finds one in its file, the one before did not
    /// survive it: the kernel counts as refused.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trying: BTreeSet<String>,
}

impl GpuEngine {
    /// What this device was measured to do, or is assumed to.
    pub fn tuning(&self) -> Tuning {
        let info = &self.context.info;
        let rates = self.rates();
        let threads = TILES.iter().map(|tile| tile.name).zip(rates.tiles).zip(rates.measured);
        let offered = self.context.offered().into_iter();
        let matrices = offered.map(|i| {
            ((COOPERATIVE_TILES[i].name, rates.cooperative[i]), rates.measured_cooperative[i])
        });
        let (mut tiles, mut measured) = (BTreeMap::new(), BTreeSet::new());
        for ((name, rate), is_measured) in threads.chain(matrices) {
            tiles.insert(name.to_string(), rate);
            if is_measured {
                measured.insert(name.to_string());
            }
        }
        let [device, driver] = key(info);
        let (strategies, resident) = (known_times(info), known_resident(info));
        let trying = BTreeSet::new();
        Tuning { device, driver, tiles, measured, strategies, resident, trying }
    }

    /// Uses what was measured before, in the place of all that is known. Rates of cooperative matrices may be missing: they are estimated. Which were measured [`Tuning::measured`] says.
    ///
    /// # Errors
    /// It is of another device or driver, lacks another tile, or has rates or times that are none.
    pub fn set_tuning(&self, tuning: &Tuning) -> Result<()> {
        let info = &self.context.info;
        if [&tuning.device, &tuning.driver] != [&info.name, &info.driver] {
            return Err(Error::invalid(format!(
                "the tuning is of '{}' ({}), the device is '{}' ({})",
                tuning.device, tuning.driver, info.name, info.driver
            )));
        }
        let find = |name: &str| {
            let found = tuning.tiles.get(name).copied();
            let found = found.filter(|r| r.many.is_normal() && r.one.is_normal());
            found
                .filter(|r| r.many > 0.0 && r.one > 0.0)
                .ok_or_else(|| Error::invalid(format!("the tuning has no rates of tile '{name}'")))
        };
        let first = find(TILES[0].name)?;
        let mut rates = Rates::assumed(info.software).scaled(info.software, first);
        for (i, tile) in TILES.iter().enumerate() {
            rates.tiles[i] = find(tile.name)?;
            rates.measured[i] = tuning.measured.contains(tile.name);
        }
        for i in self.context.offered() {
            let name = COOPERATIVE_TILES[i].name;
            if tuning.tiles.contains_key(name) {
                rates.cooperative[i] = find(name)?;
                rates.measured_cooperative[i] = tuning.measured.contains(name);
            }
        }
        check_times(&tuning.strategies)?;
        set_known(info, rates);
        set_known_times(info, tuning.strategies.clone());
        set_known_resident(info, tuning.resident);
        Ok(())
    }

    /// The same device, for which a folder of the host's keeps what is measured from process to process: what
    /// it holds for this adapter and driver is used, what will be measured is written there. A folder that
    /// cannot be read or written is no error: the device is measured anew.
    pub fn cached_in(&self, folder: &Path) -> Self {
        let info = &self.context.info;
        let name = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        // Two adapters whose names come out alike: the file says whose it is.
        // A kernel that was changed has to be measured, and to prove itself, anew.
        let (version, shaders) = (env!("CARGO_PKG_VERSION"), shader::digest());
        let file = format!("{} {} {version} {shaders:016x}.json", info.name, info.driver);
        let file: String = file.chars().map(|c| if c == '.' { c } else { name(c) }).collect();
        let engine = self.copy(|context| context.cache = Some(folder.join(file)));
        engine.use_kept();
        engine
    }

    /// What the file holds of this device, as far as it makes sense.
    fn kept(&self) -> Option<Tuning> {
        let text = std::fs::read(self.context.cache.as_ref()?).ok()?;
        let kept: Tuning = serde_json::from_slice(&text).ok()?;
        let info = &self.context.info;
        let same = [&kept.device, &kept.driver] == [&info.name, &info.driver];
        (same && check_times(&kept.strategies).is_ok()).then_some(kept)
    }

    fn use_kept(&self) -> Option<()> {
        let kept = self.kept()?;
        let info = &self.context.info;
        // What this process has measured by itself stays.
        let resident = known_resident(info).or(kept.resident);
        let mut times = kept.strategies.clone();
        times.extend(kept.trying.iter().map(|kernel| (kernel.clone(), [0.0, REFUSED])));
        times.extend(known_times(info));
        if self.known_rates().is_none() && !kept.tiles.is_empty() {
            self.set_tuning(&kept).ok()?;
        }
        set_known_times(info, times);
        set_known_resident(info, resident);
        Some(())
    }

    /// Writes what is known of this device where the host wants it kept, with what other processes wrote there.
    pub(super) fn keep_measured(&self) {
        let Some(file) = &self.context.cache else { return };
        let mut tuning = self.tuning();
        let kept = self.kept();
        if self.known_rates().is_none() {
            tuning.tiles = kept.as_ref().map(|kept| kept.tiles.clone()).unwrap_or_default();
        }
        // What another process measured counts more than an estimate.
        for name in kept.iter().flat_map(|kept| &kept.measured) {
            let rate = kept.as_ref().and_then(|kept| kept.tiles.get(name));
            if let Some(&rate) = rate.filter(|_| !tuning.measured.contains(name)) {
                tuning.tiles.insert(name.clone(), rate);
                tuning.measured.insert(name.clone());
            }
        }
        let measured = std::mem::take(&mut tuning.strategies);
        tuning.trying = kept.as_ref().map(|kept| kept.trying.clone()).unwrap_or_default();
        let kept = kept.map(|kept| kept.strategies).unwrap_or_default();
        tuning.strategies = kept.into_iter().chain(measured).collect();
        tuning.strategies.retain(|_, ms| ms[1] < REFUSED);
        // On a driver that computes on the CPU it depends on cores, and on who else uses them.
        // One is no grid, or one that could not be found: that is looked for again.
        tuning.resident = tuning.resident.filter(|&n| n > 1 && !self.context.info.software);
        write(file, &tuning);
    }

    /// Notes in the file that a trial begins, or that it has ended, however: a driver may end the process in between.
    pub(super) fn note_trial(&self, kernel: &str, begins: bool) {
        let Some(file) = &self.context.cache else { return };
        let empty = || Tuning { tiles: BTreeMap::new(), ..self.tuning() };
        let mut tuning = self.kept().unwrap_or_else(empty);
        let changed = match begins {
            true => tuning.trying.insert(kernel.to_string()),
            false => tuning.trying.remove(kernel),
        };
        if changed {
            tuning.strategies.retain(|_, ms| ms[1] < REFUSED);
            write(file, &tuning);
        }
    }
}

/// A file that can't be written is no error: the device is measured anew.
fn write(file: &Path, tuning: &Tuning) {
    let Ok(text) = serde_json::to_string_pretty(tuning) else { return };
    if let Some(folder) = file.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    let _ = write_atomic(file, (text + "\n").as_bytes());
}

fn check_times(times: &Times) -> Result<()> {
    match times.iter().find(|(_, ms)| ms.iter().any(|ms| ms.is_nan() || *ms < 0.0)) {
        Some((kernel, ms)) => Err(Error::invalid(format!("times {ms:?} of '{kernel}' are none"))),
        None => Ok(()),
    }
}
