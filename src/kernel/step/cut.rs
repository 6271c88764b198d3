//! How a kernel of all steps is cut into workgroups and threads.

use super::{StepKind, StepParams};
use crate::kernel::Binding;
use crate::tensor::DType;
use std::fmt;

/// What a device lets a workgroup have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Threads.
    pub threads: usize,
    /// Bytes of workgroup memory; of a grid the launch behind it has as many.
    pub bytes: usize,
    /// Words of weights that a thread should keep in registers, at most.
    pub registers: usize,
    /// What a thread keeps beside its weights has to fit registers too: not where a driver computes on the CPU.
    pub spills: bool,
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
    /// Rounds that a workgroup of a grid waits, at most: in a launch, where a driver counts rounds, else each time.
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
    /// Words between the rows of the sums that they leave.
    pub apart: usize,
    /// Backward in a grid: the gradients of one gate after another lie in workgroup memory, those of all would be too
    /// many. A subgroup has a column of each, and one sum.
    pub by_gate: bool,
}

impl GroupLimits {
    pub(super) fn wait(&self) -> Wait {
        if self.rounds == usize::MAX { Wait::Each(self.spins) } else { Wait::OfAll(self.spins) }
    }
}

impl Matrices {
    /// Words of a matrix of weights that a thread keeps.
    pub(super) fn words(&self) -> usize {
        (self.size * self.size).div_ceil(2 * self.lanes)
    }
}

/// How long a workgroup of a grid waits for others before it leaves, in rounds of 64 looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// In all of a launch: where a driver counts rounds.
    OfAll(usize),
    /// Each time.
    Each(usize),
}

/// Steps whose words lie side by side in `progress` (`shaders/shared/grid.wgsl`).
const RING: usize = 18;

/// Words that a thread reads at once, at most.
const MOST_WORDS: usize = 32;

/// Looks at words in a round of waiting, where a driver counts rounds.
const LOOKS: usize = 64;

/// Words that threads read side by side, at least: 32 bytes.
const LEAST_LINE: usize = 8;

/// The numbers below `count`, as a `#for` of the preprocessor takes them.
pub(super) fn numbers(count: usize) -> String {
    (0..count).map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

/// Units that a thread settles, at most.
pub(super) const MOST_EACH: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    Backward,
}

impl SequenceCut {
    /// Workgroups that make the steps of so many rows.
    pub(super) fn workgroups(&self, batch: usize) -> usize {
        self.tiles * batch.div_ceil(self.rows * self.turns)
    }

    /// The same with all weights read again at every step.
    pub(super) fn streamed(&self) -> Self {
        SequenceCut { pinned: 0, ..*self }
    }

    /// Words of `progress`: a counter a tile of each group of rows, and what steps hand over, so many values a unit
    /// (`shaders/shared/grid.wgsl`).
    pub(super) fn progress_words(&self, params: &StepParams, handed: usize) -> usize {
        let groups = (params.batch as usize).div_ceil(self.rows);
        groups * (self.tiles + RING * handed * self.rows * self.handed_line())
    }

    /// Words of a row of what is handed over: of matrices two values each.
    fn handed_line(&self) -> usize {
        self.slices * self.places / if self.matrices.is_some() { 2 } else { 1 }
    }

    /// Words of a row of what is handed over that threads read side by side: as many as leave none of the threads
    /// idle, if those are not too few for a transaction of memory.
    fn lane_words(&self) -> usize {
        let (line, threads) = (self.handed_line(), self.threads());
        let whole = (LEAST_LINE..=line.min(threads)).rev().find(|words| {
            line.is_multiple_of(*words)
                && threads.is_multiple_of(*words)
                && self.rows.is_multiple_of(threads / words)
        });
        whole.unwrap_or(line.min(threads))
    }

    /// Places in the rows of a gate that a thread reads.
    fn read_places(&self) -> usize {
        let (line, words) = (self.handed_line(), self.lane_words());
        line.div_ceil(words) * self.rows.div_ceil(self.threads() / words)
    }

    /// How the workgroups of a grid read what so many gates of the others hand over.
    pub(super) fn handed_defines(
        &self,
        params: &StepParams,
        handed: usize,
        wait: Wait,
    ) -> Vec<(&'static str, String)> {
        let by_gate = self.matrices.is_some_and(|matrices| matrices.by_gate);
        let gates = if by_gate { 1 } else { handed };
        let places = self.read_places();
        // One gate after another, its words come while those before it are multiplied.
        let most = if by_gate { places } else { MOST_WORDS / gates };
        let count = places.min(most);
        let looks = match wait {
            Wait::OfAll(_) => (LOOKS / (count * gates)).max(1),
            Wait::Each(_) => 1,
        };
        let mut list = vec![
            ("LANE_WORDS", self.lane_words().to_string()),
            ("HANDED_LINE", self.handed_line().to_string()),
            ("HANDED_COUNT", handed.to_string()),
            ("READ_COUNT", count.to_string()),
            ("READS", numbers(count)),
            ("READ_GATES", numbers(gates)),
            ("LOOKS", numbers(looks)),
        ];
        match wait {
            Wait::OfAll(rounds) => list.push(("SPINS", rounds.to_string())),
            Wait::Each(rounds) => list.extend([
                ("SPINS", (rounds * LOOKS).to_string()),
                ("EACH_WAIT", String::new()),
                ("ONE_LOOK", String::new()),
            ]),
        }
        if self.matrices.is_some() {
            list.push(("PAIRED", String::new()));
        }
        let (line, words) = (self.handed_line(), self.lane_words());
        let whole = line.is_multiple_of(words)
            && self.threads().is_multiple_of(words)
            && self.rows.is_multiple_of(self.threads() / words)
            && places.is_multiple_of(count)
            && (params.batch as usize).is_multiple_of(self.rows)
            && params.head as usize == self.slices * self.places;
        list.extend(whole.then(|| ("ALL_THERE", String::new())));
        list
    }

