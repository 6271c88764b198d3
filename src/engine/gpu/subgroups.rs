//! Which tiles of cooperative matrices a device takes, and how many threads its subgroups have, where an adapter leaves
//! that open (AMD's 32 or 64, a range on Metal).

use super::context::Context;
use super::device::COOPERATIVE;
use super::sequences::REFUSED;
use super::tuning::key;
use super::{DeviceInfo, GpuEngine, lock};
use crate::kernel::COOPERATIVE_TILES;
use crate::recording::Recording;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Threads of a subgroup, and the tiles that multiply rightly with so many.
type Counted = (usize, Vec<usize>);

/// What was counted of an adapter and driver: for the life of the process.
static KNOWN: Mutex<BTreeMap<[String; 2], Counted>> = Mutex::new(BTreeMap::new());

/// The size that an adapter's subgroups all have.
fn only_size(info: &DeviceInfo) -> Option<usize> {
    let [smallest, largest] = info.subgroup_sizes;
    (smallest == largest).then_some(smallest as usize)
}

impl Context {
    /// Threads of the subgroups that multiply matrices together: 0 where that is not known.
    pub fn lanes(&self) -> usize {
        let counted = || lock(&KNOWN).get(&key(&self.info)).map_or(0, |counted| counted.0);
        self.lanes.or_else(|| only_size(&self.info)).unwrap_or_else(counted)
    }

    /// Which of [`COOPERATIVE_TILES`] the device takes: none where the size of its subgroups is not known, as threads and loads
    /// are counted in them. They are of one size of matrices, the largest, so that all give the same bits.
    pub fn offered(&self) -> Vec<usize> {
        let lanes = self.lanes();
        if !self.device.features().contains(COOPERATIVE) || lanes == 0 {
            return Vec::new();
        }
        if self.lanes.is_none() && only_size(&self.info).is_none() {
            return lock(&KNOWN).get(&key(&self.info)).map_or(Vec::new(), |known| known.1.clone());
        }
        let limits = &self.limits;
        let threads =
            limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let bytes = limits.max_compute_workgroup_storage_size as usize;
        let of_size = |size: u32| {
            let tiles = COOPERATIVE_TILES.iter().enumerate().filter(|(_, tile)| {
                tile.matrix == size as usize
                    && tile.fits(lanes, threads as usize, bytes)
                    && !(tile.vectors && self.info.backend == "Metal")
            });
            tiles.map(|(i, _)| i).collect::<Vec<_>>()
        };
        let sizes = self.info.cooperative_matrices.iter().rev();
        sizes.map(|&size| of_size(size)).find(|tiles| !tiles.is_empty()).unwrap_or_default()
    }
}

impl GpuEngine {
    /// Before a recording is launched: only products of f16 go in matrices.
    pub(super) fn count_subgroups_for(&self, recording: &Recording) {
        if recording.find_half().is_some() {
            self.count_subgroups();
        }
    }

    /// Counts the threads of subgroups that multiply matrices, where the adapter leaves that open and this process has not done
    /// it; not in a host's device.
    fn count_subgroups(&self) {
        let context = &self.context;
        let open = context.lanes.is_none()
            && only_size(&context.info).is_none()
            && context.device.features().contains(COOPERATIVE)
            && !context.info.cooperative_matrices.is_empty()
            && context.scratch.is_some();
        if !open || lock(&KNOWN).contains_key(&key(&context.info)) {
            return;
        }
        let [smallest, largest] = context.info.subgroup_sizes.map(|size| size as usize);
        let counted = self.find_lanes(smallest, largest);
        lock(&KNOWN).insert(key(&context.info), counted);
    }

    /// The size of subgroups, a power of two from `smallest` on, with which products come out right, and the tiles with which
    /// they do: 0 where there is none. Where subgroups are larger than a kernel was told, there are too few for all blocks of
    /// the product; where they are smaller, they bring only a part of each matrix out. A size with which a driver ended the
    /// process before is not tried again ([`Tuning::trying`](super::Tuning::trying)).
    #[doc(hidden)]
    pub fn find_lanes(&self, smallest: usize, largest: usize) -> Counted {
        let sizes = std::iter::successors(Some(smallest.max(1)), |size| Some(size * 2));
        for size in sizes.take_while(|&size| size <= largest) {
            let trial = format!("subgroups of {size}");
            if self.known(&trial).is_some_and(|ms| ms[1] >= REFUSED) {
                continue;
            }
            self.note_trial(&trial, true);
            let engine = self.with_lanes(size);
            let right = |tile: &usize| engine.multiplies(*tile).unwrap_or(false);
            let mut tiles = engine.context.offered();
            // The one that compiles fastest first: with a wrong size none is right.
            tiles.sort_by_key(|&tile| COOPERATIVE_TILES[tile].rows);
            let found = tiles.first().is_some_and(right);
            tiles.retain(|tile| found && right(tile));
            self.note_trial(&trial, false);
            if found {
                tiles.sort();
                return (size, tiles);
            }
        }
        (0, Vec::new())
    }

    /// The same device with so many threads in the subgroups that multiply matrices: for trials, tests and measurements.
    #[doc(hidden)]
    pub fn with_lanes(&self, lanes: usize) -> Self {
        self.copy(|context| context.lanes = Some(lanes))
    }

    /// Threads of the subgroups that multiply matrices, counted if need be: 0 where that is not known.
    #[doc(hidden)]
    pub fn lanes(&self) -> usize {
        self.count_subgroups();
        self.context.lanes()
    }

    /// Which of [`COOPERATIVE_TILES`] the device takes.
    #[doc(hidden)]
    pub fn cooperative_tiles(&self) -> Vec<usize> {
        self.count_subgroups();
        self.context.offered()
    }
}
