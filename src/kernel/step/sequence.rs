//! All steps of a layer and direction in one launch, for cells whose step is one phase.

use super::cut::{GroupLimits, Pass, SequenceCut, Wait};
use super::{BackwardPhase, ForwardPhase, StepBackward, StepForward, StepKind, StepParams};
use crate::kernel::cell::CellKind;
use crate::kernel::{Binding, Kernel};
use std::fmt;

/// Who makes the steps of some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Team {
    /// One workgroup.
    Alone,
    /// Several, a tile of the units each, which wait for one another.
    Grid(Wait),
    /// One, the steps that a grid has not made.
    Rest,
}

impl Team {
    fn defines(
        self,
        cut: &SequenceCut,
        params: &StepParams,
        handed: usize,
    ) -> Vec<(&'static str, String)> {
        let mut list = vec![
            ("GRID", String::new()),
            ("TILES", cut.tiles.to_string()),
            ("TURNS", cut.turns.to_string()),
        ];
        list.extend((cut.turns > 1).then(|| ("TAKES_TURNS", String::new())));
        list.extend(cut.matrices.map(|_| ("PAIRS_OF_TERMS", String::new())));
        match self {
            Team::Alone => return Vec::new(),
            Team::Grid(wait) => list.extend(cut.handed_defines(params, handed, wait)),
            Team::Rest => list.push(("REST", String::new())),
        }
        list
    }

    fn groups(self, cut: &SequenceCut, params: &StepParams) -> [u32; 3] {
        let (parts, turns) = match self {
            Team::Alone => (params.heads().div_ceil(cut.heads), 1),
            Team::Grid(_) => (cut.tiles, cut.turns),
            Team::Rest => (1, 1),
        };
        [parts as u32, params.batch.div_ceil((cut.rows * turns) as u32), 1]
    }

    /// How far each workgroup of a grid has come, and what they hand over.
    fn bindings(self, list: &mut Vec<Binding>, words: usize) {
        if self == Team::Alone {
            return;
        }
        list.push(Binding::write_u32("progress", words).shared());
        // As a rule there is nothing left to do.
        if self == Team::Rest {
            list.iter_mut().for_each(|binding| binding.moved = 0);
        }
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
        let team = Team::Grid(limits.wait());
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
    /// Words of a grid's `progress`: h is handed over.
    pub fn progress_words(&self) -> usize {
        self.cut.progress_words(&self.step.params, 1)
    }

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
        self.team.bindings(&mut list, self.progress_words());
        self.cut.bindings(&mut list);
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.step.cell_defines();
        list.extend(self.cut.defines(self.step.products(), Pass::Forward));
        if self.step.sources() == 1 {
            list.push(("SAME_TERMS", String::new()));
        }
        list.extend(self.team.defines(&self.cut, &self.step.params, 1));
        // Without resets and masks a step hears what was handed over, bit by bit.
        let changes = |binding: &Binding| ["flags", "hidden_mask"].contains(&binding.name);
        if !self.bindings().iter().any(changes) {
            list.push(("HEARD_AS_HANDED", String::new()));
        }
        list.extend((self.team == Team::Alone).then(|| ("HELD_FLAGS", String::new())));
        list
    }
    fn params(&self) -> &[u8] {
        self.step.params()
    }
    fn groups(&self) -> [u32; 3] {
        self.team.groups(&self.cut, &self.step.params)
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
        let team = Team::Grid(limits.wait());
        Some(SequenceBackward { step: StepBackward { params, ..step.clone() }, initial, cut, team })
    }
}

impl SequenceBackward {
    /// Words of a grid's `progress`: the gradients of the recurrent products are handed over.
    pub fn progress_words(&self) -> usize {
        self.cut.progress_words(&self.step.params, self.step.products())
    }

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
        self.team.bindings(&mut list, self.progress_words());
        self.cut.bindings(&mut list);
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.step.cell_defines();
        list.extend(self.cut.defines(self.step.products(), Pass::Backward));
        list.extend(self.team.defines(&self.cut, &self.step.params, self.step.products()));
        let blocks = self.step.kind.cell.recurrent_blocks();
        let blocks = blocks.iter().flat_map(|&(saved, _, count)| saved..saved + count);
        let gates: Vec<usize> = (0..blocks.clone().count()).collect();
        let numbers: Vec<String> = gates.iter().map(usize::to_string).collect();
        list.push(("LEFT_GATES_LIST", numbers.join(" ")));
        let next = numbers.iter().skip(1).cloned().chain([String::new()]);
        list.extend(["NEXT_0", "NEXT_1", "NEXT_2", "NEXT_3"].into_iter().zip(next));
        let handed = gates.iter().map(|gate| format!("value_of(word_{gate})"));
        list.push(("HANDED_GATES", handed.collect::<Vec<_>>().join(", ")));
        let names = ["LEFT_BLOCK_0", "LEFT_BLOCK_1", "LEFT_BLOCK_2", "LEFT_BLOCK_3"];
        list.extend(names.into_iter().zip(blocks.clone().map(|block| block.to_string())));
        if self.step.kind.masks > 1 {
            list.push(("GATES_APART", String::new()));
        }
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
        self.team.groups(&self.cut, &self.step.params)
    }
    fn flops(&self) -> u64 {
        self.steps().iter().map(Kernel::flops).sum()
    }
}
