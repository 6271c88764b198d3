//! All steps of a layer and direction in one launch, for cells whose step is one phase.

use super::{BackwardPhase, ForwardPhase, StepBackward, StepForward, StepKind, StepParams};
use crate::kernel::cell::CellKind;
use crate::kernel::{Binding, Kernel};
use crate::tensor::DType;
use std::fmt;

/// What a device lets a workgroup have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Threads.
    pub threads: usize,
    /// Bytes of workgroup memory.
    pub bytes: usize,
    /// Words of weights that a thread should keep in registers, at most.
    pub registers: usize,
    /// Slices of a product, at most.
    pub slices: usize,
    /// Steps of a launch, at most.
    pub steps: usize,
    /// Rounds of all loops of a launch together, at most, where a driver counts them: then a launch has
    /// fewer steps.
    pub rounds: usize,
    /// Workgroups that the device should be given before one has several rows.
    pub groups: usize,
    /// Workgroups that the device keeps at work side by side, as far as was found out: those of a grid wait for
    /// one another.
    pub resident: usize,
    /// Rounds that a workgroup of a grid waits in a launch, at most.
    pub spins: usize,
    /// Rows and columns of the matrices that subgroups are to multiply together: 0 where threads are to multiply.
    pub matrix: usize,
    /// Threads of a subgroup.
    pub lanes: usize,
}

/// How a sequence kernel is cut; `shaders/shared/sequence.wgsl` has the picture. Sizes are rounded up, so
/// that shapes share pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceCut {
    /// Heads of a workgroup: one, or several where they are small.
    pub heads: usize,
    /// Threads for the units of those heads.
    pub units: usize,
    /// Parts into which the terms of a product go, a thread each.
    pub slices: usize,
    /// Units whose products a thread sums.
    pub span: usize,
    /// Terms of a slice, a multiple of 4.
    pub places: usize,
    /// Batch rows of a workgroup, at most as many as there are threads a unit.
    pub rows: usize,
    /// Terms of a slice whose weights stay in registers, a multiple of 4.
    pub pinned: usize,
    /// Workgroups that share the units of a head: 1, or those of a grid.
    pub tiles: usize,
    /// Groups of rows of which a workgroup of a grid makes a step, one after another.
    pub turns: usize,
    /// The products go in matrices, instead of term by term.
    pub matrices: Option<Matrices>,
}

/// How subgroups multiply matrices together; `shaders/shared/matrices.wgsl` has the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Rows and columns of one: 8 or 16.
    pub size: usize,
    /// Threads of a subgroup.
    pub lanes: usize,
    /// Columns of a subgroup.
    pub columns: usize,
    /// Subgroups of a workgroup.
    pub subgroups: usize,
}

impl Matrices {
    /// Words of a matrix of weights that a thread keeps.
    fn words(&self) -> usize {
        (self.size * self.size).div_ceil(2 * self.lanes)
    }
}

/// Units that a thread settles, at most.
const MOST_EACH: usize = 8;

/// Words beside its weights that a thread of a workgroup of [`MANY_THREADS`] may keep in registers.
const BESIDE: usize = 56;

/// Threads that share what registers there are; of half as many each has twice as many, but no more.
const MANY_THREADS: usize = 512;

/// Columns of a subgroup, at most: a matrix of f32 each.
const MOST_COLUMNS: usize = 4;

/// Who makes the steps of some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Team {
    /// One workgroup.
    Alone,
    /// Several, a tile of the units each, which wait for one another for so many rounds of a launch.
    Grid {
        /// Rounds.
        spins: usize,
    },
    /// One, the steps that a grid has not made.
    Rest,
}

impl Team {
    fn defines(self, cut: &SequenceCut) -> Vec<(&'static str, String)> {
        let mut list = vec![
            ("GRID", String::new()),
            ("TILES", cut.tiles.to_string()),
            ("TURNS", cut.turns.to_string()),
        ];
        list.extend((cut.turns > 1).then(|| ("TAKES_TURNS", String::new())));
        match self {
            Team::Alone => return Vec::new(),
            Team::Grid { spins } => list.push(("SPINS", spins.to_string())),
            Team::Rest => list.push(("REST", String::new())),
        }
        list
    }

