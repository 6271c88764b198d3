//! Layers beside one another: layer l at some steps beside layer l+1 at the steps before.
//!
//! A recording has all steps of a layer, then what leads to the next one (a product, a dropout, a sum), then all of
//! its steps. Here such a chain is cut into parts of time and put in the order of the diagonals: part c of layer l
//! comes with part c−1 of layer l+1, so that the two need not wait for each other and go in one launch
//! (`beside.rs`). What takes no part in it goes before the chain or behind it. Whether a launch may come before
//! another is seen from the elements that both touch, so a chain that can't be cut stays whole. Every element is
//! computed as before: the bits stay.

use super::sequences::{REFUSED, Run, Runs, is_step};
use super::{Context, GpuEngine};
use crate::engine::{Choice, Strategy};
use crate::error::Result;
use crate::kernel::{BufferId, Op};
use crate::recording::{Launch, Recording};
use std::borrow::Cow;
use std::ops::Range;

/// Launches that are looked over for what leads from one layer to the next.
const FAR: usize = 200;

/// Parts of a chain that was not measured.
const PARTS: usize = 8;

/// In how many parts a chain is tried.
const CANDIDATES: [usize; 2] = [4, 16];

/// What a chain in parts must take of the time of the whole to be worth it.
const GAIN: f64 = 0.98;

/// Steps of a part, at least.
const FEWEST: usize = 2;

impl GpuEngine {
    /// The recording with layers beside one another.
    pub(super) fn wavefront<'a>(&self, recording: &'a Recording) -> Cow<'a, Recording> {
        if !may(&self.context, recording) {
            return Cow::Borrowed(recording);
        }
        let launches = recording.launches();
        let (mut out, mut at) = (Vec::new(), 0);
        let mut found = false;
        while at < launches.len() {
            let parts = |chain: &Chain| self.parts(recording, chain);
            match Chain::find(&launches[at..]).and_then(|chain| chain.cut(parts(&chain))) {
                Some((list, consumed)) => {
                    out.extend(list);
                    at += consumed;
                    found = true;
                }
                None => {
                    let run = Runs(&launches[at..]).next().map_or(1, |run| run.all.len());
                    out.extend_from_slice(&launches[at..at + run]);
                    at += run;
                }
            }
        }
        if found { Cow::Owned(recording.with_launches(out)) } else { Cow::Borrowed(recording) }
    }

    /// The chains of a recording, as far as they can be cut.
    pub(super) fn chains<'a>(&self, recording: &'a Recording) -> Vec<Chain<'a>> {
        let launches = recording.launches();
        let (mut list, mut at) = (Vec::new(), 0);
        while may(&self.context, recording) && at < launches.len() {
            match Chain::find(&launches[at..]) {
                Some(chain) => {
                    at += chain.consumed;
                    list.push(chain);
                }
                None => at += Runs(&launches[at..]).next().map_or(1, |run| run.all.len()),
            }
        }
        list
    }

    /// Into how many parts a chain is cut; 1: not at all.
    fn parts(&self, recording: &Recording, chain: &Chain) -> usize {
        match self.context.strategy {
            Strategy::Wavefront => PARTS,
            _ => self.measured_parts(recording, chain).map_or(1, |(parts, _)| parts),
        }
    }

    /// Milliseconds of a chain as it is and in parts, and in how many: those that were found to be the fastest, 1
    /// where it is as fast without.
    fn measured_parts(&self, recording: &Recording, chain: &Chain) -> Option<(usize, [f64; 2])> {
        let of = |parts| Some((parts, self.known(&self.chain_key(recording, chain, parts)?)?));
        let all = CANDIDATES.into_iter().filter_map(of);
        let (parts, ms) = all.min_by(|a, b| a.1[1].total_cmp(&b.1[1]))?;
        Some(if ms[1] < GAIN * ms[0] { (parts, ms) } else { (1, ms) })
    }

    /// What the times of a chain depend on.
    fn chain_key(&self, recording: &Recording, chain: &Chain, parts: usize) -> Option<String> {
        let steps = course(&chain.runs[0])?.0;
        if parts_of(steps, parts).len() < 2 {
            return None;
        }
        let mut text = format!("wavefront of {steps} steps in {parts} parts");
        for (run, links) in chain.runs.iter().zip(&chain.links) {
            for link in links {
                let kernel = link.op.kernel();
                text.push_str(&format!(", {} {:?}", kernel.name(), kernel.groups()));
            }
            text.push_str(&format!(", {}", self.key(recording, run, &run.steps[0].op)));
        }
        Some(text)
    }

    /// Measures the chains that were not measured yet.
    pub(super) fn measure_chains(&self, recording: &Recording) -> bool {
        let mut more = false;
        for chain in self.chains(recording) {
            for parts in CANDIDATES {
                let Some(key) = self.chain_key(recording, &chain, parts) else { continue };
                if self.known(&key).is_none() {
                    let found = self.measure_chain(recording, &chain, parts);
                    self.set_known(key, found.unwrap_or([0.0, REFUSED]));
                    more = true;
                }
            }
        }
        more
    }

    /// Milliseconds of a chain over buffers of its own, as it is and in so many parts.
    fn measure_chain(
        &self,
        recording: &Recording,
        chain: &Chain,
        parts: usize,
    ) -> Result<[f64; 2]> {
        let whole = chain.whole();
        let cut = chain.diagonals(parts).unwrap_or_default();
        let bindings = whole.iter().flat_map(|launch| {
            let of = recording.bindings(launch).into_iter();
            of.map(|binding| binding.name).zip(launch.buffers.clone()).collect::<Vec<_>>()
        });
        let alone = self.alone();
        let arrange = |recording: &Recording| alone.beside(alone.together(recording), &[]);
        self.measure_ways(recording, bindings.collect(), [whole, cut], arrange)
    }

    /// How the layers of a recording go beside one another.
    pub(super) fn chain_choices(&self, recording: &Recording) -> Vec<Choice> {
        let mut list = Vec::new();
        for chain in self.chains(recording) {
            let Some((steps, _)) = course(&chain.runs[0]) else { continue };
            let measured = self.measured_parts(recording, &chain).map(|found| found.1);
            let parts = parts_of(steps, self.parts(recording, &chain)).len();
            let asked = self.context.strategy == Strategy::Wavefront;
            list.push(Choice {
                kernel: chain.runs[0].steps[0].op.kernel().name(),
                layers: chain.runs.len(),
                steps,
                strategy: if parts > 1 { Strategy::Wavefront } else { Strategy::Auto },
                measured_ms: measured.map(|ms| ms.map(|ms| ms / steps as f64)),
                reason: match (asked, measured) {
                    (true, _) => "asked for".to_string(),
                    (_, Some(_)) => "the faster one, measured".to_string(),
                    (_, None) => "not measured here: one layer after another".to_string(),
                },
                cut: (parts > 1).then(|| format!("in {parts} parts of time")),
            });
        }
        list
    }
}

