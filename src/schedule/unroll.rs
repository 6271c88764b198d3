//! A recurrent layer over time, in one direction, with the step strategy: a launch a phase and time
//! step; or one scan, for cells without a recurrent product.

use super::{Recorder, Var};
use crate::error::{Error, Result};
use crate::kernel::{
    BackwardPhase, CellKind, ColumnsForward, ColumnsParams, Convolution, ForwardPhase, NONE,
    NORM_WORDS, NormBackward, NormForward, Op, ScanBackward, ScanForward, StepBackward,
    StepForward, StepKind, StepParams, View,
};
use bytemuck::Zeroable;

/// The parameters that the recurrence reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecurrentWeights {
    /// U \[G·H, P/heads\] (a convolution: \[G·C, C·taps\]); none of a scan.
    pub hh: Option<View>,
    /// b′ \[G·H\]; none of a scan.
    pub b: Option<View>,
    /// W_hr \[P, H\] of a projection.
    pub hr: Option<View>,
    /// The vectors by unit \[E, H\].
    pub unit: Option<View>,
}

/// The recurrence of one layer in one direction over T steps: everything but the input product.
#[derive(Clone, Debug)]
pub struct Recurrence {
    /// Cell and options.
    pub kind: StepKind,
    /// T.
    pub time: usize,
    /// B, with a convolution B·S.
    pub batch: usize,
    /// H.
    pub hidden: usize,
    /// From the last step to the first.
    pub reverse: bool,
    /// Blocks of the block-diagonal weights; 1: dense.
    pub heads: usize,
    /// The recurrent product is a convolution.
    pub convolution: Option<Convolution>,
    /// Zoneout's rates for h and for the other states.
    pub zoneout: [f32; 2],
    /// The random stream of the zoneout.
    pub stream: u32,
    /// Steps of the sequence before this part's first.
    pub first: usize,
    /// The parameters.
    pub weights: RecurrentWeights,
    /// `flags` of the whole sequence.
    pub flags: Option<View>,
    /// Masks \[M·B, P\] of the recurrent dropout.
    pub masks: Option<View>,
    /// \[T·B, K·H\]: the input product, then the activations, then the gate gradients.
    pub gates: Var,
    /// Every state of every step: h \[T+1,B,P\], then the others \[S−1,T+1,B,H\].
    pub states: Var,
    /// With layer norm \[T·B, G·H\]: U·h̃, then its gradient.
    pub recurrent: Option<Var>,
    norms: Option<View>,
}

/// What backward starts from.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    /// The gradient of the outputs \[T·B, P\].
    pub d_output: Option<View>,
    /// The final states' gradient, in the layout of a state.
    pub carry: Var,
    /// Where each row's gradients of the vectors by unit add up, \[B, E·H\].
    pub unit: Option<Var>,
}

/// What backward leaves for the weight gradients.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// The initial states' gradient, in the layout of a state.
    pub carry: Var,
    /// The gradient of h's candidate \[T·B, P\], where there is a projection.
    pub candidate: Option<Var>,
}

