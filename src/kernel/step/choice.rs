//! Which cut a layer gets on a device.

use super::cut::{GroupLimits, MOST_EACH, Matrices, Pass, SequenceCut};
use super::{StepKind, StepParams};

/// Words beside its weights that a thread of a workgroup of [`MANY_THREADS`] may keep in registers.
const BESIDE: usize = 56;

/// Threads that share what registers there are; of half as many each has twice as many, but no more.
const MANY_THREADS: usize = 512;

/// Columns of a subgroup, at most: a matrix of f32 each.
const MOST_COLUMNS: usize = 4;

/// Of a product of matrices until its sum can be used, of a slice's share of a unit's sum, and of a cell.
const CLOCKS_OF_MATRICES: usize = 33;
const CLOCKS_OF_SUM: usize = 4;
const CLOCKS_OF_CELL: usize = 190;

/// Bytes that a multiprocessor, and all of them together, read in a clock from the second-level cache.
const BYTES_A_CLOCK: usize = 64;
const BYTES_A_CLOCK_OF_ALL: usize = 3500;

/// Units that a workgroup should have at least, of several heads where one is smaller.
const FEW_UNITS: usize = 64;

/// What sizes are rounded up to.
const STEP: usize = 16;

impl SequenceCut {
    /// A cut within the limits for a step of so many `products`: none where the units of a head are more
    /// than the threads of a workgroup.
    pub(super) fn choose(
        params: &StepParams,
        kind: &StepKind,
        products: usize,
        pass: Pass,
        limits: &GroupLimits,
    ) -> Option<Self> {
        if limits.matrix > 0 {
            let units = params.head.next_multiple_of(limits.matrix as u32) as usize;
            let cuts = Self::of_matrices(params, kind, products, pass, limits, units, false);
            return cuts.min_by_key(|cut| cut.clocks(params, products, pass));
        }
        let [head, batch] = [params.head as usize, params.batch as usize];
        let heads = (FEW_UNITS / head).clamp(1, params.heads());
        let units = (head * heads).next_multiple_of(STEP);
        // Of a dense layer; a head's own terms where there are several.
        let terms = if heads == 1 { units } else { head };
        // What is read of the tile should serve four multiply-adds: forward that is one word for all gates,
        // backward a word a gate.
        let most_span = match pass {
            _ if heads > 1 => 1,
            Pass::Forward => (4 / products).max(1),
            Pass::Backward => 4,
        };
        let with = |threads: usize, span: usize, rows| {
            let slices = threads * span;
            let places = terms.div_ceil(slices).next_multiple_of(4);
            let pinned = places.min(limits.registers / (products * span) / 4 * 4);
            SequenceCut {
                heads,
                units,
                slices,
                span,
                places,
                rows,
                pinned,
                tiles: 1,
                turns: 1,
                matrices: None,
            }
        };
        let fits = |cut: &SequenceCut| {
            cut.threads() <= limits.threads
                && cut.slices <= limits.slices
                && (!limits.spills || cut.is_kept(kind, products, pass, limits))
                && cut.workgroup_bytes(products, kind.masks, pass) <= limits.bytes
        };
        // Threads a unit, and units a thread.
        let ways = [8, 4, 2, 1].into_iter().flat_map(|n| [4, 2, 1].map(|span| [n, span]));
        let mut ways = ways.filter(|&[n, span]| {
            let whole = terms.is_multiple_of(4 * n * span);
            n <= (terms / 8).max(1) && span <= most_span && (span == 1 || whole)
        });
        let [threads, span] = ways.find(|&[n, span]| fits(&with(n, span, 1)))?;
        // More rows a workgroup only where there are enough workgroups without them.
        let groups = params.heads().div_ceil(heads);
        let wanted = (batch * groups).div_ceil(limits.groups).min(batch);
        let rows = [8, 4, 2].into_iter().filter(|&rows| rows <= threads && rows < 2 * wanted);
        let one = with(threads, span, 1);
        Some(rows.map(|rows| with(threads, span, rows)).find(fits).unwrap_or(one))
    }

    /// Threads that share what registers there are.
    fn sharing(&self) -> usize {
        self.threads().clamp(MANY_THREADS / 2, MANY_THREADS)
    }

    /// Whether registers hold all that a thread keeps from step to step, and its sums.
    fn is_kept(&self, kind: &StepKind, products: usize, pass: Pass, limits: &GroupLimits) -> bool {
        let most = (limits.registers + BESIDE) * MANY_THREADS;
        self.words(kind, products, pass) * self.sharing() <= most
    }