    /// What the workgroups of a grid hand over, and how far each has come.
    fn bindings(self, list: &mut Vec<Binding>, handed: &str, cut: &SequenceCut, p: &StepParams) {
        if self == Team::Alone {
            return;
        }
        for binding in list.iter_mut().filter(|binding| binding.name == handed) {
            *binding = binding.shared();
        }
        list.push(Binding::write_u32("progress", cut.progress_words(p)).shared());
        // As a rule there is nothing left to do.
        if self == Team::Rest {
            list.iter_mut().for_each(|binding| binding.moved = 0);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    Backward,
}

/// Units that a workgroup should have at least, of several heads where one is smaller.
const FEW_UNITS: usize = 64;

/// What sizes are rounded up to.
const STEP: usize = 16;

impl SequenceCut {
    /// A cut within the limits for a step of so many `products`: none where the units of a head are more
    /// than the threads of a workgroup.
    fn choose(
        params: &StepParams,
        kind: &StepKind,
        products: usize,
        pass: Pass,
        limits: &GroupLimits,
    ) -> Option<Self> {
        if limits.matrix > 0 {
            let units = params.head.next_multiple_of(limits.matrix as u32) as usize;
            return Self::of_matrices(params, kind, products, pass, limits, units);
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

    /// A cut of so many units into matrices, one head a workgroup, with all weights in registers.
    fn of_matrices(
        params: &StepParams,
        kind: &StepKind,
        products: usize,
        pass: Pass,
        limits: &GroupLimits,
        units: usize,
    ) -> Option<Self> {
        let (size, lanes, head) = (limits.matrix, limits.lanes.max(1), params.head as usize);
        let (columns, terms) = (products * units / size, head.div_ceil(size));
        let with = |slices: usize, each: usize| SequenceCut {
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
            }),
        };
        let sharing = |cut: &SequenceCut| cut.threads().clamp(MANY_THREADS / 2, MANY_THREADS);
        let fits = |cut: &SequenceCut| {
            cut.threads() <= limits.threads
                && cut.each() <= MOST_EACH
                && cut.keeps(products) * sharing(cut) <= limits.registers * MANY_THREADS
                && cut.words(kind, products, pass) * sharing(cut)
                    <= (limits.registers + BESIDE) * MANY_THREADS
                && cut.workgroup_bytes(products, kind.masks, pass) <= limits.bytes
        };
        // As many subgroups as there is room for, and no more slices than that takes.
        let ways =
            [1, 2, 4, 8].into_iter().flat_map(|n| (1..=MOST_COLUMNS).map(move |each| (n, each)));
        let mut ways = ways.filter(|&(n, each)| n <= terms && columns.is_multiple_of(each));
        ways.find_map(|(n, each)| Some(with(n, each)).filter(fits))
    }

    /// A cut over as few workgroups as keep all weights in registers, or over as many as the device keeps at
    /// work: none where it keeps fewer than two for all rows, or the layer has heads.
    fn choose_grid(
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
            let columns = (1..=head.div_ceil(limits.matrix)).rev();
            let of = |n| Self::of_matrices(params, kind, products, pass, limits, n * limits.matrix);
            let cuts = columns.filter_map(of).filter(|cut| cut.tiles > 1);
            let turns = |cut| [1, 2, 4, 8].map(|turns| SequenceCut { turns, ..cut });
            let kept = |cut: &SequenceCut| cut.workgroups(batch) <= limits.resident;
            return cuts.flat_map(turns).find(kept);
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
                // And who has come how far.
                && cut.workgroup_bytes(products, kind.masks, pass) + 4 * cut.tiles + 16 <= limits.bytes
        };
        // The fewest rows and the most slices that fit; of more than one row half in a turn, the others in another.
        let of = |tiles: usize| {
            let rows = [[1, 1], [1, 2], [2, 1], [2, 2], [4, 1], [4, 2], [8, 1], [8, 2], [8, 4]];
            let rows = rows.into_iter();
            let mut ways = rows.flat_map(|rows| [32, 16, 8, 4, 2, 1].map(|slices| (slices, rows)));
            ways.find_map(|(slices, rows)| Some(cut(tiles, slices, rows)).filter(fits))
        };
        let cuts: Vec<_> = (2..=limits.resident.min(head.div_ceil(STEP))).filter_map(of).collect();
        let whole = cuts.iter().find(|cut| cut.pinned == cut.places);
        whole.or(cuts.last()).copied()
    }

    /// Workgroups that make the steps of so many rows.
    fn workgroups(&self, batch: usize) -> usize {
        self.tiles * batch.div_ceil(self.rows * self.turns)
    }

    /// The same with all weights read again at every step.
    fn streamed(&self) -> Self {
        SequenceCut { pinned: 0, ..*self }
    }

    /// Words of `progress`: one a tile of each group of rows.
    pub fn progress_words(&self, params: &StepParams) -> usize {
        self.tiles * (params.batch as usize).div_ceil(self.rows)
    }

    /// Steps that a launch may have within the limits.
    pub fn most_steps(&self, limits: &GroupLimits) -> usize {
        // A step is a round itself, has one for each term that is not in registers, and a few for gates
        // and states. Of a grid, what one workgroup alone would have, and the waiting.
        let terms = |read_again: usize| match &self.matrices {
            None => read_again,
            Some(m) => read_again / m.size * m.columns * (2 + m.size * m.size / m.lanes),
        };
        let own = self.each() * if self.tiles > 1 { 32 } else { 24 };
        let (each, rounds) = match self.tiles {
            1 => (own + terms(self.places - self.pinned), limits.rounds),
            tiles => (
                tiles.max(self.turns) * (own + terms(self.places)),
                limits.rounds.saturating_sub(limits.spins),
            ),
        };
        // What one workgroup alone may have to make up for takes as many times as long.
        (limits.steps / self.tiles).min(rounds / each).max(1)
    }

    /// Threads of a workgroup.
    pub fn threads(&self) -> usize {
        match &self.matrices {
            Some(matrices) => matrices.subgroups * matrices.lanes,
            None => self.units / self.span * self.slices,
        }
    }

    /// Units that a thread settles.
    fn each(&self) -> usize {
        (self.rows * self.units).div_ceil(self.threads())
    }

    /// Words of weights that a thread keeps in registers.
    fn keeps(&self, products: usize) -> usize {
        match &self.matrices {
            Some(matrices) => self.pinned / matrices.size * matrices.columns * matrices.words(),
            None => self.pinned * products * self.span,
        }
    }

    /// The same with its sums, and with what it keeps of each of several units.
    fn words(&self, kind: &StepKind, products: usize, pass: Pass) -> usize {
        let sums = match &self.matrices {
            Some(matrices) => 2 * matrices.columns * matrices.words(),
            None => self.rows * products * self.span,
        };
        let [states, saved] = [kind.cell.states(), kind.cell.saved()];
        let unit = match pass {
            Pass::Forward => states + saved,
            Pass::Backward => 2 * states + saved + 1,
        };
        self.keeps(products) + sums + self.each() * unit
    }

    /// Bytes of workgroup memory.
    fn workgroup_bytes(&self, products: usize, masks: usize, pass: Pass) -> usize {
        if let Some(matrices) = &self.matrices {
            let planes = if pass == Pass::Forward { masks.max(1) } else { products };
            let tile = planes * self.rows * (self.slices * self.places + 8);
            // Weights on their way into matrices; behind the tile where that goes on.
            let stage = matrices.subgroups * matrices.size * matrices.size;
            let room =
                if self.pinned > 0 && self.tiles == 1 { tile.max(stage) } else { tile + stage };
            return 2 * room + 4 * self.slices * products * self.rows * self.units;
        }
        let sum = if products == 3 { 16 } else { 4 * products };
        let line = self.heads * self.slices * self.places;
        // The tile holds h under each mask, or the gate gradients side by side.
        let (tile, part) = match pass {
            Pass::Forward => (4 * masks.max(1), sum),
            Pass::Backward => (sum, if masks > 0 { sum } else { 4 }),
        };
        self.rows * (line * tile + self.slices * self.units * part)
    }

    /// Weights that a thread reads again at every step.
    pub fn reread(&self, products: usize) -> usize {
        let each = match &self.matrices {
            Some(matrices) => (matrices.columns * matrices.size).div_ceil(matrices.lanes),
            None => products * self.span,
        };
        (self.places - self.pinned) * each
    }

    /// The cut in words.
    fn describe(&self, f: &mut fmt::Formatter<'_>, products: usize) -> fmt::Result {
        let SequenceCut { units, rows, pinned, span, tiles, turns, .. } = self;
        if *tiles > 1 {
            write!(f, "{tiles} tiles of the units, ")?;
        }
        if *turns > 1 {
            write!(f, "{turns} groups of rows in turn, ")?;
        }
        let (threads, reread) = (self.threads(), self.reread(products));
        write!(f, "workgroups of {rows} rows, {units} units and {threads} threads, ")?;
        match &self.matrices {
            Some(Matrices { size, subgroups, columns, .. }) => write!(
                f,
                "{subgroups} subgroups that multiply matrices of {size}x{size}, each with {} of the weights in registers",
                columns * pinned / size
            ),
            None => write!(
                f,
                "each with {} weights in registers and {reread} read again a step",
                pinned * products * span
            ),
        }
    }

    fn check(&self, params: &StepParams, pass: Pass) -> Result<(), &'static str> {
        params.check_steps(pass == Pass::Backward)?;
        let head = params.head as usize;
        let sizes = [self.heads, self.units, self.slices, self.span, self.places, self.rows];
        super::all_positive(&sizes.map(|x| x as u32))?;
        if self.turns == 0 || self.turns > 1 && self.tiles < 2 {
            return Err("only workgroups of a grid take turns");
        }
        if self.tiles == 0 || self.tiles > 1 && (params.heads() > 1 || self.span > 1) {
            return Err("a grid is of no tiles, of heads, or of threads with several units");
        }
        if self.heads * head > self.units * self.tiles || head > self.slices * self.places {
            return Err(
                "the heads of a workgroup have more units, or terms, than there is room for",
            );
        }
        if !self.units.is_multiple_of(self.span) || self.heads > 1 && self.span > 1 {
            return Err(
                "the units of a thread are of several heads, or no whole part of the workgroup's",
            );
        }
        if self.rows * self.units
            > self.threads() * if self.matrices.is_some() { MOST_EACH } else { 1 }
        {
            return Err("a workgroup has more rows than threads a unit");
        }
        if let Some(matrices) = &self.matrices {
            let whole = [self.units, self.places, self.rows].map(|n| n % matrices.size);
            if whole != [0; 3] || self.heads > 1 || self.span > 1 {
                return Err("units, terms or rows are no whole matrices, or of several heads");
            }
            if ![0, self.places].contains(&self.pinned) {
                return Err("of the weights in matrices all are in registers, or none");
            }
        }
        if !self.pinned.is_multiple_of(4) || self.pinned > self.places {
            return Err("the weights in registers are no whole vectors, or too many");
        }
        Ok(())
    }

