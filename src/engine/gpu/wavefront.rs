//! Which chains of layers go beside one another on a device, and into how many parts of time they are cut
//! (`engine/wavefront.rs`): parts of two layers that need not wait for each other go in one launch (`beside.rs`).

use super::sequences::REFUSED;
use super::{Context, GpuEngine};
use crate::engine::wavefront::{Chain, Cut, chains, cut_chains, parts_of};
use crate::engine::{Choice, Strategy};
use crate::error::Result;
use crate::recording::Recording;
use std::borrow::Cow;

/// Parts of a chain that was not measured.
const PARTS: usize = 8;

/// In how many parts a chain is tried.
const CANDIDATES: [usize; 2] = [4, 16];

/// What a chain in parts must take of the time of the whole to be worth it.
const GAIN: f64 = 0.98;

/// How what was measured of a chain begins.
const WAVEFRONT: &str = "wavefront";

impl GpuEngine {
    /// The recording with layers beside one another, in so many bytes of temporary buffers at most, unless it was asked for.
    pub(super) fn wavefront<'a>(&self, recording: &'a Recording, most: u64) -> Cow<'a, Recording> {
        // Nothing is cut unasked that was not measured.
        let asked = self.context.strategy == Strategy::Wavefront;
        if !may(&self.context, recording) || !(asked || self.knows(WAVEFRONT)) {
            return Cow::Borrowed(recording);
        }
        let cut = |chain: &Chain| chain.cut(self.parts(recording, chain));
        let ordered = cut_chains(recording.launches(), cut);
        let ordered = ordered.map(|launches| recording.with_launches(launches));
        let small = |ordered: &Recording| {
            asked || ordered.plan().is_ok_and(|plan| plan.temporary_bytes() <= most)
        };
        ordered.filter(small).map_or(Cow::Borrowed(recording), Cow::Owned)
    }

    /// The chains of a recording, as far as they can be cut.
    pub(super) fn chains<'a>(&self, recording: &'a Recording) -> Vec<Chain<'a>> {
        match may(&self.context, recording) {
            true => chains(recording.launches()),
            false => Vec::new(),
        }
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
        let steps = chain.layers[0].course.time;
        if parts_of(steps, parts).len() < 2 {
            return None;
        }
        let mut text = format!("{WAVEFRONT} of {steps} steps in {parts} parts");
        for (layer, links) in chain.layers.iter().zip(&chain.links) {
            for link in links {
                let kernel = link.op.kernel();
                let flops = kernel.flops();
                text.push_str(&format!(", {} {:?} {flops} flops", kernel.name(), kernel.groups()));
            }
            for phase in &layer.all[layer.phases..2 * layer.phases] {
                let flops = phase.op.kernel().flops();
                let key = self.key(recording, &phase.buffers, &phase.op);
                text.push_str(&format!(", {key} {flops} flops"));
            }
        }
        Some(text)
    }

    /// Measures the chains that were not measured yet.
    pub(super) fn measure_chains(&self, recording: &Recording) -> bool {
        let mut more = false;
        if self.context.strategy == Strategy::Wavefront {
            return false;
        }
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
        let Some(cut) = chain.diagonals(parts) else { return Ok([0.0, REFUSED]) };
        let whole = chain.whole();
        let alone = self.alone();
        let arrange = |recording: &Recording| {
            alone.beside(alone.together(recording), &[], alone.most_bytes(recording))
        };
        self.measure_ways(recording, &[whole, cut], arrange)
    }

    /// How the layers of a recording go beside one another.
    pub(super) fn chain_choices(&self, recording: &Recording) -> Vec<Choice> {
        let mut list = Vec::new();
        for chain in self.chains(recording) {
            let steps = chain.layers[0].course.time;
            let measured = self.measured_parts(recording, &chain).map(|found| found.1);
            let measured = measured.filter(|ms| ms[1] < REFUSED);
            let parts = self.parts(recording, &chain);
            let cut = parts > 1 && chain.nodes(&Cut::new(chain.layers[0].course, parts)).is_some();
            let parts = if cut { parts_of(steps, parts).len() } else { 1 };
            let asked = self.context.strategy == Strategy::Wavefront;
            list.push(Choice {
                kernel: chain.layers[0].all[0].op.kernel().name(),
                layers: chain.layers.len(),
                steps,
                strategy: if parts > 1 { Strategy::Wavefront } else { Strategy::Auto },
                measured_ms: measured.map(|ms| ms.map(|ms| ms / steps as f64)),
                reason: match (asked, measured) {
                    (true, _) if parts > 1 => "asked for".to_string(),
                    (true, _) => "it can't be cut into so many parts".to_string(),
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
