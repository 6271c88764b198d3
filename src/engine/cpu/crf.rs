//! `crf_scan`, `crf_posterior`, `crf_transitions`: linear-chain conditional random fields. The equations stand in the
//! shaders of these names.

use super::math::{Plain, exp};
use super::{Bound, Context};
use crate::kernel::{CrfForm, CrfPosterior, CrfScan, CrfTransitions, LossScale, VALID};
use rayon::prelude::*;

/// In marks: no step, and the last one of a row.
const NONE: u32 = u32::MAX;
const LAST: u32 = 1 << 31;
/// Terms that are summed before they join the others.
const BLOCK: usize = 64;
/// Transitions that a task takes at least.
const TASK: usize = 1 << 14;

/// Where a row of the batch stands.
#[derive(Clone, Default)]
struct Walk {
    begun: bool,
    /// The target before, and the last step's t.
    before: usize,
    last: usize,
    sum: f32,
    part: f32,
    terms: usize,
    /// M of this step.
    most: f32,
}

impl Walk {
    fn add(&mut self, term: f32) {
        self.part += term;
        self.terms += 1;
        if self.terms == BLOCK {
            self.sum += self.part;
            (self.part, self.terms) = (0.0, 0);
        }
    }
}

pub fn crf_scan(_: &Context, kernel: &CrfScan, mut bound: Bound) {
    let p = &kernel.params;
    let (time, batch, tags) = (p.time as usize, p.batch as usize, p.tags as usize);
    let steps = time * batch;
    let emissions = &bound.read("emissions")[p.emissions_offset as usize..][..steps * tags];
    let scores = bound.read("scores");
    let flags = bound.read("flags");
    let targets = bound.read("targets").get(p.targets_offset as usize..).unwrap_or_default();
    let targets: &[u32] = bytemuck::cast_slice(targets);
    let takes_part = |step: usize| {
        let flag = flags.get(p.flags_offset as usize + step);
        flag.is_none_or(|flag| flag.to_bits() & VALID != 0)
    };
    let (begin, end) = match kernel.form {
        CrfForm::Reverse => (&scores[(tags + 1) * tags..][..tags], &scores[tags * tags..][..tags]),
        _ => (&scores[tags * tags..][..tags], &scores[(tags + 1) * tags..][..tags]),
    };
    let from = if kernel.form == CrfForm::Reverse { (tags + 2) * tags } else { 0 };
    let transitions = &scores[from..][..tags * tags];
    let labelled = matches!(kernel.form, CrfForm::Forward { .. });
    let best_form = kernel.form == CrfForm::Best;

    let states = bound.write("states");
    let marks: &mut [u32] = bytemuck::cast_slice_mut(bound.write("marks"));
    let pointers: &mut [u32] = bytemuck::cast_slice_mut(bound.write("pointers"));
    let mut walks = vec![Walk { before: tags, ..Walk::default() }; batch];
    let (mut held, mut next) = (vec![0f32; batch * tags], vec![0f32; batch * tags]);
    let carry = bound.write("carry");
    if p.first > 0 {
        let each = carry.chunks(carry.len() / batch).zip(held.chunks_mut(tags)).zip(&mut walks);
        for ((carry, held), walk) in each {
            held.copy_from_slice(&carry[..tags]);
            let &[begun, before, last, sum] = &carry[tags..] else { continue };
            let (before, last) = (before as usize, last as usize);
            *walk = Walk { begun: begun != 0.0, before, last, sum, ..Walk::default() };
        }
    }
    // Where nothing points, so that all rows have a place.
    let mut nowhere = vec![0u32; if best_form { 0 } else { batch * tags }];
    let rows = (TASK / (tags * tags)).max(1);
    for s in (p.first..p.first + p.count).map(|s| s as usize) {
        let t = if kernel.form == CrfForm::Reverse { time - 1 - s } else { s };
        let first = t * batch;
        let to = match best_form {
            true => &mut pointers[first * tags..][..batch * tags],
            false => &mut nowhere[..],
        };
        let each = walks.par_iter_mut().zip(next.par_chunks_mut(tags)).enumerate();
        let each = each.zip(held.par_chunks(tags)).zip(to.par_chunks_mut(tags));
        each.with_min_len(rows).for_each(|(((row, (walk, next)), held), to)| {
            let step = first + row;
            walk.most = 0.0;
            if !takes_part(step) {
                next.copy_from_slice(held);
                return;
            }
            let emission = &emissions[step * tags..][..tags];
            if !walk.begun {
                for ((x, begin), e) in next.iter_mut().zip(begin).zip(emission) {
                    *x = begin + e;
                }
            } else if best_form {
                walk.most = largest(held);
                best_step(held, transitions, walk.most, next, to);
                next.iter_mut().zip(emission).for_each(|(x, e)| *x += e);
            } else {
                walk.most = largest(held);
                sum_step(held, transitions, walk.most, next);
                next.iter_mut().zip(emission).for_each(|(x, e)| *x += e);
            }
            let mut term = walk.most;
            if labelled {
                let label = (targets[step] as usize).min(tags - 1);
                term -= scores[walk.before * tags + label] + emission[label];
                walk.last = t;
            }
            walk.add(term);
            walk.begun = true;
        });
        std::mem::swap(&mut held, &mut next);
        for (row, walk) in walks.iter_mut().enumerate() {
            let step = first + row;
            if let Some(state) = states.get_mut(step * (tags + 1)..(step + 1) * (tags + 1)) {
                state[..tags].copy_from_slice(&held[row * tags..][..tags]);
                state[tags] = walk.most;
            }
            if labelled {
                marks[step] = NONE;
                if takes_part(step) {
                    let label = (targets[step] as usize).min(tags - 1);
                    marks[step] = (walk.before * tags + label) as u32;
                    walk.before = label;
                }
            }
        }
    }
    if p.first + p.count < p.time {
        let each = carry.chunks_mut(carry.len() / batch).zip(held.chunks(tags)).zip(&walks);
        for ((carry, held), walk) in each {
            carry[..tags].copy_from_slice(held);
            let numbers = [usize::from(walk.begun), walk.before, walk.last];
            carry[tags..].iter_mut().zip(numbers).for_each(|(c, n)| *c = n as f32);
            carry[tags + numbers.len()] = walk.sum + walk.part;
        }
        return;
    }
    let losses = bound.write("losses");
    let (path, best) = (bound.write("path"), bound.write("best"));
    for (row, (walk, held)) in walks.iter().zip(held.chunks(tags)).enumerate() {
        let ends = || held.iter().zip(end).map(|(x, end)| x + end);
        if labelled {
            marks[steps + row] = u32::from(walk.begun);
            losses[row] = 0.0;
            if walk.begun {
                let peak = ends().fold(f32::MIN, f32::max);
                let total: f32 = ends().map(|x| exp::<Plain>(x - peak)).sum();
                losses[row] = walk.sum + (walk.part + (peak - end[walk.before]) + total.ln());
                marks[walk.last * batch + row] |= LAST;
            }
        }
        if best_form {
            let (mut tag, mut peak) = (0, f32::MIN);
            for (j, other) in ends().enumerate() {
                if other > peak {
                    (tag, peak) = (j, other);
                }
            }
            best[row] = if walk.begun { walk.sum + (walk.part + peak) } else { 0.0 };
            // The first step that takes part has no pointers, and none before it asks for them.
            for t in (0..time).rev() {
                let step = t * batch + row;
                path[step] = -1.0;
                if takes_part(step) {
                    path[step] = tag as f32;
                    tag = pointers[step * tags + tag] as usize;
                }
            }
        }
    }
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(f32::MIN, |a, &b| if b > a { b } else { a })
}

