//! Layers beside one another: layer l at some steps beside layer l+1 at the steps before.
//!
//! A recording has all steps of a layer, then what leads to the next one (a product, a dropout, a sum), then all of
//! its steps. Here such a chain is cut into parts of time and put in the order of the diagonals: part c of layer l
//! comes with part c−1 of layer l+1, so that the two need not wait for each other. What takes no part in it goes before
//! the chain or behind it. Whether a launch may come before another is seen from the elements that both touch, so a
//! chain that can't be cut stays whole. Every element is computed as before: the bits stay.

use super::touches::{Touches, meet, touches};
use crate::kernel::{BackwardPhase, Op, StepParams};
use crate::recording::Launch;
use std::borrow::Cow;
use std::ops::Range;

/// Launches that are looked over for what leads from one layer to the next.
const FAR: usize = 200;

/// Steps of a part, at least.
const FEWEST: usize = 2;

/// Launches of a layer that begins with these, or one.
fn past(launches: &[Launch]) -> usize {
    Layer::find(launches).map_or(1, |layer| layer.all.len())
}

/// Layers one after another, and what comes between them.
pub struct Chain<'a> {
    /// Each layer's steps.
    pub layers: Vec<Layer<'a>>,
    /// What leads to each layer from those before it; to the first nothing.
    pub links: Vec<Vec<&'a Launch>>,
    before: Vec<&'a Launch>,
    behind: Vec<&'a Launch>,
    /// Launches of the recording that are part of it.
    pub consumed: usize,
}

/// The steps of each of so many parts, in the order of the run.
pub fn parts_of(steps: usize, parts: usize) -> Vec<Range<usize>> {
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

/// All steps of a layer and direction, each of one launch or of a few.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// With the phase Initial behind backward steps.
    pub all: &'a [Launch],
    /// Launches of a step.
    pub phases: usize,
    pub course: Course,
}

/// The steps of a sequence, and whether they are taken from its beginning to its end.
#[derive(Clone, Copy, PartialEq)]
pub struct Course {
    pub time: usize,
    onwards: bool,
}

/// The parameters of a launch that is part of a step.
fn step_params(op: &Op) -> Option<&StepParams> {
    match op {
        Op::StepForward(step) => Some(&step.params),
        Op::StepBackward(step) if step.phase != BackwardPhase::Initial => Some(&step.params),
        Op::NormForward(step) => Some(&step.params),
        Op::NormBackward(step) => Some(&step.params),
        _ => None,
    }
}

/// Whether two launches are the same part of two steps, as far as the buffers tell.
fn alike(a: &Launch, b: &Launch) -> bool {
    a.buffers == b.buffers && std::mem::discriminant(&a.op) == std::mem::discriminant(&b.op)
}

impl<'a> Layer<'a> {
    /// The steps that these launches begin with, if they are all of a sequence.
    fn find(launches: &'a [Launch]) -> Option<Self> {
        let first = step_params(&launches.first()?.op)?;
        let (time, from) = (first.time as usize, first.t);
        let of = |launch: &Launch| step_params(&launch.op).map(|params| params.t);
        let phases = launches.iter().take_while(|launch| of(launch) == Some(from)).count();
        let onwards = from == 0;
        let steps = time.checked_mul(phases)?;
        if time < 2 * FEWEST
            || launches.len() < steps
            || from != if onwards { 0 } else { first.time - 1 }
        {
            return None;
        }
        let follow = |(number, launch): (usize, &Launch)| {
            let (step, phase) = ((number / phases) as u32, number % phases);
            let t = if onwards { step } else { from - step };
            // The last step heard from none and binds less.
            let like = &launches[if number < phases { phase } else { phases + phase }];
            of(launch) == Some(t) && alike(launch, like)
        };
        if !launches[..steps].iter().enumerate().all(follow) {
            return None;
        }
        let initial = |launch: &&Launch| matches!(&launch.op, Op::StepBackward(step) if step.phase == BackwardPhase::Initial);
        let end = steps + usize::from(launches.get(steps).filter(initial).is_some());
        Some(Layer { all: &launches[..end], phases, course: Course { time, onwards } })
    }
}

