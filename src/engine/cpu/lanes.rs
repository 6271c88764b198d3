//! Which of the units that follow one another become lanes beside one another: see `beside.rs`.

use super::beside::{GAIN, WAKING};
use crate::engine::touches::{Touches, meet};
use crate::kernel::BufferId;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// How much longer than the shortest lane another may be, before what follows its run is left to all threads.
const LONGER: f64 = 1.25;

/// A launch, or steps that go together.
pub struct Unit {
    pub launches: Range<usize>,
    pub touched: Touches,
    pub is_run: bool,
    /// Its bits depend on how many threads there are: it has all of them.
    pub stays: bool,
}

/// Where a unit goes.
#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    Before,
    Lane(usize),
    Behind,
}

/// Where the units at the list's start go, as many as there are places, and each lane's threads: if some of them are
/// runs that don't depend on one another, and it is worth it or was asked for.
pub fn region(
    units: &[Unit],
    threads: usize,
    asked: bool,
    time: impl Fn(&Unit, usize) -> f64,
) -> Option<(Vec<Place>, Vec<usize>)> {
    // The runs that each unit hears from, and those that hear from it: a bit a run.
    let mut hears: Vec<u64> = Vec::new();
    let mut runs = Vec::new();
    for (u, unit) in units.iter().enumerate() {
        let mut heard = 0;
        for v in 0..u {
            if hears[v] & !heard != 0 && meet(&units[v].touched, &unit.touched) {
                heard |= hears[v];
            }
        }
        if unit.is_run {
            if heard != 0 || runs.len() == threads.min(64) {
                break;
            }
            heard = 1 << runs.len();
            runs.push(u);
        }
        hears.push(heard);
    }
    if runs.len() < 2 {
        return None;
    }
    let units = &units[..hears.len()];
    let mut heard_by = vec![0u64; units.len()];
    for u in (0..=runs[runs.len() - 1]).rev() {
        for v in u + 1..units.len() {
            if heard_by[v] & !heard_by[u] != 0 && meet(&units[u].touched, &units[v].touched) {
                heard_by[u] |= heard_by[v];
            }
        }
        if let Some(run) = runs.iter().position(|&run| run == u) {
            heard_by[u] |= 1 << run;
        }
    }
    let mut places: Vec<Place> = Vec::new();
    for (u, unit) in units.iter().enumerate() {
        let met = (0..u).filter(|&v| meet(&units[v].touched, &unit.touched)).map(|v| places[v]);
        let met: Vec<Place> = met.filter(|place| *place != Place::Before).collect();
        // The only lane that it can be in.
        let lane = match (heard_by[u].count_ones(), &met[..]) {
            (0, [Place::Lane(lane), ..]) => Some(*lane),
            (1, _) => Some(heard_by[u].trailing_zeros() as usize),
            _ => None,
        };
        let place = match lane {
            None if met.is_empty() => Place::Before,
            Some(lane) if met.iter().all(|place| *place == Place::Lane(lane)) => Place::Lane(lane),
            _ => Place::Behind,
        };
        // What follows has no buffer in common with another lane that one of them writes, be it elsewhere.
        let clashes = |v: usize| {
            matches!(places[v], Place::Lane(_))
                && places[v] != place
                && share_written(&units[v].touched, &unit.touched)
        };
        places.push(match place {
            Place::Lane(_) if unit.stays => Place::Behind,
            Place::Lane(_) if heard_by[u] == 0 && (0..u).any(clashes) => Place::Behind,
            place => place,
        });
    }
    // No buffer is written by two lanes.
    let mut writers: HashMap<BufferId, Place> = HashMap::new();
    for (unit, &place) in units.iter().zip(&places).filter(|of| matches!(of.1, Place::Lane(_))) {
        for (id, _, _) in unit.touched.iter().filter(|touch| touch.2) {
            if *writers.entry(*id).or_insert(place) != place {
                return None;
            }
        }
    }
    // What leads to a run can't be put off.
    if places.iter().zip(&heard_by).any(|(place, by)| *place == Place::Behind && *by != 0) {
        return None;
    }
    let alone: Vec<f64> = runs.iter().map(|&run| time(&units[run], 1)).collect();
    let shares = shares(&alone, threads);
    let lane_time = |places: &[Place], lane: usize| -> f64 {
        let own = units.iter().zip(places).filter(|of| *of.1 == Place::Lane(lane));
        own.map(|of| time(of.0, shares[lane])).sum()
    };
    // What follows a run that takes long already is left to all threads.
    loop {
        let times: Vec<f64> = (0..runs.len()).map(|lane| lane_time(&places, lane)).collect();
        let shortest = times.iter().copied().fold(f64::INFINITY, f64::min);
        let last = |lane: usize| {
            let last = places.iter().rposition(|place| *place == Place::Lane(lane));
            last.filter(|&u| times[lane] > LONGER * shortest && heard_by[u] == 0)
        };
        let Some(u) = (0..runs.len()).find_map(last) else { break };
        places[u] = Place::Behind;
    }
    let in_lanes = || (0..units.len()).filter(|&u| matches!(places[u], Place::Lane(_)));
    let after: f64 = in_lanes().map(|u| time(&units[u], threads)).sum();
    let lanes = (0..runs.len()).map(|lane| lane_time(&places, lane));
    let beside = lanes.fold(0.0, f64::max) + WAKING as f64;
    // What is left for later may lead to lanes of its own.
    while places.last() == Some(&Place::Behind) {
        places.pop();
    }
    (asked || beside < GAIN * after).then_some((places, shares))
}

/// What a lane reads of buffers that other lanes write.
pub fn lent(units: &[Unit], places: &[Place], lane: usize) -> Vec<(BufferId, Range<usize>)> {
    let touches = |own: bool| {
        let pairs = units.iter().zip(places);
        let of = pairs.filter(move |of| match of.1 {
            Place::Lane(other) => (*other == lane) == own,
            _ => false,
        });
        of.flat_map(|of| &of.0.touched)
    };
    let written: HashSet<BufferId> = touches(false).filter(|t| t.2).map(|t| t.0).collect();
    let mut lent: Vec<(BufferId, Range<usize>)> = Vec::new();
    for (id, range, _) in touches(true).filter(|touch| written.contains(&touch.0)) {
        match lent.iter_mut().find(|known| known.0 == *id) {
            Some((_, known)) => *known = known.start.min(range.start)..known.end.max(range.end),
            None => lent.push((*id, range.clone())),
        }
    }
    lent
}

/// Whether one writes to a buffer that the other touches.
fn share_written(a: &Touches, b: &Touches) -> bool {
    a.iter()
        .any(|(id, _, writes)| b.iter().any(|(other, _, wrote)| id == other && (*writes || *wrote)))
}

/// Threads for lanes that take so long, one each at least.
fn shares(times: &[f64], threads: usize) -> Vec<usize> {
    let mut shares = vec![1; times.len()];
    for _ in times.len()..threads {
        // To the one that would take the longest.
        let now = |lane: usize| times[lane] / shares[lane] as f64;
        let longest = (0..times.len()).max_by(|&a, &b| now(a).total_cmp(&now(b)));
        shares[longest.unwrap_or(0)] += 1;
    }
    shares
}
