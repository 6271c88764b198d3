//! All steps of a layer and direction in one launch, for cells whose step is one phase.

use super::{BackwardPhase, ForwardPhase, StepBackward, StepForward, StepKind, StepParams};
use crate::kernel::cell::CellKind;
use crate::kernel::{Binding, Kernel};
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
            SequenceCut { heads, units, slices, span, places, rows, pinned }
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

    /// Steps that a launch may have within the limits.
    pub fn most_steps(&self, limits: &GroupLimits) -> usize {
        // A step is a round itself, has one for each term that is not in registers, and a few for gates
        // and states.
        let each = 24 + self.places - self.pinned;
        limits.steps.min(limits.rounds / each).max(1)
    }

    /// Threads of a workgroup.
    pub fn threads(&self) -> usize {
        self.units / self.span * self.slices
    }

    /// Bytes of workgroup memory.
    fn workgroup_bytes(&self, products: usize, masks: usize, pass: Pass) -> usize {
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
        (self.places - self.pinned) * products * self.span
    }

    /// The cut in words.
    fn describe(&self, f: &mut fmt::Formatter<'_>, products: usize) -> fmt::Result {
        let SequenceCut { units, rows, pinned, span, .. } = self;
        let reread = self.reread(products);
        write!(
            f,
            "workgroups of {rows} rows, {units} units and {} threads, each with {} weights in registers and \
             {reread} read again a step",
            self.threads(),
            pinned * products * span
        )
    }

    fn check(&self, params: &StepParams, pass: Pass) -> Result<(), &'static str> {
        params.check_steps(pass == Pass::Backward)?;
        let head = params.head as usize;
        let sizes = [self.heads, self.units, self.slices, self.span, self.places, self.rows];
        super::all_positive(&sizes.map(|x| x as u32))?;
        if self.heads * head > self.units || head > self.slices * self.places {
            return Err(
                "the heads of a workgroup have more units, or terms, than there is room for",
            );
        }
        if !self.units.is_multiple_of(self.span) || self.heads > 1 && self.span > 1 {
            return Err(
                "the units of a thread are of several heads, or no whole part of the workgroup's",
            );
        }
        if self.rows * self.units > self.threads() {
            return Err("a workgroup has more rows than threads a unit");
        }
        if !self.pinned.is_multiple_of(4) || self.pinned > self.places {
            return Err("the weights in registers are no whole vectors, or too many");
        }
        Ok(())
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let list = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>().join(" ");
        vec![
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
        ]
    }

    fn groups(&self, params: &StepParams) -> [u32; 3] {
        let heads = params.heads().div_ceil(self.heads);
        [heads as u32, params.batch.div_ceil(self.rows as u32), 1]
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
}

impl SequenceForward {
    /// The steps, each alone.
    pub fn steps(&self) -> Vec<StepForward> {
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
        Some(SequenceForward { step: StepForward { params, ..step.clone() }, cut })
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

impl fmt::Display for SequenceForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut.describe(f, self.step.products())
    }
}

impl Kernel for SequenceForward {
    fn name(&self) -> &'static str {
        "sequence_forward"
    }
    fn check(&self) -> Result<(), &'static str> {
        if !serves_forward(&self.step) {
            return Err("the steps are of several phases");
        }
        self.step.check()?;
        self.cut.check(&self.step.params, Pass::Forward)
    }
    fn bindings(&self) -> Vec<Binding> {
        all_steps(self.step.bindings(), &self.step.params)
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.step.cell_defines();
        list.extend(self.cut.defines());
        list
    }
    fn params(&self) -> &[u8] {
        self.step.params()
    }
    fn groups(&self) -> [u32; 3] {
        self.cut.groups(&self.step.params)
    }
    fn flops(&self) -> u64 {
        self.step.flops() * u64::from(self.step.params.count)
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
}

impl SequenceBackward {
    /// The steps, each alone.
    pub fn steps(&self) -> Vec<StepBackward> {
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
        Some(SequenceBackward { step: StepBackward { params, ..step.clone() }, initial, cut })
    }
}

impl fmt::Display for SequenceBackward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut.describe(f, self.step.products())
    }
}

impl Kernel for SequenceBackward {
    fn name(&self) -> &'static str {
        "sequence_backward"
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
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.step.cell_defines();
        list.extend(self.cut.defines());
        let blocks: Vec<String> = self
            .step
            .kind
            .cell
            .recurrent_blocks()
            .iter()
            .flat_map(|&(saved, _, count)| saved..saved + count)
            .map(|block| format!("held_words[{block}]"))
            .collect();
        list.push(("LEFT", blocks.join(", ")));
        if self.initial {
            list.push(("INITIAL", String::new()));
        }
        list
    }
    fn params(&self) -> &[u8] {
        self.step.params()
    }
    fn groups(&self) -> [u32; 3] {
        self.cut.groups(&self.step.params)
    }
    fn flops(&self) -> u64 {
        self.steps().iter().map(Kernel::flops).sum()
    }
}