impl Recurrence {
    /// Buffers for a layer; the caller fills in what its options need.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn new(
        rec: &mut Recorder,
        kind: StepKind,
        [time, batch, hidden]: [usize; 3],
    ) -> Result<Self> {
        let cell = kind.cell.clone();
        let gates = rec.temporary("gates", [time * batch, cell.saved() * hidden])?;
        let state_words = batch * cell.state_words(hidden);
        let states = rec.temporary("states", [time + 1, state_words])?;
        let (mut recurrent, mut norms) = (None, None);
        if cell.layer_norm.is_some() && !cell.kind.is_scan() {
            recurrent = Some(rec.temporary("recurrent", [time * batch, cell.gates() * hidden])?);
            norms = Some(rec.temporary_f32("norms", [time * batch, NORM_WORDS])?.view);
        }
        Ok(Recurrence {
            kind,
            time,
            batch,
            hidden,
            reverse: false,
            heads: 1,
            convolution: None,
            zoneout: [0.0; 2],
            stream: 0,
            first: 0,
            weights: RecurrentWeights::default(),
            flags: None,
            masks: None,
            gates,
            states,
            recurrent,
            norms,
        })
    }

    /// P.
    pub fn width(&self) -> usize {
        self.kind.cell.width(self.hidden)
    }

    /// Columns of U: terms of a unit's product.
    pub fn depth(&self) -> usize {
        self.width() * self.convolution.map_or(1, |c| c.taps()) / self.heads
    }

    /// What a row's units hear in all: the terms of every head.
    fn heard(&self) -> usize {
        self.depth() * self.heads
    }

    /// h of all steps, before or behind them: \[T·B, P\].
    fn hidden_rows(&self, behind: bool) -> Var {
        let words = self.batch * self.width();
        let first = usize::from(behind != self.reverse);
        let view = self.states.view.part(first * words, self.time * words);
        Var { view, rows: self.time * self.batch, columns: self.width(), ..self.states }
    }

    /// h after every step: \[T·B, P\].
    pub fn outputs(&self) -> Var {
        self.hidden_rows(true)
    }

    /// h before every step: \[T·B, P\].
    pub fn previous(&self) -> Var {
        Var { needs_gradient: false, ..self.hidden_rows(false) }
    }

    /// The slot before the first step of the direction's order, or behind the last one.
    fn border_slot(&self, behind: bool) -> usize {
        if behind != self.reverse { self.time } else { 0 }
    }

    /// (first word in the states, first word in a state's own layout, words) of each state at a slot.
    fn pieces(&self, slot: usize) -> Vec<(usize, usize, usize)> {
        let (mut from, mut to) = (0, 0);
        let mut list = Vec::new();
        for state in 0..self.kind.cell.states() {
            let words = self.batch * if state == 0 { self.width() } else { self.hidden };
            list.push((from + slot * words, to, words));
            from += (self.time + 1) * words;
            to += words;
        }
        list
    }

    /// Initial states from `source`, in the layout of a state (h \[B,P\], then the others \[B,H\]), or
    /// zeros.
    ///
    /// # Errors
    /// `source` lies in the states' buffer.
    pub fn set_initial(&self, rec: &mut Recorder, source: Option<View>) -> Result<()> {
        for (at, from, words) in self.pieces(self.border_slot(false)) {
            let target = self.states.view.part(at, words);
            match source {
                Some(source) => {
                    let source = source.part(from, words);
                    rec.copy_rows([1, words], (source, words), (target, words))?;
                }
                None => rec.fill(target, 0.0)?,
            }
        }
        Ok(())
    }

    /// Final states into `target`, in the layout of a state.
    ///
    /// # Errors
    /// `target` lies in the states' buffer.
    pub fn get_final(&self, rec: &mut Recorder, target: View) -> Result<()> {
        self.get_slot(rec, self.border_slot(true), target)
    }

    /// The states behind the first `steps` steps of the direction's order.
    ///
    /// # Errors
    /// There are fewer steps; `target` lies in the states' buffer.
    pub fn get_behind(&self, rec: &mut Recorder, steps: usize, target: View) -> Result<()> {
        if steps > self.time {
            return Err(Error::shape("steps before a state", &[self.time], &[steps]));
        }
        let slot = if self.reverse { self.time - steps } else { steps };
        self.get_slot(rec, slot, target)
    }

    fn get_slot(&self, rec: &mut Recorder, slot: usize, target: View) -> Result<()> {
        for (at, to, words) in self.pieces(slot) {
            let (source, target) = (self.states.view.part(at, words), target.part(to, words));
            rec.copy_rows([1, words], (source, words), (target, words))?;
        }
        Ok(())
    }

    /// Parameters of the phases that compute the units of the cell.
    fn params(&self) -> StepParams {
        let [map, kernel] = self.convolution.map_or([[1, 1]; 2], |c| [c.map, c.kernel]);
        let word = |x: usize| x as u32;
        StepParams {
            time: word(self.time),
            batch: word(self.batch),
            hidden: word(self.hidden),
            width: word(self.width()),
            w_offset: self.weights.hh.map_or(0, |v| word(v.offset)),
            b_offset: self.weights.b.map_or(0, |v| word(v.offset)),
            gates_offset: word(self.gates.view.offset),
            units: word(self.hidden),
            terms: word(self.hidden / self.heads),
            depth: word(self.depth()),
            head: word(self.hidden / self.heads),
            places: word(self.convolution.map_or(1, |c| c.places())),
            stream: self.stream,
            zoneout_h: self.zoneout[0],
            zoneout_c: self.zoneout[1],
            map_height: word(map[0]),
            map_width: word(map[1]),
            kernel_height: word(kernel[0]),
            kernel_width: word(kernel[1]),
            epsilon: self.kind.cell.layer_norm.unwrap_or(0.0),
            first: word(self.first),
            count: 1,
            ..StepParams::zeroed()
        }
    }

    /// Parameters of the phases that compute h, P units: the product with Uᵀ.
    fn state_params(&self) -> StepParams {
        let width = self.width() as u32;
        StepParams { units: width, head: width / self.heads as u32, ..self.params() }
    }

    /// Parameters of the projection: P units of H terms forward, H units of P terms backward.
    fn projection_params(&self, backward: bool) -> StepParams {
        let [h, p] = [self.hidden as u32, self.width() as u32];
        let w_offset = self.weights.hr.map_or(0, |v| v.offset as u32);
        let (units, terms) = if backward { (h, p) } else { (p, h) };
        StepParams { w_offset, units, terms, depth: h, head: units, ..self.params() }
    }

    /// Parameters of the second product of reset-before GRU: the rows of n.
    fn candidate_params(&self) -> StepParams {
        let params = self.params();
        StepParams { w_offset: params.w_offset + 2 * params.hidden * params.depth, ..params }
    }

    /// Launches an operation with its buffers by their names.
    fn launch(
        &self,
        rec: &mut Recorder,
        op: impl Into<Op>,
        w: Option<View>,
        others: &[(&str, View)],
    ) -> Result<()> {
        let op = op.into();
        let mut views = Vec::new();
        for binding in op.kernel().bindings() {
            let own = match binding.name {
                "gates" => Some(self.gates.view),
                "states" => Some(self.states.view),
                "w" => w,
                "b" => self.weights.b,
                "unit_parameters" => self.weights.unit,
                "flags" => self.flags,
                "hidden_mask" => self.masks,
                "recurrent" => self.recurrent.map(|r| r.view),
                "norms" => self.norms,
                "control" => Some(rec.control()),
                _ => None,
            };
            let given = others.iter().find(|o| o.0 == binding.name).map(|o| o.1);
            let missing = || Error::Missing {
                tensor: binding.name.to_string(),
                place: format!("the layer for kernel {}", op.kernel().name()),
            };
            views.push(given.or(own).ok_or_else(missing)?);
        }
        rec.launch(op, &views)
    }

    /// The columns of h before the step, under each gate's own mask.
    fn columns(&self, rec: &mut Recorder, op: &StepForward, target: View) -> Result<()> {
        let Some(convolution) = &self.convolution else { return Ok(()) };
        let (params, words, heard) = (op.params, self.batch * self.width(), self.heard());
        let offset = params.old_slot as usize * words;
        let mut columns = ColumnsParams::new(convolution, self.batch, self.width(), offset);
        let maps = self.batch / convolution.places();
        columns.flags_offset = ((self.first + params.t as usize) * maps) as u32;
        columns.columns_stride = (op.sources() * heard) as u32;
        let (flags, mask) = (self.flags.is_some(), self.masks.is_some());
        let mut others = vec![("source", self.states.view), ("columns", target)];
        others.extend(self.masks.map(|m| ("mask", m)));
        for source in 0..op.sources() {
            columns.columns_offset = (source * heard) as u32;
            columns.mask_offset = (source * words) as u32;
            self.launch(rec, ColumnsForward { params: columns, flags, mask }, None, &others)?;
        }
        Ok(())
    }

    /// The columns of r⊙h̃ of reset-before GRU, which lies in the gate rows.
    fn candidate_columns(&self, rec: &mut Recorder, t: u32, target: View) -> Result<()> {
        let Some(convolution) = &self.convolution else { return Ok(()) };
        let row = self.gates.columns;
        let offset = self.gates.view.offset + t as usize * self.batch * row + 3 * self.hidden;
        let mut params = ColumnsParams::new(convolution, self.batch, self.hidden, offset);
        params.source_stride = row as u32;
        let others = [("source", self.gates.view), ("columns", target)];
        self.launch(rec, ColumnsForward { params, flags: false, mask: false }, None, &others)
    }

    /// T launches a phase: states from the input products in `gates`.
    ///
    /// # Errors
    /// Weights of another shape.
    pub fn forward(&self, rec: &mut Recorder) -> Result<()> {
        let (kind, cell) = (&self.kind, &self.kind.cell);
        if cell.kind.is_scan() {
            let params = self.params().at(0, self.reverse);
            let (kind, reverse) = (kind.clone(), self.reverse);
            return self.launch(rec, ScanForward { params, kind, reverse }, None, &[]);
        }
        let step = |params: StepParams, phase| StepForward { params, kind: kind.clone(), phase };
        let normed = cell.layer_norm.is_some();
        let columns = match self.convolution {
            Some(_) => {
                let sources = step(self.params(), ForwardPhase::Cell).sources();
                Some(rec.temporary("columns", [self.batch, sources * self.heard()])?.view)
            }
            None => None,
        };
        let others: Vec<_> = columns.map(|c| ("columns", c)).into_iter().collect();
        // A product with its epilogue, or apart from it where a norm comes between.
        let product = |rec: &mut Recorder, params: StepParams, phase, bare| {
            if !normed {
                return self.launch(rec, step(params, phase), self.weights.hh, &others);
            }
            self.launch(rec, step(params, bare), self.weights.hh, &others)?;
            self.launch(rec, NormForward { params, kind: kind.clone(), phase }, None, &[])
        };
        for s in 0..self.time {
            let params = self.params().at(s, self.reverse);
            if let Some(columns) = columns {
                self.columns(rec, &step(params, ForwardPhase::Cell), columns)?;
            }
            product(rec, params, ForwardPhase::Cell, ForwardPhase::Product)?;
            if cell.kind == CellKind::GruResetBefore {
                if let Some(columns) = columns {
                    self.candidate_columns(rec, params.t, columns)?;
                }
                let params = self.candidate_params().at(s, self.reverse);
                product(rec, params, ForwardPhase::Candidate, ForwardPhase::CandidateProduct)?;
            }
            if cell.projection.is_some() {
                let params = self.projection_params(false).at(s, self.reverse);
                let op = step(params, ForwardPhase::Project);
                self.launch(rec, op, self.weights.hr, &[])?;
            }
        }
        Ok(())
    }

    /// What backward starts from: `d_final`, in the layout of a state, reaches the final states.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn incoming(
        &self,
        rec: &mut Recorder,
        d_output: Option<View>,
        d_final: Option<View>,
    ) -> Result<Incoming> {
        let cell = &self.kind.cell;
        let carry = rec.temporary_f32("carry", [1, self.batch * cell.state_words(self.hidden)])?;
        match d_final {
            Some(view) => rec.copy(Var { view, ..carry }, carry)?,
            None => rec.fill(carry.view, 0.0)?,
        }
        let mut unit = None;
        if cell.unit_vectors() > 0 {
            let d = rec.temporary_f32("d_unit", [self.batch, cell.unit_vectors() * self.hidden])?;
            rec.fill(d.view, 0.0)?;
            unit = Some(d);
        }
        Ok(Incoming { d_output, carry, unit })
    }

    /// T launches a phase: gate gradients over the activations in `gates`. With `initial`, one launch
    /// more leaves the initial states' gradient in the matrix that is returned.
    ///
    /// # Errors
    /// Gradients of another shape.
    pub fn backward(&self, rec: &mut Recorder, from: Incoming, initial: bool) -> Result<Swept> {
        let (kind, cell) = (&self.kind, &self.kind.cell);
        let Incoming { d_output, carry, unit } = from;
        let with_output = |params: StepParams| StepParams {
            d_output_offset: d_output.map_or(0, |v| v.offset) as u32,
            ..params
        };
        let mut others = vec![("carry", carry.view)];
        others.extend(d_output.map(|d| ("d_output", d)));
        if cell.kind.is_scan() {
            let params = with_output(self.params().at(0, self.reverse));
            let carry = rec.temporary_f32("d_initial", [1, carry.columns])?;
            others.push(("d_initial", carry.view));
            let (kind, reverse, d_output) = (kind.clone(), self.reverse, d_output.is_some());
            self.launch(rec, ScanBackward { params, kind, reverse, d_output }, None, &others)?;
            return Ok(Swept { carry, candidate: None });
        }
        let normed = cell.layer_norm.is_some();
        let mut swept = Swept { carry, candidate: None };
        if normed || cell.projection.is_some() {
            // The projection's weight gradient needs all steps; a norm needs one.
            let steps = if cell.projection.is_some() { self.time } else { 1 };
            let candidate = rec.temporary("d_candidate", [steps * self.batch, self.width()])?;
            others.push(("d_candidate", candidate.view));
            swept.candidate = cell.projection.map(|_| candidate);
        }
        if normed && cell.projection.is_some() {
            let d = rec.temporary("d_unprojected", [self.batch, self.hidden])?;
            others.push(("d_unprojected", d.view));
        }
        others.extend(unit.map(|d| ("d_unit", d.view)));
        if self.convolution.is_some() {
            let parts = self.column_step(self.state_params(), BackwardPhase::Columns);
            let words = parts.column_parts() * self.heard();
            let d = rec.temporary("d_columns", [self.batch, words])?;
            others.push(("d_columns", d.view));
        }
        for s in (0..self.time).rev() {
            self.backward_step(rec, s, with_output, &others, d_output.is_some())?;
        }
        if initial {
            let first = self.state_params().at(0, self.reverse);
            let params = StepParams { later: first.t, ..first };
            self.product_phase(rec, params, BackwardPhase::Initial, &others, false)?;
        }
        Ok(swept)
    }

    /// A phase that starts with the product over the later step's gate gradients; a convolution
    /// takes the gradient of the columns first.
    fn product_phase(
        &self,
        rec: &mut Recorder,
        params: StepParams,
        phase: BackwardPhase,
        others: &[(&str, View)],
        d_output: bool,
    ) -> Result<()> {
        let mut kind = self.kind.clone();
        if self.convolution.is_some() {
            if params.later == NONE {
                // There are no columns to put together.
                kind.columns = false;
                kind.masks = 0;
            } else {
                let op = self.column_step(params, BackwardPhase::Columns);
                self.launch(rec, op, self.weights.hh, others)?;
            }
        }
        let op = StepBackward { params, kind, phase, d_output };
        self.launch(rec, op, self.weights.hh, others)
    }

    /// A phase that leaves the gradient of a convolution's columns.
    fn column_step(&self, params: StepParams, phase: BackwardPhase) -> StepBackward {
        let [units, head] = [self.heard(), self.depth()].map(|x| x as u32);
        let params = StepParams { units, head, ..params };
        StepBackward { params, kind: self.kind.clone(), phase, d_output: false }
    }

    fn backward_step(
        &self,
        rec: &mut Recorder,
        s: usize,
        with_output: impl Fn(StepParams) -> StepParams,
        others: &[(&str, View)],
        d_output: bool,
    ) -> Result<()> {
        let cell = &self.kind.cell;
        let at = |params: StepParams| {
            let params = with_output(params.at(s, self.reverse));
            let row = self.batch * self.width();
            let steps = if cell.projection.is_some() { params.t as usize } else { 0 };
            StepParams { candidate_offset: (steps * row) as u32, ..params }
        };
        let step = |params, phase| StepBackward {
            params: at(params),
            kind: self.kind.clone(),
            phase,
            d_output: false,
        };
        let normed = cell.layer_norm.is_some();
        let separate = normed || cell.projection.is_some();
        let phase = if separate { BackwardPhase::Project } else { BackwardPhase::Cell };
        self.product_phase(rec, at(self.state_params()), phase, others, d_output)?;
        if cell.projection.is_some() {
            let phase = if normed { BackwardPhase::Raw } else { BackwardPhase::Unproject };
            let op = step(self.projection_params(true), phase);
            self.launch(rec, op, self.weights.hr, others)?;
        }
        let norm = |rec: &mut Recorder, phase| {
            let (params, kind) = (at(self.params()), self.kind.clone());
            self.launch(rec, NormBackward { params, kind, phase }, None, others)
        };
        if normed {
            norm(rec, BackwardPhase::Cell)?;
        }
        if cell.kind == CellKind::GruResetBefore {
            if self.convolution.is_some() {
                let params = at(self.candidate_params());
                let op = self.column_step(params, BackwardPhase::CandidateColumns);
                self.launch(rec, op, self.weights.hh, others)?;
            }
            let op = step(self.candidate_params(), BackwardPhase::Candidate);
            self.launch(rec, op, self.weights.hh, others)?;
            if normed {
                norm(rec, BackwardPhase::Candidate)?;
            }
        }
        Ok(())
    }

    /// The steps in the order of backward.
    pub fn steps_back(&self) -> impl Iterator<Item = usize> + use<> {
        let (time, reverse) = (self.time, self.reverse);
        (0..time).map(move |s| if reverse { s } else { time - 1 - s })
    }

    /// Whether h̃ differs from h: masks of the recurrent dropout, or resets.
    pub fn hears_masked(&self, resets: bool) -> bool {
        resets || self.masks.is_some()
    }
}