    fn defines(&self, products: usize, pass: Pass) -> Vec<(&'static str, String)> {
        let list = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>().join(" ");
        let mut all = vec![
            ("SEQUENCE", String::new()),
            ("HEADS", self.heads.to_string()),
            ("UNITS", self.units.to_string()),
            ("SLICES", self.slices.to_string()),
            ("THREADS", self.threads().to_string()),
            ("SPAN_COUNT", self.span.to_string()),
            ("SPAN", list(self.span)),
            ("ROWS_COUNT", self.rows.to_string()),
            ("ROWS", list(self.rows)),
            ("PLACES", self.places.to_string()),
            ("PINNED", self.pinned.to_string()),
            ("QUADS", list(self.pinned / 4)),
            ("EACH", list(self.each())),
            ("TERM_0", if pass == Pass::Forward { "0.0" } else { "Sum()" }.to_string()),
        ];
        if self.each() > 1 {
            all.push(("SEVERAL", String::new()));
        }
        if let Some(Matrices { size, lanes, columns, .. }) = &self.matrices {
            let (tile, load) = match pass {
                Pass::Forward => ("h_tile", "coopLoad"),
                Pass::Backward => ("d_tile", "coopLoadT"),
            };
            let added = (0..products).map(|gate| format!("parts[at + {gate}u * PLANE]"));
            all.extend([
                ("MATRICES", String::new()),
                ("MATRIX", size.to_string()),
                ("LANES", lanes.to_string()),
                ("COLUMN_COUNT", columns.to_string()),
                ("COLUMNS", list(*columns)),
                ("PINNED_MATRICES", list(self.pinned / size)),
                ("TILE_NAME", tile.to_string()),
                ("LOAD_w", load.to_string()),
                ("ADDED", added.collect::<Vec<_>>().join(", ")),
            ]);
            if self.pinned == 0 {
                all.push(("STREAMED", String::new()));
            }
        }
        all
    }