/// next(j) = log Σᵢ exp(x(i) − M + A(i,j)).
fn sum_step(held: &[f32], transitions: &[f32], most: f32, next: &mut [f32]) {
    let tags = next.len();
    let mut peaks = vec![f32::MIN; tags];
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (x, row) in held.iter().zip(transitions.chunks_exact(tags)) {
                let x = x - most;
                for (peak, a) in peaks.iter_mut().zip(row) {
                    let other = x + a;
                    *peak = if other > *peak { other } else { *peak };
                }
            }
            next.fill(0.0);
            for (x, row) in held.iter().zip(transitions.chunks_exact(tags)) {
                let x = x - most;
                for ((sum, peak), a) in next.iter_mut().zip(&peaks).zip(row) {
                    *sum += exp::<Plain>(x + a - peak);
                }
            }
        },
    );
    next.iter_mut().zip(&peaks).for_each(|(x, peak)| *x = peak + x.ln());
}

/// next(j) = maxᵢ (x(i) − M + A(i,j)), and the first i of which it is that.
fn best_step(held: &[f32], transitions: &[f32], most: f32, next: &mut [f32], from: &mut [u32]) {
    let tags = next.len();
    next.fill(f32::MIN);
    for (i, (x, row)) in held.iter().zip(transitions.chunks_exact(tags)).enumerate() {
        let x = x - most;
        for ((peak, from), a) in next.iter_mut().zip(from.iter_mut()).zip(row) {
            if x + a > *peak {
                (*peak, *from) = (x + a, i as u32);
            }
        }
    }
}

/// The states of a step, and what its target is.
struct Step<'a> {
    states: &'a [f32],
    emission: &'a [f32],
    label: usize,
}

impl Step<'_> {
    fn q(&self, right: &[f32], j: usize) -> f32 {
        self.states[j] + right[j] - self.emission[j]
    }

    /// (max q, Σ of the others' exp(q − max), Σ of all).
    fn sums(&self, right: &[f32]) -> [f32; 3] {
        let tags = self.emission.len();
        let most = (0..tags).map(|j| self.q(right, j)).fold(f32::MIN, f32::max);
        let share = |j: usize| exp::<Plain>(self.q(right, j) - most);
        let others = (0..tags).filter(|&j| j != self.label).map(share).sum::<f32>();
        [most, others, others + share(self.label)]
    }

    /// p(j) − \[j = target\].
    fn slope(&self, right: &[f32], [most, others, sum]: [f32; 3], j: usize) -> f32 {
        let share = if j == self.label { -others } else { exp::<Plain>(self.q(right, j) - most) };
        share / sum
    }
}

