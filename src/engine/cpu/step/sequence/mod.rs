//! All steps of a layer and direction, for cells whose step is one phase with dense weights: the twins of the shaders
//! `sequence_forward` and `sequence_backward`.
//!
//! The weights are packed in panels once (`engine/cpu/panel/`), the threads stay together over time
//! (`engine/cpu/team.rs`), and the gates of a chunk of units follow their product while it is in cache.
//! Members of a team have batch rows of their own, which are independent, or share the units of the same rows and tell
//! each other after each step what they made. An element's sum is in the order of its terms either way, so the bits
//! depend neither on the number of threads nor on the batch.

mod backward;
mod forward;
mod input;
mod slab;
mod split;

pub use backward::sequence_backward;
pub use forward::sequence_forward;

use split::{Member, Split};

use super::Few;
use crate::engine::cpu::Scratch;
use crate::engine::cpu::panel::{Kept, Packed, WIDTH};
use crate::engine::cpu::team::{Exchange, ThreadTeam};
use crate::kernel::{BackwardPhase, Cell, CellKind, ForwardPhase, Op, StepKind, StepParams};
use pulp::{Simd, WithSimd};
use smallvec::SmallVec;
use std::ops::Range;

/// Words of a member's tile, which is to stay in the second-level cache: the gates of all units of
/// a band's rows, of wide layers those of some blocks of units.
const TILE_WORDS: usize = 1 << 15;

/// Blocks of units that go together: a chunk, with so many words for each row and block.
fn chunk_blocks(rows: usize, words: usize) -> usize {
    (TILE_WORDS / (rows.max(1) * words)).max(1)
}

/// The chunks of some blocks.
fn chunks(blocks: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    blocks.clone().step_by(most).map(move |first| first..blocks.end.min(first + most))
}

/// Sixteen units' values.
type Values = [f32; WIDTH];

/// Gates of a step at most.
const GATES: usize = 4;

/// The saved block of each gate's product.
type Targets = SmallVec<[usize; GATES]>;

/// A member's memory, kept from run to run.
#[derive(Default)]
pub struct MemberRoom {
    weights: Kept,
    /// Of an input product that is made step by step, weights, and what comes before it and behind it, by panels.
    input: Kept,
    around: [Vec<f32>; 2],
    /// Biases and other parameters by unit, of one chunk of blocks after another.
    bias: Vec<f32>,
    unit: Vec<f32>,
    tile: Vec<f32>,
    /// What the product reads, \[rows, ·\], and what takes its place.
    source: Vec<f32>,
    next: Vec<f32>,
    packed: Packed,
    packed_input: Packed,
    handed: [Packed; GATES],
    /// States, or carries, \[·, rows, units\], and of states what takes their place.
    states: Vec<f32>,
    next_states: Vec<f32>,
    zeros: Vec<f32>,
    /// Backward: a row's gates, states before the step, gradients that pass it by, and sums of parameters by unit.
    row: Vec<f32>,
    before: Vec<f32>,
    passed: Vec<f32>,
    d_unit: Vec<f32>,
}

/// What one thread makes, one band after another.
struct Worker<'a, M> {
    room: &'a mut MemberRoom,
    members: Few<M>,
}

/// A member's part of all steps.
trait Work {
    fn work<S: Simd>(self, simd: S, room: &mut MemberRoom);
}

impl<M: Work> WithSimd for Worker<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for member in self.members {
            member.work(simd, self.room);
        }
    }
}

/// Gives each thread its members, and runs them.
fn run<M: Work + Send>(
    team: &ThreadTeam,
    split: &Split,
    exchanges: &[Exchange],
    scratch: &mut Scratch,
    members: impl Iterator<Item = (Member, M)>,
) {
    let rooms = scratch.rooms(split.threads());
    let mut workers: Few<_> = rooms.map(|room| Worker { room, members: Few::new() }).collect();
    for (member, work) in members {
        workers[split.thread(&member)].members.push(work);
    }
    team.run_sharing(exchanges, workers.into_iter(), |worker| pulp::Arch::new().dispatch(worker));
}

/// Makes `words` zeros of it.
fn zeros(room: &mut Vec<f32>, words: usize) {
    room.clear();
    room.resize(words, 0.0);
}

/// How many of the operations at the list's start are steps of one layer that go together: 1 for all that don't.
pub fn steps_together<'a>(mut ops: impl Iterator<Item = &'a Op>) -> usize {
    let Some(mut last) = ops.next().filter(|op| serves(op)) else { return 1 };
    let is_next = |op: &&'a Op| {
        let next = match (last, op) {
            (Op::StepForward(a), Op::StepForward(b)) => {
                b.phase == ForwardPhase::Cell && follows(&a.params, &b.params)
            }
            (Op::StepBackward(a), Op::StepBackward(b)) if a.phase == BackwardPhase::Cell => {
                let hears = b.params.later == a.params.t;
                match b.phase {
                    BackwardPhase::Cell => hears && follows(&b.params, &a.params),
                    phase => hears && phase == BackwardPhase::Initial,
                }
            }
            _ => false,
        };
        last = op;
        next
    };
    1 + ops.take_while(is_next).count()
}