/// Whether layers may go beside one another at all.
fn may(context: &Context, recording: &Recording) -> bool {
    let asked = matches!(context.strategy, Strategy::Auto | Strategy::Wavefront);
    asked && context.beside && !recording.is_frugal()
}

/// Layers one after another, and what comes between them.
pub(super) struct Chain<'a> {
    /// All steps of each layer.
    pub runs: Vec<Run<'a>>,
    /// What leads to each layer from those before it; to the first nothing.
    links: Vec<Vec<&'a Launch>>,
    before: Vec<&'a Launch>,
    behind: Vec<&'a Launch>,
    /// Launches of the recording that are part of it.
    pub consumed: usize,
}

/// The elements of buffers that something touches.
type Touches = Vec<(BufferId, Range<usize>, bool)>;

/// What launches touch: one by one, or steps that follow one another.
fn touches(launches: &[Launch]) -> Touches {
    let of = |launch: &Launch| -> Touches {
        let id = |binding: usize| launch.buffers[binding];
        let each = launch.op.touched().into_iter();
        each.map(|touched| (id(touched.binding), touched.elements, touched.writes)).collect()
    };
    let mut list: Touches = match launches {
        // Those between touch the same, moved by a step each.
        [first, second, .., before, last] => {
            let between = of(second).into_iter().zip(of(before));
            let hull =
                |((id, a, writes), (_, b, _)): ((_, Range<usize>, _), (_, Range<usize>, _))| {
                    (id, a.start.min(b.start)..a.end.max(b.end), writes)
                };
            of(first).into_iter().chain(between.map(hull)).chain(of(last)).collect()
        }
        _ => launches.iter().flat_map(of).collect(),
    };
    list.sort_by_key(|(id, elements, writes)| (*id, *writes, elements.start));
    list.dedup_by(|next, kept| {
        let joins = next.0 == kept.0 && next.2 == kept.2 && next.1.start <= kept.1.end;
        if joins {
            kept.1.end = kept.1.end.max(next.1.end);
        }
        joins
    });
    list
}

