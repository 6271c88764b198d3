//! One layer in one direction: its parameters, the input product, the recurrence, the gradients.

use super::input::InputProduct;
use super::{InitialState, Recurrent, Sequence, Trace, draw_mask, sequence};
use crate::error::Result;
use crate::kernel::{
    CellKind, ColumnSum, ColumnsForward, ColumnsParams, FlaggedSide, Operand, RESET, StepKind,
    View, Zoneout,
};
use crate::schedule::{Recorder, Recurrence, RecurrentWeights, Swept, Var};

/// What a direction computed.
pub(super) struct DirectionRun {
    pub output: Var,
    pub last: Option<Var>,
    pub trace: Trace,
}

/// The parameters as a recording has them.
#[derive(Clone)]
struct Parameters {
    ih: Var,
    b_ih: Var,
    hh: Option<Var>,
    b_hh: Option<Var>,
    hr: Option<Var>,
    /// Gain of the input product's norm.
    gain: Option<Var>,
    /// Parameters by unit: vector number, vectors, parameter.
    by_unit: Vec<(usize, Var)>,
    initial: Option<Var>,
}

impl Recurrent {
    fn record_parameters(&self, rec: &mut Recorder, place: [usize; 2]) -> Result<Parameters> {
        let mut found = Vec::new();
        for parameter in self.parameters(place[0], place[1]) {
            // A vector is one row.
            let shape = match parameter.shape[..] {
                [rows, columns] => [rows, columns],
                _ => [1, parameter.shape.iter().product()],
            };
            let var = rec.parameter(&format!("{}.{}", self.name, parameter.name), shape)?;
            found.push((parameter.name, var));
        }
        let find = |stem: &str| {
            let name = self.parameter_name(stem, place);
            found.iter().find(|f| f.0 == name).map(|f| f.1)
        };
        let missing = |stem: &str| crate::error::Error::Missing {
            tensor: stem.to_string(),
            place: format!("layer '{}'", self.name),
        };
        let mut by_unit = Vec::new();
        if !self.cell.kind.is_scan() {
            let mut vector = 0;
            for (stem, vectors) in self.cell.unit_parameters() {
                by_unit.push((vector, find(stem).ok_or_else(|| missing(stem))?));
                vector += vectors;
            }
        }
        let initial = match self.learned_initial {
            true => {
                let name = format!("{}.{}", self.name, self.parameter_name("initial", place));
                Some(rec.parameter(&name, [1, self.cell.state_words(self.hidden)])?)
            }
            false => None,
        };
        Ok(Parameters {
            ih: find("weight_ih").ok_or_else(|| missing("weight_ih"))?,
            b_ih: find("bias_ih").ok_or_else(|| missing("bias_ih"))?,
            hh: find("weight_hh"),
            b_hh: find("bias_hh"),
            hr: find("weight_hr"),
            gain: find("norm_ih_weight").or(find("batch_norm_weight")),
            by_unit,
            initial,
        })
    }

    /// The vectors by unit, one after the other.
    fn gather_unit_parameters(
        &self,
        rec: &mut Recorder,
        from: &Parameters,
    ) -> Result<Option<View>> {
        let vectors = self.cell.unit_vectors();
        if from.by_unit.is_empty() {
            return Ok(None);
        }
        let all = rec.temporary("unit_parameters", [vectors, self.hidden])?.view;
        for &(vector, parameter) in &from.by_unit {
            let n = parameter.view.len;
            let target = all.part(vector * self.hidden, n);
            rec.copy_rows([1, n], (parameter.view, n), (target, n))?;
        }
        Ok(Some(all))
    }