/// These operations are steps that go together; or a single step of weights that last, so that it
/// is worth packing them.
pub fn goes_together(ops: &[Op], lasting: bool) -> bool {
    is_team(&ops[0], ops.len(), lasting)
}

/// So many steps of which this is the first go together.
pub fn is_team(first: &Op, steps: usize, lasting: bool) -> bool {
    steps > 1 || lasting && matches!(first, Op::StepForward(_)) && serves(first)
}

/// How many threads make steps of which this is the first.
pub fn members(ops: &[Op], lasting: bool, threads: usize) -> usize {
    match &ops[0] {
        op if goes_together(ops, lasting) => {
            split_of(op, ops.len(), threads).map_or(threads, |split| split.threads())
        }
        Op::StepForward(k) => threads.min(k.params.batch as usize),
        _ => threads,
    }
}

fn split(
    p: &StepParams,
    kind: &StepKind,
    products: usize,
    steps: usize,
    threads: usize,
    shares: bool,
) -> Split {
    let [batch, hidden] = [p.batch, p.hidden].map(|x| x as usize);
    let split = Split::new(threads, batch, hidden, products, !kind.flags, steps);
    if shares { split } else { split.without_shares() }
}

/// How so many threads share steps of which this is the first.
fn split_of(op: &Op, steps: usize, threads: usize) -> Option<Split> {
    match op {
        Op::StepForward(k) => Some(split(&k.params, &k.kind, k.products(), steps, threads, true)),
        Op::StepBackward(k) => Some(split(&k.params, &k.kind, k.products(), steps, threads, true)),
        _ => None,
    }
}

/// How a team of so many threads shares steps that go together, in words.
pub fn shared_by(op: &Op, steps: usize, lasting: bool, threads: usize) -> Option<String> {
    let split = split_of(op, steps, threads).filter(|_| is_team(op, steps, lasting));
    split.map(|split| split.to_string())
}

/// How long a team of so many threads takes for steps that go together, in multiply-adds of one thread.
pub fn time(op: &Op, steps: usize, threads: usize) -> f64 {
    split_of(op, steps, threads).map_or(0.0, |split| split.time(steps))
}

/// Steps that are one phase.
fn serves(op: &Op) -> bool {
    match op {
        Op::StepForward(k) => k.phase == ForwardPhase::Cell && one_phase(&k.kind, &k.params),
        Op::StepBackward(k) => k.phase == BackwardPhase::Cell && one_phase(&k.kind, &k.params),
        _ => false,
    }
}

/// `b` is the step after `a` in the direction's order.
fn follows(a: &StepParams, b: &StepParams) -> bool {
    let stride = a.new_slot.wrapping_sub(a.old_slot);
    b.old_slot == a.new_slot
        && b.new_slot == b.old_slot.wrapping_add(stride)
        && b.t == a.t.wrapping_add(stride)
}

/// The step is a product over h of dense weights and an epilogue, and nothing else.
fn one_phase(kind: &StepKind, p: &StepParams) -> bool {
    let cell = &kind.cell;
    cell.kind != CellKind::GruResetBefore
        && cell.kind != CellKind::Custom
        && !cell.kind.is_scan()
        && cell.layer_norm.is_none()
        && cell.projection.is_none()
        && !kind.columns
        && kind.masks == 0
        && p.heads() == 1
}

fn saved_blocks(cell: &Cell) -> Targets {
    let blocks = cell.recurrent_blocks().iter();
    blocks.flat_map(|&(saved, _, count)| saved..saved + count).collect()
}

/// Vectors \[count, H\] of parameters by unit, chunk after chunk: \[chunk, vector, unit\], with whole blocks.
fn pack_units(
    vectors: &[f32],
    count: usize,
    hidden: usize,
    chunks: impl Iterator<Item = Range<usize>>,
    to: &mut Vec<f32>,
) {
    to.clear();
    for blocks in chunks {
        for vector in vectors.chunks(hidden).take(count) {
            blocks.clone().for_each(|block| to.extend(padded(vector, block)));
        }
    }
}

/// A chunk's part of that: `before` blocks lie before it, and it has so many units.
#[inline(always)]
fn of_chunk(packed: &[f32], before: usize, count: usize, units: usize) -> &[f32] {
    &packed[before * count * WIDTH..][..count * units]
}

/// The sixteen of a block, with zeros beyond the end.
#[inline(always)]
fn padded(row: &[f32], block: usize) -> Values {
    let own = &row[block * WIDTH..];
    match own.first_chunk() {
        Some(whole) => *whole,
        None => padded_tail(own),
    }
}

// The ends of rows are functions of their own, or the compiler makes one copy of any length of both ways.
#[cold]
#[inline(never)]
fn padded_tail(own: &[f32]) -> Values {
    let mut values = [0.0; WIDTH];
    values[..own.len()].copy_from_slice(own);
    values
}