/// A run, or what leads to one, in parts: their launches, and what those touch.
#[derive(Clone)]
pub struct Node<'a> {
    pub parts: Vec<Cow<'a, [Launch]>>,
    touched: Vec<Touches>,
}

/// How a chain is cut: into the same steps everywhere.
pub struct Cut {
    course: Course,
    /// In the order of the steps.
    pub parts: Vec<Range<usize>>,
}

impl Cut {
    pub fn new(course: Course, parts: usize) -> Self {
        Cut { course, parts: parts_of(course.time, parts) }
    }

    /// A layer in parts; what comes behind its steps belongs to the last.
    fn layer<'a>(&self, layer: &Layer<'a>) -> Node<'a> {
        let last = self.parts.len() - 1;
        let of = |(c, part): (usize, &Range<usize>)| {
            let end = if c == last { layer.all.len() } else { part.end * layer.phases };
            Cow::Borrowed(&layer.all[part.start * layer.phases..end])
        };
        let parts: Vec<_> = self.parts.iter().enumerate().map(of).collect();
        let touched = parts.iter().map(|part| touches(part, layer.phases)).collect();
        Node { parts, touched }
    }

    /// The steps of a part in the order of time.
    fn steps(&self, part: &Range<usize>) -> Range<usize> {
        let Course { time, onwards } = self.course;
        if onwards { part.clone() } else { time - part.end..time - part.start }
    }

    /// A launch in parts, where it goes over the steps one by one.
    fn link(&self, launch: &Launch) -> Option<Node<'static>> {
        let of = |part: &Range<usize>| {
            let op = launch.op.of_steps(self.course.time, &self.steps(part))?;
            Some(Cow::Owned(vec![Launch { op, buffers: launch.buffers.clone() }]))
        };
        let parts: Vec<Cow<[Launch]>> = self.parts.iter().map(of).collect::<Option<_>>()?;
        let touched = parts.iter().map(|part| touches(part, 1)).collect();
        Some(Node { parts, touched })
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

/// All chains of some launches.
pub fn chains(launches: &[Launch]) -> Vec<Chain<'_>> {
    let (mut list, mut at) = (Vec::new(), 0);
    while at < launches.len() {
        match Chain::find(&launches[at..]) {
            Some(chain) => {
                at += chain.consumed;
                list.push(chain);
            }
            None => at += past(&launches[at..]),
        }
    }
    list
}

/// The launches with each chain in the parts that it is given, if any is cut.
pub fn cut_chains(
    launches: &[Launch],
    cut: impl Fn(&Chain) -> Option<Vec<Launch>>,
) -> Option<Vec<Launch>> {
    let (mut out, mut at, mut found) = (Vec::new(), 0, false);
    while at < launches.len() {
        let chain = Chain::find(&launches[at..]);
        let list = chain.as_ref().and_then(&cut);
        let end = at + chain.map_or_else(|| past(&launches[at..]), |chain| chain.consumed);
        found |= list.is_some();
        match list {
            Some(list) => out.extend(list),
            None => out.extend_from_slice(&launches[at..end]),
        }
        at = end;
    }
    found.then_some(out)
}