fn meet(a: &Touches, b: &Touches) -> bool {
    a.iter().any(|(id, elements, writes)| {
        b.iter().any(|(other, others, wrote)| {
            id == other
                && (*writes || *wrote)
                && elements.start < others.end
                && others.start < elements.end
        })
    })
}

/// The steps of each of so many parts, in the order of the run.
fn parts_of(steps: usize, parts: usize) -> Vec<Range<usize>> {
    let each = steps.div_ceil(parts.max(1)).max(FEWEST);
    let mut list: Vec<_> = (0..steps).step_by(each).map(|s| s..steps.min(s + each)).collect();
    // A lone step would be another kernel's.
    if let [.., before, last] = &mut list[..]
        && last.len() < FEWEST
    {
        before.end = last.end;
        list.pop();
    }
    list
}

/// The first time index of a run, and whether it goes on to later ones.
fn course(run: &Run) -> Option<(usize, bool)> {
    let time = |op: &Op| match op {
        Op::StepForward(step) => Some((step.params.t, step.params.time)),
        Op::StepBackward(step) => Some((step.params.t, step.params.time)),
        _ => None,
    };
    let [first, last] = [&run.steps[0].op, &run.steps[run.steps.len() - 1].op];
    let ((first, all), (last, _)) = (time(first)?, time(last)?);
    // All steps of the sequence.
    let whole = all as usize == run.steps.len() && all as usize >= 2 * FEWEST;
    whole.then_some((all as usize, last > first))
}

/// A run, or what leads to one, in parts: their launches, and what those touch.
#[derive(Clone)]
struct Node {
    parts: Vec<Vec<Launch>>,
    touched: Vec<Touches>,
}

impl Node {
    fn new(parts: Vec<Vec<Launch>>) -> Self {
        let touched = parts.iter().map(|part| touches(part)).collect();
        Node { parts, touched }
    }
}

/// How a chain is cut: into the same steps everywhere.
struct Cut {
    time: usize,
    onwards: bool,
    /// In the order of the runs.
    parts: Vec<Range<usize>>,
}

impl Cut {
    fn new((time, onwards): (usize, bool), parts: usize) -> Self {
        Cut { time, onwards, parts: parts_of(time, parts) }
    }

    /// A run in parts; what comes behind its steps belongs to the last.
    fn run(&self, run: &Run) -> Node {
        let last = self.parts.len() - 1;
        let of = |(c, part): (usize, &Range<usize>)| {
            let end = if c == last { run.all.len() } else { part.end };
            run.all[part.start..end].to_vec()
        };
        Node::new(self.parts.iter().enumerate().map(of).collect())
    }

    /// A launch in parts, where it goes over the steps one by one.
    fn link(&self, launch: &Launch) -> Option<Node> {
        let of = |part: &Range<usize>| {
            let steps = match self.onwards {
                true => part.clone(),
                false => self.time - part.end..self.time - part.start,
            };
            let op = launch.op.of_steps(self.time, &steps)?;
            Some(vec![Launch { op, buffers: launch.buffers.clone() }])
        };
        Some(Node::new(self.parts.iter().map(of).collect::<Option<_>>()?))
    }

    /// Whether no part of a node has to wait for a later part of those before it.
    fn follows(&self, before: &[Node], node: &Node) -> bool {
        before.iter().all(|other| {
            let own = node.touched.iter().enumerate();
            let later = |c: usize| &other.touched[c + 1..];
            own.into_iter().all(|(c, part)| later(c).iter().all(|o| !meet(part, o)))
        })
    }
}