    /// The cuts of so many units into matrices, one head a workgroup, with all weights in registers; backward, on
    /// request, with one gate after another in workgroup memory.
    fn of_matrices<'a>(
        params: &'a StepParams,
        kind: &'a StepKind,
        products: usize,
        pass: Pass,
        limits: &'a GroupLimits,
        units: usize,
        by_gate: bool,
    ) -> impl Iterator<Item = Self> + use<'a> {
        let (size, lanes, head) = (limits.matrix, limits.lanes.max(1), params.head as usize);
        let (columns, terms) = (products * units / size, head.div_ceil(size));
        let with = move |slices: usize, each: usize, apart: usize| SequenceCut {
            heads: 1,
            units,
            slices,
            span: 1,
            places: terms.div_ceil(slices) * size,
            rows: size,
            pinned: terms.div_ceil(slices) * size,
            tiles: head.div_ceil(units),
            turns: 1,
            matrices: Some(Matrices {
                size,
                lanes,
                columns: each,
                subgroups: columns / each * slices,
                apart,
                by_gate,
            }),
        };
        let fits = move |cut: &SequenceCut| {
            cut.threads() <= limits.threads
                && cut.each() <= MOST_EACH
                && cut.keeps(products) * cut.sharing() <= limits.registers * MANY_THREADS
                && cut.is_kept(kind, products, pass, limits)
                && cut.workgroup_bytes(products, kind.masks, pass) <= limits.bytes
        };
        let ways =
            [1, 2, 4, 8].into_iter().flat_map(|n| (1..=MOST_COLUMNS).map(move |each| (n, each)));
        let ways = ways.filter(move |&(n, each)| {
            let whole = if by_gate { each == products } else { columns.is_multiple_of(each) };
            n <= terms && whole
        });
        // Rows of sums begin in other banks of the memory, where there is room for it.
        ways.filter_map(move |(n, each)| {
            [8, 0].map(|apart| with(n, each, apart)).into_iter().find(fits)
        })
    }

    /// About how many clocks a step takes that is cut into matrices, from what was published of a large card: to compare
    /// cuts with, not to tell a time.
    fn clocks(&self, params: &StepParams, products: usize, pass: Pass) -> usize {
        let Some(matrices) = &self.matrices else { return 0 };
        // Matrices that are multiplied one after another into a sum; sums beside it fill the time until it is there.
        let chain = self.places / matrices.size;
        let multiplied = match matrices.by_gate {
            true => products * chain * CLOCKS_OF_MATRICES,
            false => chain * CLOCKS_OF_MATRICES.max(CLOCKS_OF_MATRICES / 2 * matrices.columns),
        };
        let added = self.slices * products * self.each() * CLOCKS_OF_SUM;
        // Four schedulers, each for the threads of a subgroup at a time.
        let settled = (self.rows * self.units).div_ceil(4 * matrices.lanes) * CLOCKS_OF_CELL;
        let gates = if pass == Pass::Forward { 1 } else { products };
        let handed = gates * self.rows * params.head as usize * 2;
        let groups = self.workgroups(params.batch as usize);
        let read = match self.tiles {
            1 => 0,
            _ => (handed / BYTES_A_CLOCK).max(groups * handed / BYTES_A_CLOCK_OF_ALL),
        };
        self.turns * (multiplied + added + settled + read)
    }

    /// A cut over as few workgroups as keep all weights in registers, or over as many as the device keeps at
    /// work: none where it keeps fewer than two for all rows, or the layer has heads.
    pub(super) fn choose_grid(
        params: &StepParams,
        kind: &StepKind,
        products: usize,
        pass: Pass,
        limits: &GroupLimits,
    ) -> Option<Self> {
        let [head, batch] = [params.head as usize, params.batch as usize];
        if params.heads() > 1 {
            return None;
        }
        if limits.matrix > 0 {
            let of = |by_gate| {
                let of = move |n| {
                    let units = n * limits.matrix;
                    Self::of_matrices(params, kind, products, pass, limits, units, by_gate)
                };
                (1..=head.div_ceil(limits.matrix)).rev().flat_map(of)
            };
            // Masks of each gate's own would need a sum for each.
            let by_gate = (pass == Pass::Backward && kind.masks < 2).then(|| of(true));
            let cuts = of(false).chain(by_gate.into_iter().flatten()).filter(|cut| cut.tiles > 1);
            let turns = |cut| [1, 2, 4, 8].map(|turns| SequenceCut { turns, ..cut });
            let kept = |cut: &SequenceCut| cut.workgroups(batch) <= limits.resident;
            // Of equals the first, which has the fewest workgroups.
            return cuts
                .flat_map(turns)
                .filter(kept)
                .min_by_key(|cut| cut.clocks(params, products, pass));
        }
        let terms = head.next_multiple_of(STEP);
        let cut = |tiles: usize, slices: usize, [rows, turns]: [usize; 2]| {
            let units = head.div_ceil(tiles).next_multiple_of(STEP);
            let places = terms.div_ceil(slices).next_multiple_of(4);
            let pinned = places.min(limits.registers / products / 4 * 4);
            let tiles = head.div_ceil(units);
            SequenceCut {
                heads: 1,
                units,
                slices,
                span: 1,
                places,
                rows,
                pinned,
                tiles,
                turns,
                matrices: None,
            }
        };
        let fits = |cut: &SequenceCut| {
            cut.tiles > 1
                && cut.workgroups(batch) <= limits.resident
                && cut.rows <= cut.slices
                && cut.slices <= limits.slices
                && cut.threads() <= limits.threads
                && cut.workgroup_bytes(products, kind.masks, pass) <= limits.bytes
        };
        // The fewest rows and the most slices that fit; of more than one row half in a turn, the others in another.
        let of = |tiles: usize| {
            let rows =
                [[1, 1], [1, 2], [2, 1], [2, 2], [4, 1], [4, 2], [4, 4], [8, 1], [8, 2], [8, 4]];
            let rows = rows.into_iter();
            let mut ways = rows.flat_map(|rows| [32, 16, 8, 4, 2, 1].map(|slices| (slices, rows)));
            ways.find_map(|(slices, rows)| Some(cut(tiles, slices, rows)).filter(fits))
        };
        let cuts: Vec<_> = (2..=limits.resident.min(head.div_ceil(STEP))).filter_map(of).collect();
        let whole = cuts.iter().find(|cut| cut.pinned == cut.places);
        whole.or(cuts.last()).copied()
    }
}
