//! Runs that do not depend on one another, beside one another, each with a share of the threads.
//!
//! A run (all steps of a layer and direction) that is split over all threads pays for it: members that share the units
//! of few rows wait for each other at every step, and of few units nobody gives any away. Two runs beside one another
//! wait once. So where two or more runs follow one another of which none hears from another, they become lanes: what
//! leads to one alone (its input product) goes before it into its lane, what follows from one alone (its weights'
//! gradients) behind it, what several need before all lanes, and the rest behind them. Whether something may change
//! its place is seen from the elements that both touch; no buffer is written by two lanes, and of one that another lane
//! writes elsewhere (a layer's outputs, of which the next one reads what it has so far) a lane reads a copy.
//! Every element is computed as before: the bits stay.

use super::input::{Inputs, apart};
use super::lanes::{self, Place, Unit};
use super::{step, wavefront};
use crate::engine::Strategy;
use crate::engine::touches::{Touches, touches};
use crate::error::Result;
use crate::kernel::{BufferId, Op};
use crate::recording::{Launch, MemoryPlan, Recording};
use std::borrow::Cow;
use std::ops::Range;

/// What follows one another: a launch or steps that go together; or lanes.
pub enum Stage {
    /// With all threads.
    One(Range<usize>),
    /// Beside one another.
    Lanes(Vec<Lane>),
}

/// Launches one after another, with a share of the threads.
pub struct Lane {
    /// A launch each, or steps that go together.
    pub units: Vec<Range<usize>>,
    /// Its share.
    pub threads: usize,
    /// What it reads of buffers that other lanes write elsewhere: it has copies.
    pub lent: Vec<(BufferId, Range<usize>)>,
}

/// A recording in the order in which it is run.
pub struct Arranged<'a> {
    pub recording: Cow<'a, Recording>,
    pub stages: Vec<Stage>,
    pub plan: MemoryPlan,
    /// Parts of time that layers are cut into; 1: one layer after another.
    pub parts: usize,
}

/// Launches, or runs, that are looked over for runs that can go beside the first of them.
const FAR: usize = 200;

/// Multiply-adds that waking the threads of the other lanes takes the time of.
pub const WAKING: usize = 1 << 18;

/// Bytes that buffers may take more where they live longer, if it is not as much as they take in their own order.
const SPARE: u64 = 16 << 20;

/// Multiply-adds that beginning a run takes the time of.
const STARTING: usize = 1 << 15;

/// How much faster large products go than the steps of a few rows.
const LARGE_PRODUCT_GAIN: f64 = 4.0;

/// What lanes beside one another must take of the time of the same one after another to be worth it.
pub const GAIN: f64 = 0.97;

/// The recording as so many threads run it, in so many bytes of memory at most if they are known: by `strategy` never
/// beside one another, where it is worth it, or wherever it can be.
pub fn arrange(
    recording: &Recording,
    threads: usize,
    strategy: Strategy,
    available: Option<u64>,
) -> Result<Arranged<'_>> {
    let asked = strategy == Strategy::Wavefront;
    let whole = |recording: &Recording| -> Vec<Stage> {
        units(recording).into_iter().map(Stage::One).collect()
    };
    let stages = whole(recording);
    let plan = recording.plan_at(&times(&stages, recording.launches()))?;
    let own = plan.temporary_bytes();
    let mut arranged = Arranged { stages, recording: Cow::Borrowed(recording), plan, parts: 1 };
    if threads == 1 || strategy == Strategy::Step {
        return Ok(arranged);
    }
    let mut shortest = time(recording, &arranged.stages, threads);
    // Buffers live longer beside one another.
    let most = match (asked, recording.is_frugal()) {
        (true, _) => u64::MAX,
        (false, true) => own,
        (false, false) => own.saturating_add(own.max(SPARE)),
    };
    // Layers in parts of time are slower on the cores where they were measured: docs/rejected-optimizations.md.
    let parts = if asked { &wavefront::PARTS[..] } else { &[] };
    for &parts in std::iter::once(&1).chain(parts) {
        let cut =
            if parts > 1 { wavefront::cut(recording, parts) } else { Some(recording.clone()) };
        let found = cut.and_then(|cut| in_lanes(&cut, threads, asked));
        let Some((recording, stages)) = found else { continue };
        let plan = recording.plan_at(&times(&stages, recording.launches()))?;
        let fits = available.is_none_or(|bytes| plan.peak_bytes() <= bytes);
        let took = time(&recording, &stages, threads);
        if fits && plan.temporary_bytes() <= most && (asked || took < GAIN * shortest) {
            shortest = took;
            arranged = Arranged { recording: Cow::Owned(recording), stages, plan, parts };
        }
    }
    Ok(arranged)
}

/// How long it takes, in multiply-adds.
fn time(recording: &Recording, stages: &[Stage], threads: usize) -> f64 {
    let launches = recording.launches();
    let of = |unit: &Range<usize>, threads: usize| time_of(&launches[unit.clone()], threads);
    let of_lane = |lane: &Lane| lane.units.iter().map(|unit| of(unit, lane.threads)).sum();
    let stages = stages.iter().map(|stage| match stage {
        Stage::One(unit) => of(unit, threads),
        Stage::Lanes(lanes) => lanes.iter().map(of_lane).fold(0.0, f64::max) + WAKING as f64,
    });
    stages.sum()
}