    /// Matrices are of f16.
    fn bindings(&self, list: &mut [Binding]) {
        let weights = list.iter_mut().filter(|binding| binding.name == "w");
        weights.filter(|_| self.matrices.is_some()).for_each(|w| w.dtype = DType::F16);
    }

    fn groups(&self, params: &StepParams, team: Team) -> [u32; 3] {
        let heads = match team {
            Team::Alone => params.heads().div_ceil(self.heads),
            Team::Grid { .. } => self.tiles,
            Team::Rest => 1,
        };
        let turns = if matches!(team, Team::Grid { .. }) { self.turns } else { 1 };
        [heads as u32, params.batch.div_ceil((self.rows * turns) as u32), 1]
    }
}

/// The bindings of one step for all of them: what does not change with time moves once.
fn all_steps(bindings: Vec<Binding>, params: &StepParams) -> Vec<Binding> {
    let count = params.count as usize;
    let times = |b: Binding| match b.name {
        "w" | "b" | "carry" | "hidden_mask" | "unit_parameters" | "d_unit" | "control" => b,
        _ => b.moving(b.moved * count),
    };
    bindings.into_iter().map(times).collect()
}

/// [`StepForward`]s of the phase Cell, from the step at hand on, `count` of them.
#[derive(Clone, Debug)]
pub struct SequenceForward {
    /// The first step.
    pub step: StepForward,
    /// How the kernel is cut.
    pub cut: SequenceCut,
    /// Who makes the steps.
    pub team: Team,
}

