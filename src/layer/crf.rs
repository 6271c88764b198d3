//! A linear-chain conditional random field: tags of a sequence that depend on their neighbours.

use super::{Initializer, Sequence, insert, positive};
use crate::error::{Error, Result};
use crate::kernel::{
    ColumnSum, Combine, CrfForm, CrfParams, CrfPosterior, CrfPosteriorParams, CrfScan,
    CrfTransitions, MAX_TAGS, Operand, Rows, View,
};
use crate::loss::{count_flags, record_value};
use crate::schedule::{Recorder, Var};
use crate::tensor::NamedTensors;

/// The score of tags y₁ … y_T over emissions e is
/// start(y₁) + Σₜ e(t, yₜ) + Σₜ A(yₜ₋₁, yₜ) + end(y_T), their probability exp(score) / Σ over all tags of exp(score)
/// (Lafferty, McCallum and Pereira 2001, "Conditional random fields"). Steps that take no part are left out of the
/// chain. A transition that must not be has a large negative score, as −10,000, not −∞.
#[derive(Clone, Debug)]
pub struct Crf {
    /// The parameters are `{name}.transitions` \[K, K\] (from row to column), `{name}.start` \[K\] and
    /// `{name}.end` \[K\].
    pub name: String,
    /// Tags K, 1024 at most.
    pub tags: usize,
    /// Whether tags depend on their neighbours. If not, all scores but the emissions are 0 and there are no
    /// parameters: each step's tags are a softmax of their own, and the loss is the sum of their cross-entropies.
    pub chained: bool,
}

/// The outputs of [`Crf::record_decode`], for the host to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BestPath {
    /// The best tag of each step as a whole number, \[T, B\]; −1 where the step takes no part.
    pub tags: Var,
    /// The score of each row's best path, \[1, B\]; 0 for an empty row.
    pub scores: Var,
}

impl Crf {
    /// Of so many tags.
    pub fn new(name: impl Into<String>, tags: usize) -> Self {
        Crf { name: name.into(), tags, chained: true }
    }