fn time_of(launches: &[Launch], threads: usize) -> f64 {
    let one =
        |one: &Launch| one.op.kernel().flops() as f64 / 2.0 / LARGE_PRODUCT_GAIN / threads as f64;
    match apart(launches) {
        (None, [single]) => one(single),
        (input, run) => {
            let steps = STARTING as f64 + step::time(&run[0].op, run.len(), threads);
            input.map_or(0.0, one) + steps
        }
    }
}

/// Launches, or steps that go together, with their input product where they make it themselves, in their order.
fn units(recording: &Recording) -> Vec<Range<usize>> {
    let (count, inputs) = (recording.launches().len(), Inputs::new(recording));
    let mut at = 0;
    let one = || {
        let first = at;
        at += if first == count { return None } else { inputs.unit(first) };
        Some(first..at)
    };
    std::iter::from_fn(one).collect()
}

/// What a unit touches.
fn touched(unit: &[Launch]) -> Touches {
    let (input, steps) = apart(unit);
    let mut all = touches(steps, 1);
    all.extend(input.into_iter().flat_map(|input| touches(std::slice::from_ref(input), 1)));
    all
}

/// When each launch is run: all launches of lanes beside one another at once, and those of steps that make their input
/// product themselves.
fn times(stages: &[Stage], launches: &[Launch]) -> Vec<usize> {
    let (mut times, mut now) = (vec![0; launches.len()], 0);
    for stage in stages {
        match stage {
            Stage::One(unit) => {
                let each = usize::from(apart(&launches[unit.clone()]).0.is_none());
                for launch in unit.clone() {
                    times[launch] = now;
                    now += each;
                }
                now += 1;
            }
            Stage::Lanes(lanes) => {
                let units = lanes.iter().flat_map(|lane| &lane.units);
                units.flat_map(Range::clone).for_each(|launch| times[launch] = now);
                now += 1;
            }
        }
    }
    times
}

/// The recording with lanes, if there are any.
fn in_lanes(recording: &Recording, threads: usize, asked: bool) -> Option<(Recording, Vec<Stage>)> {
    let (launches, all) = (recording.launches(), units(recording));
    let unit = |unit: &Range<usize>| Unit {
        launches: unit.clone(),
        touched: touched(&launches[unit.clone()]),
        is_run: unit.len() > 1,
        stays: match &launches[unit.end - 1].op {
            Op::StepForward(_) | Op::StepBackward(_) => unit.len() == 1,
            Op::NormForward(_) | Op::NormBackward(_) => true,
            Op::ScanForward(_) | Op::ScanBackward(_) => true,
            _ => false,
        },
    };
    let runs: Vec<usize> = (0..all.len()).filter(|&i| all[i].len() > 1).collect();
    let mut order = Order { launches, list: Vec::new(), stages: Vec::new() };
    let (mut at, mut found) = (0, false);
    // Behind the run before.
    let mut least = 0;
    for pair in runs.windows(2) {
        let first = pair[0];
        let from = at.max(least).max(first.saturating_sub(FAR / 2));
        least = first + 1;
        if first < at || pair[1] - first > FAR {
            continue;
        }
        let units: Vec<Unit> = all[from..].iter().take(FAR).map(unit).collect();
        let time = |unit: &Unit, threads| time_of(&launches[unit.launches.clone()], threads);
        let Some((places, shares)) = lanes::region(&units, threads, asked, time) else { continue };
        all[at..from].iter().for_each(|unit| order.one(unit.clone()));
        order.region(&units, &places, &shares);
        at = from + places.len();
        found = true;
    }
    all[at..].iter().for_each(|unit| order.one(unit.clone()));
    found.then(|| (recording.with_launches(order.list), order.stages))
}

/// Launches in a new order.
struct Order<'a> {
    launches: &'a [Launch],
    list: Vec<Launch>,
    stages: Vec<Stage>,
}

impl Order<'_> {
    fn push(&mut self, unit: Range<usize>) -> Range<usize> {
        let first = self.list.len();
        self.list.extend_from_slice(&self.launches[unit]);
        first..self.list.len()
    }

    fn one(&mut self, unit: Range<usize>) {
        let unit = self.push(unit);
        self.stages.push(Stage::One(unit));
    }

    fn region(&mut self, units: &[Unit], places: &[Place], shares: &[usize]) {
        let of = |place| {
            let pairs = units.iter().zip(places);
            pairs.filter(move |pair| *pair.1 == place).map(|pair| pair.0.launches.clone())
        };
        of(Place::Before).for_each(|unit| self.one(unit));
        let lanes = shares.iter().enumerate().map(|(lane, &threads)| Lane {
            units: of(Place::Lane(lane)).map(|unit| self.push(unit)).collect(),
            threads,
            lent: lanes::lent(units, places, lane),
        });
        let lanes = lanes.collect();
        self.stages.push(Stage::Lanes(lanes));
        of(Place::Behind).for_each(|unit| self.one(unit));
    }
}
