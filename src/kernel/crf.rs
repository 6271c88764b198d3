//! Linear-chain conditional random fields: the recursions over time, the marginals, the transitions' gradient.
//!
//! All read one table of scores \[2K+2, K\]: K rows of the transitions A, the scores of the first tag, those of the
//! last, and K rows of Aᵀ. Emissions, and all by step and row, lie time-major, row t·B + b.

use super::losses::{flags, named};
use super::{Binding, GROUP, Kernel, LossScale, spread};
use bytemuck::{Pod, Zeroable};

/// The most tags K: a workgroup keeps two vectors of them.
pub const MAX_TAGS: usize = 1024;

/// Rows of the table of scores.
pub(crate) const fn score_rows(tags: usize) -> usize {
    2 * tags + 2
}

/// The uniform block of `shaders/crf_scan.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CrfParams {
    /// Steps T.
    pub time: u32,
    /// Rows of a step, B.
    pub batch: u32,
    /// Tags K.
    pub tags: u32,
    /// First emission.
    pub emissions_offset: u32,
    /// First flag.
    pub flags_offset: u32,
    /// First target.
    pub targets_offset: u32,
    /// Steps that were made before, in the recursion's order.
    pub first: u32,
    /// Steps of this launch.
    pub count: u32,
}

/// Rounds that the loops of one thread may make in a launch: a driver that computes on the CPU gives up after
/// 65,535 (llvmpipe), and systems stop launches that take seconds.
const ROUNDS: usize = 32_768;

/// Words that a row hands from launch to launch besides its tags: whether it has begun, the target before, the last
/// step, and the sum.
const CARRIED: usize = 4;

/// What a recursion over time computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrfForm {
    /// log Σ over all paths up to a step, forward, and the negative log likelihood of the targets; with
    /// `states`, what the gradient needs.
    Forward {
        /// Keep the states of every step.
        states: bool,
    },
    /// log Σ over all paths from a step on, backward.
    Reverse,
    /// max over all paths, forward, and the best one (Viterbi 1967).
    Best,
}

/// The recursion of a chain, a workgroup a row of the batch. Of the steps that take part, x₁(j) = begin(j) + e₁(j),
/// then xₜ(j) = eₜ(j) + log Σᵢ exp(xₜ₋₁(i) − Mₜ₋₁ + A(i,j)), Mₜ₋₁ = maxᵢ xₜ₋₁(i), which keeps numbers small; or
/// with the maximum in the place of log Σ exp. States are \[T·B, K+1\]: x, and M of the step before.
///
/// Forward it writes losses \[B\], and marks \[T·B + B\]: what each step is (no step; else the transition's place in
/// the table of scores, with the highest bit at the last step), and for each row whether there is any step. For the
/// best path it writes pointers \[T·B·K\], path \[T·B\] (−1 where there is no step), and its score \[B\].
#[derive(Clone, Debug)]
pub struct CrfScan {
    /// Sizes and offsets.
    pub params: CrfParams,
    /// What is computed.
    pub form: CrfForm,
    /// There are flags \[T·B\].
    pub flags: bool,
}

impl CrfScan {
    /// All steps of a chain in as many launches as its length asks for, over the same buffers.
    pub fn cut(&self) -> Vec<CrfScan> {
        let p = &self.params;
        let tags = p.tags as usize;
        // The largest of x, and the largest and the sum over all tags before, for each tag of a thread.
        let rounds = 1 + tags + tags.div_ceil(self.threads()) * (1 + 2 * tags);
        let count = ((ROUNDS / rounds).max(1) as u32).min(p.time.max(1));
        let firsts = (0..p.time.max(1)).step_by(count as usize);
        let part = |first: u32| {
            let params = CrfParams { first, count: count.min(p.time - first), ..*p };
            CrfScan { params, ..self.clone() }
        };
        firsts.map(part).collect()
    }

    /// Words of the buffer in which launches hand on where they stand, if there are several.
    pub fn carry_words(&self) -> Option<usize> {
        let p = &self.params;
        let whole = p.first == 0 && p.count == p.time;
        (!whole).then_some(p.batch as usize * (p.tags as usize + CARRIED))
    }

    /// Threads of a workgroup.
    fn threads(&self) -> usize {
        (self.params.tags as usize).next_power_of_two().clamp(32, GROUP)
    }

    fn steps(&self) -> usize {
        self.params.time as usize * self.params.batch as usize
    }
}

fn check_tags(tags: u32) -> Result<(), &'static str> {
    if tags as usize > MAX_TAGS { Err("there are too many tags") } else { Ok(()) }
}

fn emissions(offset: u32, words: usize) -> Binding {
    Binding::read("emissions", offset as usize + words).moving(words)
}

fn scores(tags: u32, moved: usize) -> Binding {
    let tags = tags as usize;
    Binding::read("scores", score_rows(tags) * tags).moving(moved)
}