impl SequenceForward {
    /// The steps, each alone; none of those that a grid has not made.
    pub fn steps(&self) -> Vec<StepForward> {
        if self.team == Team::Rest {
            return Vec::new();
        }
        let steps = single_steps(&self.step.params, false);
        steps.map(|params| StepForward { params, ..self.step.clone() }).collect()
    }

    /// `count` steps from `step` on: none where their kind can't go in one launch, or not within the limits.
    pub fn new(step: &StepForward, count: usize, limits: &GroupLimits) -> Option<Self> {
        if !serves_forward(step) {
            return None;
        }
        let cut =
            SequenceCut::choose(&step.params, &step.kind, step.products(), Pass::Forward, limits)?;
        let params = StepParams { count: count as u32, ..step.params };
        let team = Team::Alone;
        Some(SequenceForward { step: StepForward { params, ..step.clone() }, cut, team })
    }

    /// The same by several workgroups: none where the device doesn't keep enough at work.
    pub fn grid(step: &StepForward, count: usize, limits: &GroupLimits) -> Option<Self> {
        if !serves_forward(step) {
            return None;
        }
        let (p, kind, products) = (&step.params, &step.kind, step.products());
        let cut = SequenceCut::choose_grid(p, kind, products, Pass::Forward, limits)?;
        let params = StepParams { count: count as u32, ..step.params };
        let team = Team::Grid { spins: limits.spins };
        Some(SequenceForward { step: StepForward { params, ..step.clone() }, cut, team })
    }
}