    fn step_kind(&self, rec: &Recorder, flags: bool) -> StepKind {
        let training = rec.is_training();
        let masks = match (self.recurrent_dropout > 0.0 && training, self.per_gate) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => self.cell.gates(),
        };
        let zoneout = match self.zoneout.iter().any(|&rate| rate > 0.0) {
            false => Zoneout::Off,
            true if training => Zoneout::Draw,
            true => Zoneout::Expect,
        };
        let columns = self.convolution.is_some();
        StepKind { cell: self.cell.clone(), flags, masks, zoneout, columns }
    }

    pub(super) fn record_direction(
        &self,
        rec: &mut Recorder,
        place: [usize; 2],
        x: Var,
        sequence: &Sequence,
        flags: Option<View>,
        initial: &InitialState,
    ) -> Result<DirectionRun> {
        let (time, batch, h) = (sequence.time, sequence.batch, self.hidden);
        let parameters = self.record_parameters(rec, place)?;
        let kind = self.step_kind(rec, flags.is_some());
        let masks = kind.masks;
        let mut run = Recurrence::new(rec, kind, [time, batch, h])?;
        run.reverse = self.direction.is_reverse(place[1]);
        run.heads = self.heads;
        run.convolution = self.convolution;
        run.zoneout = self.zoneout;
        run.flags = flags;
        if run.draws() {
            run.stream = rec.stream();
        }
        if masks > 0 {
            let shape = [masks * batch, run.width()];
            run.masks = Some(draw_mask(rec, shape, self.recurrent_dropout)?.view);
        }
        // Weight drop has a gradient of its own way back to the weights.
        let hh = match parameters.hh {
            Some(hh) => Some(rec.dropout(hh, self.weight_drop)?),
            None => None,
        };
        run.weights = RecurrentWeights {
            hh: hh.map(|v| v.view),
            b: parameters.b_hh.map(|v| v.view),
            hr: parameters.hr.map(|v| v.view),
            unit: self.gather_unit_parameters(rec, &parameters)?,
        };
        let name = format!("{}.{}", self.name, self.parameter_name("batch_norm", place));
        let product = InputProduct::record(
            rec,
            self,
            [parameters.ih, parameters.b_ih],
            parameters.gain,
            &name,
            x,
            run.gates.operand(),
            time,
            flags,
        )?;

        let shape = self.state_shape(batch);
        let number = place[0] * self.direction.count() + place[1];
        let (source, carried) = match initial {
            InitialState::Zero => (self.learned(rec, &parameters, batch)?, None),
            InitialState::Given(given) => (Some(given[number]), None),
            InitialState::Carried(prefix) => {
                let suffix = if place[1] == 1 { "_reverse" } else { "" };
                let state = rec.state(&format!("{prefix}.l{}{suffix}", place[0]), shape)?;
                (Some(state), Some(state))
            }
        };
        run.set_initial(rec, source.map(|s| s.view))?;
        run.forward(rec)?;
        let last = match carried {
            Some(state) => state,
            None => rec.temporary("final", shape)?,
        };
        run.get_final(rec, last.view)?;

        let output = run.outputs();
        let trace = Trace { states: run.states, gates: run.gates, hidden: h };
        let (layer, resets) = (self.clone(), sequence.resets.is_some());
        rec.on_backward(move |rec| {
            let (d_output, d_final) = (rec.gradient(output), rec.gradient(last));
            if d_output.is_none() && d_final.is_none() {
                return Ok(());
            }
            let wanted = source.filter(|s| s.needs_gradient);
            let swept = run.backward(rec, d_output, d_final, wanted.is_some())?;
            if let Some(source) = wanted {
                rec.seed_gradient(
                    source,
                    Var { rows: shape[0], columns: shape[1], ..swept.carry },
                )?;
            }
            if let (Some(hh), Some(b)) = (hh, parameters.b_hh) {
                layer.recurrent_gradient(rec, &run, hh, b, resets)?;
            }
            layer.side_gradients(rec, &run, &parameters, swept)?;
            // Last, when the states are over.
            product.backward(rec)
        });
        Ok(DirectionRun { output, last: carried.is_none().then_some(last), trace })
    }

    /// The learned initial states, a copy for each row.
    fn learned(&self, rec: &mut Recorder, from: &Parameters, batch: usize) -> Result<Option<Var>> {
        let Some(parameter) = from.initial else { return Ok(None) };
        let [rows, columns] = self.state_shape(batch);
        let all = rec.temporary("initial", [rows, columns])?;
        let (width, mut pieces) = (self.cell.width(self.hidden), Vec::new());
        let (mut at, mut word) = (0, 0);
        for state in 0..self.cell.states() {
            let n = if state == 0 { width } else { self.hidden };
            let (source, target) = (parameter.view.part(word, n), all.view.part(at, batch * n));
            rec.copy_rows([batch, n], (source, 0), (target, n))?;
            pieces.push((at, word, n));
            (at, word) = (at + batch * n, word + n);
        }
        rec.on_backward(move |rec| {
            let Some(d) = rec.gradient(all) else { return Ok(()) };
            let Some((target, accumulate)) = rec.gradient_target(parameter)? else { return Ok(()) };
            for &(at, word, n) in &pieces {
                let rows = Operand::new(d.part(at, batch * n), n);
                let op = ColumnSum::new([batch, n], rows, None, target.part(word, n));
                rec.launch(ColumnSum { accumulate, ..op }, &[d, target])?;
            }
            Ok(())
        });
        Ok(Some(all))
    }

    /// h̃ of all steps: h before them, under resets and a mask.
    fn heard(
        &self,
        rec: &mut Recorder,
        run: &Recurrence,
        resets: bool,
        mask: usize,
    ) -> Result<Var> {
        let previous = run.previous();
        if !run.hears_masked(resets) {
            return Ok(previous);
        }
        let (rows, columns) = (previous.rows, previous.columns);
        let heard = rec.temporary("heard", [rows, columns])?;
        let words = run.batch * columns;
        let mask = run.masks.map(|m| m.part(mask * words, words));
        let flags = run.flags.map(|f| (f, RESET));
        let shape = [rows, columns, run.batch, self.places()];
        sequence::select(rec, [previous.view, heard.view], shape, flags, mask, 0.0, false)?;
        Ok(heard)
    }

    /// dU = drᵀ·h̃ and db′ = drᵀ·1, with dr the gradient of the recurrent product: the gate gradients'
    /// own words, but for the blocks that keep one of their own.
    fn recurrent_gradient(
        &self,
        rec: &mut Recorder,
        run: &Recurrence,
        hh: Var,
        b: Var,
        resets: bool,
    ) -> Result<()> {
        let h = self.hidden;
        let (cell, depth) = (&self.cell, run.depth());
        let Some((dw, accumulate)) = rec.gradient_target(hh)? else { return Ok(()) };
        let Some((db, accumulate_b)) = rec.gradient_target(b)? else { return Ok(()) };
        let gates = run.gates.operand();
        let normed = run.recurrent.filter(|_| cell.layer_norm.is_some());
        // (operand, its first block, first weight block, blocks, gradient of R for the bias)
        let blocks: Vec<(Operand, usize, usize, usize)> = match normed {
            Some(recurrent) => vec![(recurrent.operand(), 0, 0, cell.gates())],
            None => {
                let own = cell.recurrent_blocks().iter();
                own.map(|&(saved, first, blocks)| (gates, saved, first, blocks)).collect()
            }
        };
        let plain = self.heads == 1 && self.convolution.is_none() && normed.is_none();
        let per_gate = run.kind.masks > 1;
        let shared = if per_gate { None } else { Some(self.heard(rec, run, resets, 0)?) };
        for &(operand, saved, first, count) in &blocks {
            let parts: Vec<(usize, usize)> =
                if per_gate { (0..count).map(|g| (g, 1)).collect() } else { vec![(0, count)] };
            for (gate, count) in parts {
                let heard = match shared {
                    Some(heard) => heard,
                    None => self.heard(rec, run, resets, first + gate)?,
                };
                let view = operand.view;
                let from = (saved + gate) * h;
                let d = Operand { view: view.part(from, view.len - from), ..operand };
                let row = (first + gate) * h;
                let target = dw.part(row * depth, count * h * depth);
                let sum = plain.then(|| db.part(row, count * h));
                self.weight_gradient(rec, run, d, heard, target, count, sum, accumulate)?;
            }
        }
        if cell.kind == CellKind::GruResetBefore {
            // n's product heard s = r⊙h̃, which lies in the fourth block.
            let block = |n: usize| {
                let view = gates.view.part(n * h, gates.view.len - n * h);
                Operand { view, ..gates }
            };
            let target = dw.part(2 * h * depth, h * depth);
            let s = Heard::Rows(block(3));
            let sum = plain.then(|| db.part(2 * h, h));
            self.weight_gradient(rec, run, block(2), s, target, 1, sum, accumulate)?;
        }
        if !plain {
            // The bias's gradient lies in the gate rows, whatever the product's is.
            let mut own = cell.recurrent_blocks().to_vec();
            if cell.kind == CellKind::GruResetBefore {
                own.push((2, 2, 1));
            }
            for (saved, first, count) in own {
                let view = gates.view.part(saved * h, gates.view.len - saved * h);
                let (d, target) = (Operand { view, ..gates }, db.part(first * h, count * h));
                let op = ColumnSum::new([run.gates.rows, count * h], d, None, target);
                let op = ColumnSum { accumulate: accumulate_b, ..op };
                rec.launch(op, &[view, target])?;
            }
        }
        Ok(())
    }

    /// target \[blocks·H, depth\] = dᵀ·h̃ over all steps.
    #[allow(clippy::too_many_arguments)]
    fn weight_gradient(
        &self,
        rec: &mut Recorder,
        run: &Recurrence,
        d: Operand,
        heard: impl Into<Heard>,
        target: View,
        blocks: usize,
        sum: Option<View>,
        accumulate: bool,
    ) -> Result<()> {
        let (h, depth, rows) = (self.hidden, run.depth(), run.gates.rows);
        let transposed = Operand { transposed: true, ..d };
        let flags = run.flags.map(|f| (f, FlaggedSide::Terms, self.places()));
        let heard = heard.into();
        if let (Some(convolution), Heard::States(heard)) = (self.convolution, heard) {
            let cols = rec.temporary("columns", [run.batch, depth])?;
            for t in (0..run.time).rev() {
                let offset = heard.view.offset + t * run.batch * heard.columns;
                let params = ColumnsParams::new(&convolution, run.batch, heard.columns, offset);
                let op = ColumnsForward { params, flags: false, mask: false };
                rec.launch(op, &[heard.view, cols.view])?;
                let first = t * run.batch * d.stride;
                let view = d.view.part(first, (run.batch * d.stride).min(d.view.len - first));
                let operands =
                    [Operand { view, ..transposed }, cols.operand(), Operand::new(target, depth)];
                let again = accumulate || t + 1 < run.time;
                rec.product([blocks * h, depth, run.batch], operands, None, None, again)?;
            }
            return Ok(());
        }
        let right = heard.operand();
        if self.heads == 1 {
            let operands = [transposed, right, Operand::new(target, depth)];
            let shape = [blocks * h, depth, rows];
            return rec.flagged_product(shape, operands, None, sum, accumulate, flags);
        }
        if depth == 1 {
            // One weight a unit: the sum of products of two columns.
            for block in 0..blocks {
                let view = d.view.part(block * h, d.view.len - block * h);
                let (d, target) = (Operand { view, ..d }, target.part(block * h, h));
                let op = ColumnSum::new([rows, h], d, Some(right), target);
                rec.launch(ColumnSum { accumulate, ..op }, &[view, target, right.view])?;
            }
            return Ok(());
        }
        for block in 0..blocks {
            for first in (0..h).step_by(depth) {
                let at = block * h + first;
                let left = transposed.view.part(at, transposed.view.len - at);
                let heard = right.view.part(first, right.view.len - first);
                let target = target.part(at * depth, depth * depth);
                let operands = [
                    Operand { view: left, ..transposed },
                    Operand { view: heard, ..right },
                    Operand::new(target, depth),
                ];
                let shape = [depth, depth, rows];
                rec.flagged_product(shape, operands, None, None, accumulate, flags)?;
            }
        }
        Ok(())
    }

    /// The projection's gradient, and those of the parameters by unit.
    fn side_gradients(
        &self,
        rec: &mut Recorder,
        run: &Recurrence,
        parameters: &Parameters,
        swept: Swept,
    ) -> Result<()> {
        let (h, rows) = (self.hidden, run.gates.rows);
        if let (Some(candidate), Some(hr)) = (swept.candidate, parameters.hr)
            && let Some((target, accumulate)) = rec.gradient_target(hr)?
        {
            // dW_hr = dhᵀ·(o⊙tanh c), which lies in the last block.
            let gates = run.gates.operand();
            let first = (self.cell.saved() - 1) * h;
            let view = gates.view.part(first, gates.view.len - first);
            let left = Operand { transposed: true, ..candidate.operand() };
            let operands = [left, Operand { view, ..gates }, Operand::new(target, h)];
            let flags = run.flags.map(|f| (f, FlaggedSide::Terms, self.places()));
            let shape = [run.width(), h, rows];
            rec.flagged_product(shape, operands, None, None, accumulate, flags)?;
        }
        let Some(unit) = swept.unit else { return Ok(()) };
        for &(vector, parameter) in &parameters.by_unit {
            if let Some((target, accumulate)) = rec.gradient_target(parameter)? {
                let first = vector * h;
                let view = unit.view.part(first, unit.view.len - first);
                let rows = Operand { view, ..unit.operand() };
                let op = ColumnSum::new([run.batch, parameter.view.len], rows, None, target);
                rec.launch(ColumnSum { accumulate, ..op }, &[view, target])?;
            }
        }
        Ok(())
    }
}

/// What a recurrent product heard: h̃ of all steps, or rows of the gate buffer.
#[derive(Clone, Copy)]
enum Heard {
    States(Var),
    Rows(Operand),
}

impl From<Var> for Heard {
    fn from(var: Var) -> Self {
        Heard::States(var)
    }
}

impl Heard {
    fn operand(self) -> Operand {
        match self {
            Heard::States(var) => var.operand(),
            Heard::Rows(operand) => operand,
        }
    }
}