impl Kernel for CrfScan {
    fn name(&self) -> &'static str {
        "crf_scan"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.time, p.batch, p.tags, p.count])?;
        // The path is followed back in one launch.
        if self.form == CrfForm::Best && p.time as usize > ROUNDS {
            return Err("there are more steps than a path is decoded over");
        }
        if p.time > 1 << 24 || p.first.checked_add(p.count).is_none_or(|end| end > p.time) {
            return Err("the steps are too many, or past the end");
        }
        check_tags(p.tags)
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, steps) = (&self.params, self.steps());
        let (tags, batch) = (p.tags as usize, p.batch as usize);
        // What this launch moves is of its own steps.
        let own = p.count as usize * batch;
        let mut list = vec![
            emissions(p.emissions_offset, steps * tags).moving(own * tags),
            scores(p.tags, tags * (tags + 2)),
        ];
        if self.flags {
            list.push(flags(p.flags_offset, steps as u32, 1).moving(own));
        }
        let states = Binding::write("states", steps * (tags + 1)).moving(own * (tags + 1));
        match self.form {
            CrfForm::Forward { states: kept } => {
                let targets = Binding::read_u32("targets", p.targets_offset as usize + steps);
                list.push(targets.moving(own));
                list.push(Binding::write("losses", batch));
                list.push(Binding::write_u32("marks", steps + batch).moving(own + batch));
                list.extend(kept.then_some(states));
            }
            CrfForm::Reverse => list.push(states),
            CrfForm::Best => {
                let pointers = Binding::write_u32("pointers", steps * tags);
                list.push(pointers.moving(own * (tags + 1)));
                list.push(Binding::write("path", steps).moving(own));
                list.push(Binding::write("best", batch));
            }
        }
        list.extend(self.carry_words().map(|words| Binding::write("carry", words)));
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let threads = self.threads();
        let mut list = named([
            ("HAS_flags", self.flags),
            ("LABELLED", matches!(self.form, CrfForm::Forward { .. })),
            ("REVERSE", self.form == CrfForm::Reverse),
            ("BEST", self.form == CrfForm::Best),
            ("HAS_carry", self.carry_words().is_some()),
            (
                "HAS_states",
                matches!(self.form, CrfForm::Forward { states: true } | CrfForm::Reverse),
            ),
        ]);
        list.push(("THREADS", threads.to_string()));
        let size = (self.params.tags as usize).next_multiple_of(threads);
        list.push(("SIZE", size.to_string()));
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.batch as usize)
    }
    fn flops(&self) -> u64 {
        let tags = u64::from(self.params.tags);
        let each = if self.form == CrfForm::Best { 2 } else { 8 };
        each * u64::from(self.params.count) * u64::from(self.params.batch) * tags * tags
    }
}

/// The uniform block of `shaders/crf_posterior.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CrfPosteriorParams {
    /// Steps T.
    pub time: u32,
    /// Rows of a step, B.
    pub batch: u32,
    /// Tags K.
    pub tags: u32,
    /// First emission.
    pub emissions_offset: u32,
    /// First element of the emissions' gradient.
    pub gradient_offset: u32,
    /// What the gradient is multiplied with, after it was divided by the total.
    pub factor: f32,
}

/// Marginals of every step: p(j) = exp(x(j) + y(j) − e(j) − L), x the states forward, y backward, L such that they
/// sum to 1. Their difference to the targets is the gradient with respect to the emissions (Lafferty 2001), and at
/// the first and last steps to the scores of these, `ends` \[2, B, K\] (rows without a step are left as they are).
/// The states backward become y(j) − L − M, with which [`CrfTransitions`] goes on.
#[derive(Clone, Debug)]
pub struct CrfPosterior {
    /// Sizes and offsets.
    pub params: CrfPosteriorParams,
    /// The emissions' gradient is wanted.
    pub gradient: bool,
    /// Add to the gradient that is there.
    pub accumulate: bool,
    /// The gradient is times the loss scale.
    pub scaled: bool,
}

impl CrfPosterior {
    /// Threads a step: enough that each has about eight tags.
    fn lanes(&self) -> usize {
        (self.params.tags as usize / 8).next_power_of_two().clamp(8, GROUP)
    }

    fn steps(&self) -> usize {
        self.params.time as usize * self.params.batch as usize
    }
}

impl Kernel for CrfPosterior {
    fn name(&self) -> &'static str {
        "crf_posterior"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.time, p.batch, p.tags])?;
        if self.accumulate && !self.gradient {
            return Err("there is no gradient to add to");
        }
        check_tags(p.tags)
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, steps) = (&self.params, self.steps());
        let tags = p.tags as usize;
        let states = steps * (tags + 1);
        let mut list = vec![
            emissions(p.emissions_offset, steps * tags),
            Binding::read("states", states),
            Binding::write("right", states).moving(2 * states),
            Binding::read_u32("marks", steps),
            Binding::write("ends", 2 * p.batch as usize * tags),
            Binding::read("total", 1),
        ];
        if self.gradient {
            let words = steps * tags;
            let gradient = Binding::write("d_emissions", p.gradient_offset as usize + words);
            list.push(gradient.moving(words * if self.accumulate { 2 } else { 1 }));
        }
        if self.scaled {
            list.push(Binding::read("loss_scale", LossScale::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = if self.scaled { LossScale::defines() } else { Vec::new() };
        list.push(("LANES", self.lanes().to_string()));
        list.extend(named([("GRADIENT", self.gradient), ("ACCUMULATE", self.accumulate)]));
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.steps().div_ceil(GROUP / self.lanes()))
    }
    fn flops(&self) -> u64 {
        10 * self.steps() as u64 * u64::from(self.params.tags)
    }
}