    /// Initial scores: U(±0.1).
    pub fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        if !self.chained {
            return;
        }
        for (what, shape) in self.shapes() {
            let values = generator.uniform(shape.iter().product(), 0.1);
            insert(into, what, &shape, values);
        }
    }

    /// The parameters with their shapes, where tags depend on their neighbours.
    pub fn shapes(&self) -> [(String, Vec<usize>); 3] {
        let (name, tags) = (&self.name, self.tags);
        [
            (format!("{name}.transitions"), vec![tags, tags]),
            (format!("{name}.start"), vec![tags]),
            (format!("{name}.end"), vec![tags]),
        ]
    }

    /// Records −log of the probability of `targets` (u32 \[T·B\], time-major) over `emissions`
    /// \[T·B, K\], the mean over the rows that have any step, in nats, with its gradient to
    /// emissions and scores. Its value goes to the output [`LOSS`](crate::loss::LOSS). Writing a
    /// target that is no tag is an error, at padding too.
    ///
    /// # Errors
    /// Shapes that do not belong together; no tags, or more than 1024; a sequence with resets.
    pub fn record_loss(
        &self,
        rec: &mut Recorder,
        emissions: Var,
        targets: View,
        sequence: impl Into<Sequence>,
    ) -> Result<()> {
        let sequence = sequence.into();
        let flags = self.check(rec, emissions, &sequence)?;
        let (tags, batch) = (self.tags, sequence.batch);
        let steps = emissions.rows;
        if targets.len != steps {
            return Err(Error::shape("tags", &[steps], &[targets.len]));
        }
        rec.bound(targets, tags - 1);
        let gradient = rec.is_training();
        let parameters = self.parameters(rec)?;
        let scores = self.table(rec, parameters)?;
        let losses = rec.temporary_f32("losses", [1, batch])?.view;
        let marks = rec.temporary_ids("marks", steps + batch)?;
        let mut scan =
            self.scan(&sequence, emissions, flags, CrfForm::Forward { states: gradient });
        scan.params.targets_offset = targets.offset as u32;
        let mut buffers = vec![emissions.view, scores];
        buffers.extend(flags);
        buffers.extend([targets, losses, marks]);
        let mut states = None;
        if gradient {
            let view = rec.temporary_f32("states", [steps, tags + 1])?.view;
            buffers.push(view);
            states = Some(view);
        }
        self.launch_scan(rec, scan, buffers)?;
        let total = count_flags(rec, marks.part(steps, batch), 1.0)?;
        record_value(rec, losses, 1.0, Some(total))?;
        let Some(states) = states else { return Ok(()) };

        let right = rec.temporary_f32("right", [steps, tags + 1])?.view;
        let mut buffers = vec![emissions.view, scores];
        buffers.extend(flags);
        buffers.push(right);
        let scan = self.scan(&sequence, emissions, flags, CrfForm::Reverse);
        self.launch_scan(rec, scan, buffers)?;

        let target = rec.gradient_target(emissions)?;
        let scale = rec.loss_scale()?;
        let ends = rec.temporary_f32("ends", [2 * batch, tags])?.view;
        // A row without any step writes none.
        rec.fill(ends, 0.0)?;
        let posterior = CrfPosterior {
            params: CrfPosteriorParams {
                time: sequence.time as u32,
                batch: batch as u32,
                tags: tags as u32,
                emissions_offset: emissions.view.offset as u32,
                gradient_offset: target.map_or(0, |t| t.0.offset) as u32,
                factor: 1.0,
            },
            gradient: target.is_some(),
            accumulate: target.is_some_and(|t| t.1),
            scaled: scale.is_some(),
        };
        let mut buffers = vec![emissions.view, states, right, marks, ends, total];
        buffers.extend(target.map(|t| t.0));
        buffers.extend(scale);
        rec.launch(posterior, &buffers)?;

        if !self.chained {
            return Ok(());
        }
        let op = CrfTransitions::new([sequence.time, batch], tags, 1.0);
        let (parts, words) = (op.parts(), tags * tags);
        let sums = rec.temporary_f32("parts", [parts, words])?.view;
        let mut buffers = vec![states, right, scores, marks, sums, total];
        buffers.extend(scale);
        let op = CrfTransitions { scaled: scale.is_some(), ..op };
        op.cut(steps).into_iter().try_for_each(|part| rec.launch(part, &buffers))?;
        let half = batch * tags;
        let sources = [
            (sums, [parts, words]),
            (ends.part(0, half), [batch, tags]),
            (ends.part(half, half), [batch, tags]),
        ];
        for (parameter, (source, shape)) in parameters.into_iter().zip(sources) {
            if let Some((d, accumulate)) = rec.gradient_target(parameter)? {
                let op = ColumnSum::new(shape, Operand::new(source, shape[1]), None, d);
                rec.launch(ColumnSum { accumulate, ..op }, &[source, d])?;
            }
        }
        Ok(())
    }

    /// Records the best path of each row (Viterbi 1967) to the outputs `{name}` and `{name}.scores`. Of two equal
    /// ones it is that with the smaller tag, from the last step on.
    ///
    /// # Errors
    /// As [`Crf::record_loss`]; a taken name; more than 32,768 steps.
    pub fn record_decode(
        &self,
        rec: &mut Recorder,
        name: &str,
        emissions: Var,
        sequence: impl Into<Sequence>,
    ) -> Result<BestPath> {
        let sequence = sequence.into();
        let flags = self.check(rec, emissions, &sequence)?;
        let parameters = self.parameters(rec)?;
        let table = self.table(rec, parameters)?;
        let pointers = rec.temporary_ids("pointers", emissions.rows * self.tags)?;
        let tags = rec.output_buffer(name, [sequence.time, sequence.batch])?;
        let scores = rec.output_buffer(&format!("{name}.scores"), [1, sequence.batch])?;
        let mut buffers = vec![emissions.view, table];
        buffers.extend(flags);
        buffers.extend([pointers, tags.view, scores.view]);
        let scan = self.scan(&sequence, emissions, flags, CrfForm::Best);
        self.launch_scan(rec, scan, buffers)?;
        Ok(BestPath { tags, scores })
    }

    /// Shapes that fit, and the flags of the steps.
    fn check(
        &self,
        rec: &mut Recorder,
        emissions: Var,
        sequence: &Sequence,
    ) -> Result<Option<View>> {
        positive("the number of tags", self.tags)?;
        if self.tags > MAX_TAGS {
            let what = format!("a CRF has {MAX_TAGS} tags at most, not {}", self.tags);
            return Err(Error::invalid(what));
        }
        if sequence.resets.is_some() {
            return Err(Error::invalid("a CRF has no states to reset"));
        }
        let rows = sequence.time.saturating_mul(sequence.batch);
        if [emissions.rows, emissions.columns] != [rows, self.tags] {
            return Err(Error::shape(
                format!("emissions of '{}'", self.name),
                &[rows, self.tags],
                &[emissions.rows, emissions.columns],
            ));
        }
        sequence.record_flags(rec)
    }

    fn scan(
        &self,
        sequence: &Sequence,
        emissions: Var,
        flags: Option<View>,
        form: CrfForm,
    ) -> CrfScan {
        let params = CrfParams {
            time: sequence.time as u32,
            batch: sequence.batch as u32,
            tags: self.tags as u32,
            emissions_offset: emissions.view.offset as u32,
            flags_offset: flags.map_or(0, |f| f.offset) as u32,
            targets_offset: 0,
            first: 0,
            count: sequence.time as u32,
        };
        CrfScan { params, form, flags: flags.is_some() }
    }

    /// All steps, in several launches where there are many.
    fn launch_scan(&self, rec: &mut Recorder, scan: CrfScan, mut buffers: Vec<View>) -> Result<()> {
        let parts = scan.cut();
        if let Some(words) = parts.first().and_then(CrfScan::carry_words) {
            let carry = rec.temporary_f32("carry", [1, words])?.view;
            buffers.push(carry);
        }
        parts.into_iter().try_for_each(|part| rec.launch(part, &buffers))
    }

    /// Transitions, start, end.
    fn parameters(&self, rec: &mut Recorder) -> Result<[Var; 3]> {
        if !self.chained {
            let mut zeros = |rows| -> Result<Var> {
                let zeros = rec.temporary_f32("unchained", [rows, self.tags])?;
                rec.fill(zeros.view, 0.0)?;
                Ok(Var { needs_gradient: false, ..zeros })
            };
            return Ok([zeros(self.tags)?, zeros(1)?, zeros(1)?]);
        }
        let mut get =
            |what: &str, rows| rec.parameter(&format!("{}.{what}", self.name), [rows, self.tags]);
        Ok([get("transitions", self.tags)?, get("start", 1)?, get("end", 1)?])
    }

    /// The scores as kernels read them, \[2K+2, K\]: transitions, start, end, and the transitions' transpose, so that
    /// neighbouring threads read neighbours in both directions of time.
    fn table(&self, rec: &mut Recorder, [transitions, start, end]: [Var; 3]) -> Result<View> {
        let tags = self.tags;
        let words = tags * tags;
        let table = rec.temporary_f32("scores", [2 * tags + 2, tags])?.view;
        let mut at = 0;
        for from in [transitions, start, end] {
            let n = from.view.len;
            rec.copy_rows([1, n], (from.view, n), (table.part(at, n), n))?;
            at += n;
        }
        let (from, to) = (transitions.view, table.part(at, words));
        let op = Combine::copy([words, 1], Rows::new(from, 1), Rows::new(to, 1));
        rec.combine(op.swapping(tags), from, to, None)?;
        Ok(table)
    }
}