/// The parameters of `count` steps one by one, in the direction's order or `back`.
fn single_steps(first: &StepParams, back: bool) -> impl Iterator<Item = StepParams> + use<> {
    let count = first.count;
    (0..count).scan(StepParams { count: 1, ..*first }, move |next, _| {
        let now = *next;
        *next = StepParams { later: now.t, ..now.moved(back) };
        Some(now)
    })
}

fn serves_forward(step: &StepForward) -> bool {
    step.phase == ForwardPhase::Cell && one_phase(&step.kind)
}

fn serves_backward(step: &StepBackward) -> bool {
    step.phase == BackwardPhase::Cell && one_phase(&step.kind)
}

/// The step is a product over h and an epilogue, and nothing else.
fn one_phase(kind: &StepKind) -> bool {
    let cell = &kind.cell;
    cell.kind != CellKind::GruResetBefore
        && !cell.kind.is_scan()
        && cell.layer_norm.is_none()
        && cell.projection.is_none()
        && !kind.columns
}

impl SequenceForward {
    /// The launch behind a grid, which makes what the grid has not made and reads all weights again.
    pub fn rest(&self) -> Self {
        SequenceForward { cut: self.cut.streamed(), team: Team::Rest, ..self.clone() }
    }
}

impl fmt::Display for SequenceForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut.describe(f, self.step.products())
    }
}

impl Kernel for SequenceForward {
    fn name(&self) -> &'static str {
        if self.team == Team::Alone { "sequence_forward" } else { "grid_forward" }
    }
    fn check(&self) -> Result<(), &'static str> {
        if !serves_forward(&self.step) {
            return Err("the steps are of several phases");
        }
        self.step.check()?;
        self.cut.check(&self.step.params, Pass::Forward)
    }
    fn bindings(&self) -> Vec<Binding> {
        let mut list = all_steps(self.step.bindings(), &self.step.params);
        self.team.bindings(&mut list, "states", &self.cut, &self.step.params);
        self.cut.bindings(&mut list);
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.step.cell_defines();
        list.extend(self.cut.defines(self.step.products(), Pass::Forward));
        list.extend(self.team.defines(&self.cut));
        list
    }
    fn params(&self) -> &[u8] {
        self.step.params()
    }
    fn groups(&self) -> [u32; 3] {
        self.cut.groups(&self.step.params, self.team)
    }
    fn flops(&self) -> u64 {
        self.steps().iter().map(Kernel::flops).sum()
    }
}

/// [`StepBackward`]s of the phase Cell, from the step at hand back, `count` of them.
#[derive(Clone, Debug)]
pub struct SequenceBackward {
    /// The first step, which is the last in the direction's order.
    pub step: StepBackward,
    /// The phase Initial comes after them.
    pub initial: bool,
    /// How the kernel is cut.
    pub cut: SequenceCut,
    /// Who makes the steps.
    pub team: Team,
}

impl SequenceBackward {
    /// The steps, each alone; none of those that a grid has not made.
    pub fn steps(&self) -> Vec<StepBackward> {
        if self.team == Team::Rest {
            return Vec::new();
        }
        let mut last = None;
        let steps = single_steps(&self.step.params, true);
        let step = |params| StepBackward { params, ..self.step.clone() };
        let mut list: Vec<_> = steps.inspect(|p| last = Some(*p)).map(step).collect();
        if let Some(last) = last.filter(|_| self.initial) {
            let params = StepParams { later: last.t, ..last };
            let phase = BackwardPhase::Initial;
            list.push(StepBackward { params, phase, d_output: false, ..self.step.clone() });
        }
        list
    }