/// Rows and columns of a workgroup's tile of transitions, and steps that it holds at once.
const TILE: usize = 16;
/// Steps of a part, at least.
const PART: usize = 256;
/// Elements of all parts, at most, but for one part.
const MOST_PARTS: usize = 1 << 20;
/// Steps of a part in one launch, at most.
const MOST_CHUNK: usize = 16_384;

/// The uniform block of `shaders/crf_transitions.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CrfTransitionsParams {
    /// Rows of a step, B.
    pub batch: u32,
    /// The first row of the launch.
    pub first: u32,
    /// One past its last row, T·B at most.
    pub end: u32,
    /// Tags K.
    pub tags: u32,
    /// Rows that a part sums.
    pub chunk: u32,
    /// What the gradient is multiplied with, after it was divided by the total.
    pub factor: f32,
}

/// parts\[n,i,j\] = factor/total·Σ over the steps of a part of exp(x(i) + A(i,j) + w(j)) − \[the target goes from i to
/// j\]: how often a transition is expected, less how often it is wanted. x are the states forward of the step before,
/// w what [`CrfPosterior`] left in those backward. The parts' sum is the transitions' gradient.
#[derive(Clone, Debug)]
pub struct CrfTransitions {
    /// Sizes.
    pub params: CrfTransitionsParams,
    /// The gradient is times the loss scale.
    pub scaled: bool,
    /// Add to the parts that are there.
    pub accumulate: bool,
}

impl CrfTransitions {
    /// Of T steps of B rows, of which one launch may sum a part: [`CrfTransitions::cut`] has the others too.
    pub fn new([time, batch]: [usize; 2], tags: usize, factor: f32) -> Self {
        let steps = time * batch;
        let most = (MOST_PARTS / (tags * tags).max(1)).max(1);
        let parts = steps.div_ceil(PART).clamp(1, most);
        let chunk = steps.div_ceil(parts).next_multiple_of(TILE).min(MOST_CHUNK);
        let params = CrfTransitionsParams {
            batch: batch as u32,
            first: 0,
            end: (parts * chunk).min(steps) as u32,
            tags: tags as u32,
            chunk: chunk as u32,
            factor,
        };
        CrfTransitions { params, scaled: false, accumulate: false }
    }

    /// This launch and those behind it, up to row `steps`, over the same buffers.
    pub fn cut(&self, steps: usize) -> Vec<CrfTransitions> {
        let rows = (self.params.end - self.params.first).max(1);
        let of = |first: u32| {
            let end = first.saturating_add(rows).min(steps as u32);
            let params = CrfTransitionsParams { first, end, ..self.params };
            CrfTransitions { params, accumulate: first > 0, ..self.clone() }
        };
        (0..steps as u32).step_by(rows as usize).map(of).collect()
    }

    /// How many parts there are to sum.
    pub fn parts(&self) -> usize {
        (self.params.end - self.params.first).div_ceil(self.params.chunk.max(1)) as usize
    }
}

impl Kernel for CrfTransitions {
    fn name(&self) -> &'static str {
        "crf_transitions"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.end, p.batch, p.tags, p.chunk])?;
        if p.first >= p.end || !(p.chunk as usize).is_multiple_of(TILE) {
            return Err("there are no rows, or the parts are not whole");
        }
        check_tags(p.tags)
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let (tags, steps) = (p.tags as usize, p.end as usize);
        let states = steps * (tags + 1);
        let written = self.parts() * tags * tags;
        let moved = (p.end - p.first) as usize * (tags + 1);
        let mut list = vec![
            Binding::read("states", states).moving(moved),
            Binding::read("right", states).moving(moved),
            Binding::read("scores", tags * tags),
            Binding::read_u32("marks", steps).moving((p.end - p.first) as usize),
            Binding::write("parts", written).moving(written * if self.accumulate { 2 } else { 1 }),
            Binding::read("total", 1),
        ];
        if self.scaled {
            list.push(Binding::read("loss_scale", LossScale::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = if self.scaled { LossScale::defines() } else { Vec::new() };
        list.extend(named([("ACCUMULATE", self.accumulate)]));
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        let tiles = (self.params.tags as usize).div_ceil(TILE);
        spread(tiles * tiles * self.parts())
    }
    fn flops(&self) -> u64 {
        let tags = u64::from(self.params.tags);
        4 * u64::from(self.params.end - self.params.first) * tags * tags
    }
}