impl<'a> Chain<'a> {
    /// The chain that begins with the first of these launches.
    fn find(launches: &'a [Launch]) -> Option<Self> {
        let first = Runs(launches).next().filter(|run| is_step(&run.steps[0].op))?;
        let course_of_all = course(&first)?;
        let consumed = first.all.len();
        let mut chain = Chain {
            runs: vec![first],
            links: vec![Vec::new()],
            before: Vec::new(),
            behind: Vec::new(),
            consumed,
        };
        // Whole launches: what the chain, and what comes behind it, touch; and the chain in two parts.
        let mut own = touches(chain.runs[0].all);
        let mut others = Touches::new();
        let cut = Cut::new(course_of_all, 2);
        let mut nodes = vec![cut.run(&chain.runs[0])];
        loop {
            let rest = &launches[chain.consumed..];
            let (mut links, mut before, mut behind) = (Vec::new(), Vec::new(), Vec::new());
            let (mut all, mut later, mut parts) = (own.clone(), others.clone(), nodes.clone());
            let mut seen = 0;
            let mut next = None;
            for run in Runs(rest) {
                if run.steps.len() > 1 {
                    next = Some(run);
                    break;
                }
                for launch in run.all {
                    let touched = touches(std::slice::from_ref(launch));
                    let (on_chain, on_later) = (meet(&touched, &all), meet(&touched, &later));
                    let link = || cut.link(launch).filter(|of| cut.follows(&parts, of));
                    let linked = if on_chain && !on_later { link() } else { None };
                    match linked {
                        Some(of) => {
                            all.extend(touched);
                            parts.push(of);
                            links.push(launch);
                        }
                        None if on_chain || on_later => {
                            later.extend(touched);
                            behind.push(launch);
                        }
                        None => before.push(launch),
                    }
                }
                seen += run.all.len();
                if seen > FAR {
                    break;
                }
            }
            let Some(run) = next.filter(|run| course(run) == Some(course_of_all)) else { break };
            let touched = touches(run.all);
            let by_links: Touches =
                links.iter().flat_map(|link| touches(std::slice::from_ref(link))).collect();
            let of = cut.run(&run);
            let fits = meet(&touched, &by_links) && cut.follows(&parts, &of);
            if meet(&touched, &later) || !fits {
                break;
            }
            all.extend(touched);
            parts.push(of);
            (own, others, nodes) = (all, later, parts);
            chain.consumed += seen + run.all.len();
            chain.runs.push(run);
            chain.links.push(links);
            chain.before.extend(before);
            chain.behind.extend(behind);
        }
        (chain.runs.len() > 1).then_some(chain)
    }

    /// Each part of each node, node by node in the order of the recording, with its layer and whether it is the
    /// layer's steps: none where they can't be cut so.
    fn nodes(&self, cut: &Cut) -> Option<Vec<(usize, bool, Node)>> {
        let mut nodes: Vec<(usize, bool, Node)> = Vec::new();
        for (layer, (run, links)) in self.runs.iter().zip(&self.links).enumerate() {
            for link in links {
                nodes.push((layer, false, cut.link(link)?));
            }
            nodes.push((layer, true, cut.run(run)));
        }
        let all: Vec<Node> = nodes.iter().map(|node| node.2.clone()).collect();
        let follow = (1..all.len()).all(|i| cut.follows(&all[..i], &all[i]));
        follow.then_some(nodes)
    }

    /// The launches of the chain in the order of the diagonals.
    pub fn diagonals(&self, parts: usize) -> Option<Vec<Launch>> {
        let cut = Cut::new(course(&self.runs[0])?, parts);
        let nodes = self.nodes(&cut)?;
        let mut list = Vec::new();
        for diagonal in 0..cut.parts.len() + self.runs.len() - 1 {
            // What leads to the layers, then the layers.
            for runs in [false, true] {
                for (layer, _, node) in nodes.iter().filter(|node| node.1 == runs) {
                    let part = diagonal.checked_sub(*layer).and_then(|part| node.parts.get(part));
                    list.extend(part.into_iter().flatten().cloned());
                }
            }
        }
        Some(list)
    }

    /// All launches, the chain in so many parts, and how many launches of the recording they are.
    fn cut(&self, parts: usize) -> Option<(Vec<Launch>, usize)> {
        if parts < 2 {
            return None;
        }
        let cloned =
            |list: &[&Launch]| list.iter().map(|&launch| launch.clone()).collect::<Vec<_>>();
        let mut list = cloned(&self.before);
        list.extend(self.diagonals(parts)?);
        list.extend(cloned(&self.behind));
        Some((list, self.consumed))
    }

    /// The launches of the chain as they are recorded, without those around it.
    pub fn whole(&self) -> Vec<Launch> {
        let mut list = Vec::new();
        for (run, links) in self.runs.iter().zip(&self.links) {
            list.extend(links.iter().map(|&link| link.clone()));
            list.extend_from_slice(run.all);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_steps_and_none_is_alone() {
        for steps in 4..40 {
            for parts in 2..12 {
                let list = parts_of(steps, parts);
                assert!(list.len() <= parts && list.iter().all(|part| part.len() >= FEWEST));
                assert_eq!(list.iter().flat_map(Range::clone).collect::<Vec<_>>().len(), steps);
                assert!(list.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        }
    }
}