    /// `count` steps from `step` back, with Initial behind them on request: none where their kind can't go
    /// in one launch, or not within the limits.
    pub fn new(
        step: &StepBackward,
        count: usize,
        initial: bool,
        limits: &GroupLimits,
    ) -> Option<Self> {
        if !serves_backward(step) {
            return None;
        }
        let cut =
            SequenceCut::choose(&step.params, &step.kind, step.products(), Pass::Backward, limits)?;
        let params = StepParams { count: count as u32, ..step.params };
        let team = Team::Alone;
        Some(SequenceBackward { step: StepBackward { params, ..step.clone() }, initial, cut, team })
    }

    /// The same by several workgroups: none where the device doesn't keep enough at work.
    pub fn grid(
        step: &StepBackward,
        count: usize,
        initial: bool,
        limits: &GroupLimits,
    ) -> Option<Self> {
        if !serves_backward(step) {
            return None;
        }
        let (p, kind, products) = (&step.params, &step.kind, step.products());
        let cut = SequenceCut::choose_grid(p, kind, products, Pass::Backward, limits)?;
        let params = StepParams { count: count as u32, ..step.params };
        let team = Team::Grid { spins: limits.spins };
        Some(SequenceBackward { step: StepBackward { params, ..step.clone() }, initial, cut, team })
    }
}

impl SequenceBackward {
    /// The launch behind a grid, which makes what the grid has not made and reads all weights again.
    pub fn rest(&self) -> Self {
        SequenceBackward { cut: self.cut.streamed(), team: Team::Rest, ..self.clone() }
    }
}

impl fmt::Display for SequenceBackward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut.describe(f, self.step.products())
    }
}

impl Kernel for SequenceBackward {
    fn name(&self) -> &'static str {
        if self.team == Team::Alone { "sequence_backward" } else { "grid_backward" }
    }
    fn check(&self) -> Result<(), &'static str> {
        if !serves_backward(&self.step) {
            return Err("the steps are of several phases");
        }
        self.step.check()?;
        self.cut.check(&self.step.params, Pass::Backward)
    }
    fn bindings(&self) -> Vec<Binding> {
        // Of a step that hears from none: what it hands on does not leave the workgroup.
        let alone = StepParams { later: super::NONE, ..self.step.params };
        let step = StepBackward { params: alone, ..self.step.clone() };
        let mut list = all_steps(step.bindings(), &self.step.params);
        let p = &self.step.params;
        for weights in list.iter_mut().filter(|binding| binding.name == "w") {
            weights.moved = step.products() * p.words(&[p.terms, p.depth]) * p.heads();
        }
        self.team.bindings(&mut list, "gates", &self.cut, p);
        self.cut.bindings(&mut list);
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.step.cell_defines();
        list.extend(self.cut.defines(self.step.products(), Pass::Backward));
        list.extend(self.team.defines(&self.cut));
        let blocks = self.step.kind.cell.recurrent_blocks();
        let blocks = blocks.iter().flat_map(|&(saved, _, count)| saved..saved + count);
        let (name, words): (_, Vec<_>) = match self.team {
            Team::Alone => ("LEFT", blocks.map(|block| format!("held_words[{block}]")).collect()),
            _ => {
                let of = |block| format!("gates[gate_index(p.later, {block}u, at)]");
                ("LEFT_GATES", blocks.map(of).collect())
            }
        };
        list.push((name, words.join(", ")));
        if self.initial {
            list.push(("INITIAL", String::new()));
        }
        list
    }
    fn params(&self) -> &[u8] {
        self.step.params()
    }
    fn groups(&self) -> [u32; 3] {
        self.cut.groups(&self.step.params, self.team)
    }
    fn flops(&self) -> u64 {
        self.steps().iter().map(Kernel::flops).sum()
    }
}