pub fn crf_posterior(_: &Context, kernel: &CrfPosterior, mut bound: Bound) {
    let p = &kernel.params;
    let (batch, tags) = (p.batch as usize, p.tags as usize);
    let steps = p.time as usize * batch;
    let emissions = &bound.read("emissions")[p.emissions_offset as usize..][..steps * tags];
    let states = &bound.read("states")[..steps * (tags + 1)];
    let marks: &[u32] = bytemuck::cast_slice(&bound.read("marks")[..steps]);
    let total = bound.read("total")[0];
    let mut scale = if total > 0.0 { p.factor / total } else { 0.0 };
    if kernel.scaled {
        scale *= LossScale::new(bound.read("loss_scale")).scale();
    }
    let right = &mut bound.write("right")[..steps * (tags + 1)];
    let ends = bound.write("ends");
    let at = |step: usize| Step {
        states: &states[step * (tags + 1)..][..tags + 1],
        emission: &emissions[step * tags..][..tags],
        label: (marks[step] & !LAST) as usize % tags,
    };
    // The ends first: the states backward are replaced below.
    for (step, &mark) in marks.iter().enumerate().filter(|m| *m.1 != NONE) {
        let is_first = (mark & !LAST) as usize / tags == tags;
        for (which, is_end) in [is_first, mark & LAST != 0].into_iter().enumerate() {
            if is_end {
                let (of, right) = (at(step), &right[step * (tags + 1)..][..tags]);
                let sums = of.sums(right);
                let d = &mut ends[(which * batch + step % batch) * tags..][..tags];
                d.iter_mut().enumerate().for_each(|(j, d)| *d = scale * of.slope(right, sums, j));
            }
        }
    }
    let step_of = |step: usize, right: &mut [f32], d: Option<&mut [f32]>| {
        let counts = marks[step] != NONE;
        let add = kernel.accumulate;
        if !counts {
            d.filter(|_| !add).into_iter().for_each(|d| d.fill(0.0));
            return;
        }
        let of = at(step);
        let sums = of.sums(right);
        for (j, d) in d.into_iter().flatten().enumerate() {
            let slope = scale * of.slope(right, sums, j);
            *d = if add { slope + *d } else { slope };
        }
        let shift = sums[0] + sums[2].ln() + of.states[tags];
        right[..tags].iter_mut().for_each(|x| *x -= shift);
    };
    let rows = (TASK / tags).max(1);
    let each = right.par_chunks_mut(tags + 1).enumerate().with_min_len(rows);
    match kernel.gradient {
        true => {
            let d = bound.write("d_emissions");
            let d = d[p.gradient_offset as usize..][..steps * tags].par_chunks_mut(tags);
            each.zip(d).for_each(|((step, right), d)| step_of(step, right, Some(d)));
        }
        false => each.for_each(|(step, right)| step_of(step, right, None)),
    }
}

pub fn crf_transitions(_: &Context, kernel: &CrfTransitions, mut bound: Bound) {
    let p = &kernel.params;
    let (end, batch, tags) = (p.end as usize, p.batch as usize, p.tags as usize);
    let (states, right) = (bound.read("states"), bound.read("right"));
    let scores = &bound.read("scores")[..tags * tags];
    let marks: &[u32] = bytemuck::cast_slice(&bound.read("marks")[..end]);
    let total = bound.read("total")[0];
    let mut scale = if total > 0.0 { p.factor / total } else { 0.0 };
    if kernel.scaled {
        scale *= LossScale::new(bound.read("loss_scale")).scale();
    }
    let parts = &mut bound.write("parts")[..kernel.parts() * tags * tags];
    let rows = parts.par_chunks_mut(tags).enumerate();
    let least = (TASK / (p.chunk as usize * tags)).max(1);
    rows.with_min_len(least).for_each_init(Vec::new, |sums: &mut Vec<f32>, (number, target)| {
        let (part, i) = (number / tags, number % tags);
        let score = &scores[i * tags..][..tags];
        let first = p.first as usize + part * p.chunk as usize;
        sums.clear();
        sums.resize(tags, 0.0);
        for step in first..(first + p.chunk as usize).min(end) {
            let pair = (marks[step] & !LAST) as usize;
            // The first step of a row has none before.
            if marks[step] == NONE || pair / tags == tags {
                continue;
            }
            let x = states[(step - batch) * (tags + 1) + i];
            let right = &right[step * (tags + 1)..][..tags];
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for ((sum, a), w) in sums.iter_mut().zip(score).zip(right) {
                        *sum += exp::<Plain>(x + a + w);
                    }
                },
            );
            if pair / tags == i {
                sums[pair % tags] -= 1.0;
            }
        }
        for (target, sum) in target.iter_mut().zip(&*sums) {
            *target = if kernel.accumulate { *target + scale * sum } else { scale * sum };
        }
    });
}