impl<'a> Chain<'a> {
    /// The chain that begins with the first of these launches.
    pub fn find(launches: &'a [Launch]) -> Option<Self> {
        let first = Layer::find(launches)?;
        let mut chain = Chain {
            layers: vec![first],
            links: vec![Vec::new()],
            before: Vec::new(),
            behind: Vec::new(),
            consumed: first.all.len(),
        };
        // Whole launches: what the chain, and what comes behind it, touch; and the chain in two parts.
        let mut own = touches(first.all, first.phases);
        let mut others = Touches::new();
        let cut = Cut::new(first.course, 2);
        let mut nodes = vec![cut.layer(&first)];
        loop {
            let rest = &launches[chain.consumed..];
            let (mut links, mut before, mut behind) = (Vec::new(), Vec::new(), Vec::new());
            let (mut all, mut later, mut parts) = (own.clone(), others.clone(), nodes.clone());
            let mut by_links = Touches::new();
            let mut next = None;
            for (seen, launch) in rest.iter().enumerate().take(FAR) {
                if let Some(layer) = Layer::find(&rest[seen..]) {
                    next = Some((seen, layer));
                    break;
                }
                let touched = touches(std::slice::from_ref(launch), 1);
                let (on_chain, on_later) = (meet(&touched, &all), meet(&touched, &later));
                let link = || cut.link(launch).filter(|of| cut.follows(&parts, of));
                let linked = if on_chain && !on_later { link() } else { None };
                match linked {
                    Some(of) => {
                        by_links.extend(touched.clone());
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
            let Some((seen, layer)) = next.filter(|next| next.1.course == first.course) else {
                break;
            };
            let (touched, of) = (touches(layer.all, layer.phases), cut.layer(&layer));
            let fits = meet(&touched, &by_links) && cut.follows(&parts, &of);
            if meet(&touched, &later) || !fits {
                break;
            }
            all.extend(touched);
            parts.push(of);
            (own, others, nodes) = (all, later, parts);
            chain.consumed += seen + layer.all.len();
            chain.layers.push(layer);
            chain.links.push(links);
            chain.before.extend(before);
            chain.behind.extend(behind);
        }
        (chain.layers.len() > 1).then_some(chain)
    }

    /// Steps of a layer.
    pub fn time(&self) -> usize {
        self.layers[0].course.time
    }

    /// The steps of each of so many parts, in the order of time.
    pub fn parts(&self, parts: usize) -> Vec<Range<usize>> {
        let cut = Cut::new(self.layers[0].course, parts);
        cut.parts.iter().map(|part| cut.steps(part)).collect()
    }

    /// Each part of each node, node by node in the order of the recording, with its layer and whether it is the
    /// layer's steps: none where they can't be cut so.
    pub fn nodes(&self, cut: &Cut) -> Option<Vec<(usize, bool, Node<'a>)>> {
        let mut nodes: Vec<(usize, bool, Node<'a>)> = Vec::new();
        for (layer, (steps, links)) in self.layers.iter().zip(&self.links).enumerate() {
            for link in links {
                nodes.push((layer, false, cut.link(link)?));
            }
            nodes.push((layer, true, cut.layer(steps)));
        }
        let all: Vec<Node> = nodes.iter().map(|node| node.2.clone()).collect();
        let follow = (1..all.len()).all(|i| cut.follows(&all[..i], &all[i]));
        follow.then_some(nodes)
    }

    /// The launches of the chain in the order of the diagonals.
    pub fn diagonals(&self, parts: usize) -> Option<Vec<Launch>> {
        let cut = Cut::new(self.layers[0].course, parts);
        let nodes = self.nodes(&cut)?;
        let mut list = Vec::new();
        for diagonal in 0..cut.parts.len() + self.layers.len() - 1 {
            // What leads to the layers, then the layers.
            for runs in [false, true] {
                for (layer, _, node) in nodes.iter().filter(|node| node.1 == runs) {
                    let part = diagonal.checked_sub(*layer).and_then(|part| node.parts.get(part));
                    list.extend(part.into_iter().flat_map(|part| part.iter().cloned()));
                }
            }
        }
        Some(list)
    }

    /// All launches, the chain in so many parts.
    pub fn cut(&self, parts: usize) -> Option<Vec<Launch>> {
        if parts < 2 {
            return None;
        }
        let cloned =
            |list: &[&Launch]| list.iter().map(|&launch| launch.clone()).collect::<Vec<_>>();
        let mut list = cloned(&self.before);
        list.extend(self.diagonals(parts)?);
        list.extend(cloned(&self.behind));
        Some(list)
    }

    /// The launches of the chain as they are recorded, without those around it.
    pub fn whole(&self) -> Vec<Launch> {
        let mut list = Vec::new();
        for (layer, links) in self.layers.iter().zip(&self.links) {
            list.extend(links.iter().map(|&link| link.clone()));
            list.extend_from_slice(layer.all);
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