    /// Terms of a row as they lie in workgroup memory.
    fn width(&self) -> usize {
        // Of matrices lines begin in other banks of the memory.
        let apart = if self.matrices.is_some() { 8 } else { 0 };
        self.heads * self.slices * self.places + apart
    }

    /// Bytes of workgroup memory in which a grid, and the launch behind it, keep who has come how far.
    fn counter_bytes(&self) -> usize {
        if self.tiles > 1 { 4 * self.tiles + 16 } else { 0 }
    }

    /// Steps that a launch may have within the limits.
    pub fn most_steps(&self, limits: &GroupLimits) -> usize {
        // A step is a round itself, has one for each term that is not in registers, and a few for gates
        // and states. Of a grid, what one workgroup alone would have, and the waiting.
        let terms = |read_again: usize| match &self.matrices {
            None => read_again,
            Some(m) => read_again / m.size * m.columns * (2 + m.size * m.size / m.lanes),
        };
        let own = match self.tiles {
            1 => self.each() * 24,
            _ => self.each() * 32 + self.read_places().div_ceil(MOST_WORDS / 4),
        };
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
    pub(crate) fn each(&self) -> usize {
        (self.rows * self.units).div_ceil(self.threads())
    }

    /// Words of weights that a thread keeps in registers.
    pub(super) fn keeps(&self, products: usize) -> usize {
        match &self.matrices {
            Some(matrices) => self.pinned / matrices.size * matrices.columns * matrices.words(),
            None => self.pinned * products * self.span,
        }
    }

    /// The same with its sums, and with what it keeps of each of several units.
    pub(super) fn words(&self, kind: &StepKind, products: usize, pass: Pass) -> usize {
        let sums = match &self.matrices {
            Some(m) => 2 * if m.by_gate { 1 } else { m.columns } * m.words(),
            None => self.rows * products * self.span,
        };
        let [states, saved] = [kind.cell.states(), kind.cell.saved()];
        let unit = match pass {
            // A sequence has what the next step reads at hand as well.
            Pass::Forward if self.tiles == 1 => states + 2 * saved + 1,
            Pass::Forward => states + saved,
            Pass::Backward => 2 * states + saved + 1,
        };
        self.keeps(products) + sums + self.each() * unit
    }

    /// Bytes of workgroup memory; of a grid the launch behind it has as many.
    pub(super) fn workgroup_bytes(&self, products: usize, masks: usize, pass: Pass) -> usize {
        if let Some(matrices) = &self.matrices {
            let products = if matrices.by_gate { 1 } else { products };
            let planes = if pass == Pass::Forward { masks.max(1) } else { products };
            let tile = planes * self.rows * self.width();
            // Weights on their way into matrices; behind the tile where that goes on.
            let stage = matrices.subgroups * matrices.size * matrices.size;
            let room =
                if self.pinned > 0 && self.tiles == 1 { tile.max(stage) } else { tile + stage };
            let sums = 4 * self.slices * products * self.rows * (self.units + matrices.apart);
            return 2 * room + sums + self.counter_bytes();
        }
        let sum = if products == 3 { 16 } else { 4 * products };
        // The tile holds h under each mask, or the gate gradients side by side.
        let (tile, part) = match pass {
            Pass::Forward => (4 * masks.max(1), sum),
            Pass::Backward => (sum, if masks > 1 { sum } else { 4 }),
        };
        self.rows * (self.width() * tile + self.slices * self.units * part) + self.counter_bytes()
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
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>, products: usize) -> fmt::Result {
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
            Some(Matrices { size, subgroups, columns, by_gate, .. }) => write!(
                f,
                "{subgroups} subgroups that multiply matrices of {size}x{size}{}, each with {} of the weights in registers",
                if *by_gate { ", one gate after another" } else { "" },
                columns * pinned / size
            ),
            None => write!(
                f,
                "each with {} weights in registers and {reread} read again a step",
                pinned * products * span
            ),
        }
    }

    pub(super) fn check(&self, params: &StepParams, pass: Pass) -> Result<(), &'static str> {
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
            if matrices.by_gate && (pass == Pass::Forward || self.tiles < 2) {
                return Err("only backward grids have one gate in workgroup memory at a time");
            }
        }
        if !self.pinned.is_multiple_of(4) || self.pinned > self.places {
            return Err("the weights in registers are no whole vectors, or too many");
        }
        Ok(())
    }

    pub(super) fn defines(&self, products: usize, pass: Pass) -> Vec<(&'static str, String)> {
        let list = numbers;
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
        if let Some(Matrices { size, lanes, columns, apart, by_gate, .. }) = &self.matrices {
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
                ("APART", apart.to_string()),
                ("COLUMNS", list(*columns)),
                ("PINNED_MATRICES", list(self.pinned / size)),
                ("TILE_NAME", tile.to_string()),
                ("LOAD_w", load.to_string()),
                ("ADDED", added.collect::<Vec<_>>().join(", ")),
            ]);
            let flags = [(self.pinned == 0, "STREAMED"), (*by_gate, "BY_GATE")];
            all.extend(flags.iter().filter(|flag| flag.0).map(|flag| (flag.1, String::new())));
        }
        all
    }

    /// Matrices are of f16.
    pub(super) fn bindings(&self, list: &mut [Binding]) {
        let weights = list.iter_mut().filter(|binding| binding.name == "w");
        weights.filter(|_| self.matrices.is_some()).for_each(|w| w.dtype = DType::F16);
    }
}
