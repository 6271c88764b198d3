//! The kernels beside the recurrence, one by one.

mod losses;
mod products;
mod scaling;
mod updates;

use super::harness::{Tensors, run_once, short, wide};
use super::{Report, SHORT_BOUND, compare};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kernel::{
    self, Activation, ActivationPenalty, ActivationPenaltyParams, Control, CrossEntropy, Dropout,
    EmbeddingBackward, EmbeddingForward, EmbeddingParams, MaxOverTime, MaxOverTimeBackward,
    MaxOverTimeParams, RecordLoss, RecordLossParams, SequenceRows,
};
use crate::layer::Initializer;
use crate::oracle;
use crate::recording::{Recording, Role};
use crate::tensor::{DType, Precision};
use crate::wait;
use ndarray::{Array2, Array3, ArrayView2};
use updates::Kind;

/// Copies, masks and look-ups are exact but for the rounding of one product.
const EXACT: f64 = 1.3e-7;
/// Short sums and elementary functions.
const SHORT: f64 = 2e-6;

/// Rounding a result to f16, and what the kernel did before that.
const ROUNDED: f64 = 5e-4;

/// Random data, and how the buffers that hold them are stored: what the oracle sees is in either case what
/// the kernel gets.
struct Data {
    generator: Initializer,
    /// Of activations and their gradients.
    precision: Precision,
    /// Of results that are sums.
    sums: Precision,
}

impl Data {
    /// The same numbers for each kernel, up to their precision.
    fn new(precision: Precision) -> Self {
        Data { generator: Initializer::new(11), precision, sums: precision }
    }

    fn uniform(&mut self, n: usize, bound: f32) -> Vec<f32> {
        let values = self.generator.uniform(n, bound);
        self.stored(values)
    }

    /// As they are after they were stored.
    fn stored(&self, mut values: Vec<f32>) -> Vec<f32> {
        if self.is_short() {
            values.iter_mut().for_each(|x| *x = short(*x));
        }
        values
    }

    fn is_short(&self) -> bool {
        self.precision == Precision::F16
    }
}

/// One kernel's case: a recording, its data, and what the oracle wants.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    pub(super) name: String,
    precision: Precision,
    sums: Precision,
    recording: Recording,
    values: Tensors,
    ids: Vec<(&'static str, Vec<u32>)>,
    control: Control,
    want: Vec<(&'static str, Vec<f64>)>,
    tolerance: f64,
    /// Results that are stored as f16, and the buffers of f32 that the host reads them from.
    stored: Vec<[kernel::View; 2]>,
}

impl Case {
    fn new(g: &Data, kernel: &'static str, name: impl Into<String>, tolerance: f64) -> Self {
        Case {
            kernel,
            name: match g.sums == g.precision {
                true => name.into(),
                false => name.into() + " to f32",
            },
            precision: g.precision,
            sums: g.sums,
            recording: Recording::new(),
            values: Tensors::new(),
            ids: Vec::new(),
            control: Control::new(3, 0xfeed_beef_1234_5678),
            want: Vec::new(),
            tolerance,
            stored: Vec::new(),
        }
    }

    /// A buffer of the host's, and the one that the kernel works on: the same, or a copy in f16.
    fn buffer(
        &mut self,
        name: &str,
        len: usize,
        role: Role,
        precision: Precision,
    ) -> Result<kernel::View> {
        let outer = self.recording.buffer(name, len, DType::F32, role)?;
        if precision == Precision::F32 {
            return Ok(outer);
        }
        let inner =
            self.recording.buffer(format!("{name}.f16"), len, DType::F16, Role::Temporary)?;
        if role != Role::Output {
            self.copy(outer, inner)?;
        }
        if role != Role::Input {
            self.stored.push([inner, outer]);
        }
        Ok(inner)
    }

    fn copy(&mut self, from: kernel::View, to: kernel::View) -> Result<()> {
        let [source, target] = [from, to].map(|view| kernel::Rows::new(view, view.len));
        self.recording.launch(kernel::Combine::copy([1, from.len], source, target), &[from, to])
    }

    fn input(&mut self, name: &str, values: Vec<f32>) -> Result<kernel::View> {
        let view = self.buffer(name, values.len(), Role::Input, self.precision)?;
        self.values.insert(name.to_string(), values);
        Ok(view)
    }

    /// What is f32 in every precision: weights, vectors by column.
    fn wide_input(&mut self, name: &str, values: Vec<f32>) -> Result<kernel::View> {
        let view = self.buffer(name, values.len(), Role::Input, Precision::F32)?;
        self.values.insert(name.to_string(), values);
        Ok(view)
    }

    fn state(&mut self, name: &str, values: Vec<f32>) -> Result<kernel::View> {
        self.state_in(name, values, self.precision)
    }

    /// What is read and written and f32 in every precision: gradients of weights.
    fn wide_state(&mut self, name: &str, values: Vec<f32>) -> Result<kernel::View> {
        self.state_in(name, values, Precision::F32)
    }

    /// A result that is a sum, and starts with what is there.
    fn sum(&mut self, name: &str, values: Vec<f32>) -> Result<kernel::View> {
        self.state_in(name, values, self.sums)
    }

    fn state_in(
        &mut self,
        name: &str,
        values: Vec<f32>,
        precision: Precision,
    ) -> Result<kernel::View> {
        let view = self.buffer(name, values.len(), Role::State, precision)?;
        self.values.insert(name.to_string(), values);
        Ok(view)
    }

    fn ids(&mut self, name: &'static str, values: Vec<u32>) -> Result<kernel::View> {
        let view = self.recording.buffer(name, values.len(), DType::U32, Role::Input)?;
        self.ids.push((name, values));
        Ok(view)
    }

    fn output(&mut self, name: &str, len: usize) -> Result<kernel::View> {
        self.buffer(name, len, Role::Output, self.precision)
    }

    /// What is f32 in every precision: losses, partial sums.
    fn wide_output(&mut self, name: &str, len: usize) -> Result<kernel::View> {
        self.buffer(name, len, Role::Output, Precision::F32)
    }

    /// The bound on a result: copies must be exact in either precision.
    fn bound(&self, name: &str) -> f64 {
        let is_named =
            |[_, outer]: &[kernel::View; 2]| self.recording.get(outer.buffer).name == name;
        match self.tolerance {
            own if own == 0.0 || !self.stored.iter().any(is_named) => own,
            EXACT => ROUNDED,
            _ => SHORT_BOUND,
        }
    }

    /// The kernel as reports name it.
    pub(super) fn title(&self) -> String {
        match self.precision {
            Precision::F32 => self.kernel.to_string(),
            Precision::F16 => format!("{} f16", self.kernel),
        }
    }

    pub(super) async fn report(mut self, engine: &Engine) -> Result<Report> {
        for [inner, outer] in self.stored.clone() {
            self.copy(inner, outer)?;
        }
        let ids: Vec<(&str, &[u32])> = self.ids.iter().map(|i| (i.0, i.1.as_slice())).collect();
        let got = run_once(engine, &self.recording, &self.values, &ids, self.control).await?;
        let differences = self.want.iter().map(|(name, want)| {
            let got = got.get(*name).map_or(&[][..], |v| v);
            (name.to_string(), compare(got, want), self.bound(name))
        });
        let differences: Vec<_> = differences.collect();
        Ok(Report::worst(self.title(), self.name, differences))
    }
}

/// Every kernel but the recurrent steps over buffers of a precision, calling `each` with each report: those
/// of one name, or the cases of a kernel that begin with the words after its name. In f16 they are the
/// kernels over activations.
///
/// # Errors
/// The engine failed, or lacks the precision.
pub fn kernel_reports(
    engine: &Engine,
    precision: Precision,
    kernel: Option<&str>,
    each: &mut impl FnMut(&Report),
) -> Result<()> {
    let mut run = async |case: Case| -> Result<()> {
        let chosen = |words: &str| match words.split_once(' ') {
            Some((kernel, words)) => case.kernel == kernel && case.name.starts_with(words),
            None => case.kernel == words,
        };
        if kernel.is_none_or(chosen) {
            each(&case.report(engine).await?);
        }
        Ok(())
    };
    wait::here(cases(precision, &mut run))
}

/// The cases of a precision, one after another: their data are many, and most of them follow from those before.
pub(super) async fn cases(
    precision: Precision,
    run: &mut impl AsyncFnMut(Case) -> Result<()>,
) -> Result<()> {
    // Products have numbers of their own: more of their cases leave the others as they are.
    products::cases(&mut Data::new(precision), run).await?;
    let g = &mut Data::new(precision);
    activations(g, run).await?;
    if precision == Precision::F16 {
        return Ok(());
    }
    for kind in Kind::ALL {
        run(scaling::scaled_updates(&mut Data::new(precision), kind)?).await?;
    }
    for n in [1, 33, 257, 10_000, 600_001] {
        for case in updates::reductions(g, n)? {
            run(case).await?;
        }
        for kind in &Kind::ALL[..Kind::FIRST] {
            run(updates::optimizer(g, *kind, n)?).await?;
        }
        // With numbers of their own, as the products.
        let g = &mut Data::new(precision);
        for kind in &Kind::ALL[Kind::FIRST..] {
            run(updates::optimizer(g, *kind, n)?).await?;
        }
        run(updates::average(g, n)?).await?;
        for scaled in [false, true] {
            run(updates::clip_value(g, n, scaled)?).await?;
        }
    }
    for case in memory(g, 65_536 * 256 + 3)? {
        run(case).await?;
    }
    Ok(())
}

/// The kernels over activations and their gradients.
async fn activations(g: &mut Data, run: &mut impl AsyncFnMut(Case) -> Result<()>) -> Result<()> {
    // Sizes, words between the rows, and tokens of a block (0: all) with the order of blocks.
    for (sizes, apart, block, descending) in [
        ([1, 1, 1], 0, 0, false),
        ([7, 5, 3], 0, 0, false),
        ([7, 5, 3], 2, 2, true),
        ([130, 33, 65], 35, 64, false),
        ([130, 33, 65], 0, 64, true),
        ([200, 70_000, 1], 0, 0, false),
        ([4100, 3, 300], 0, 0, false),
        ([4100, 3, 300], 100, 2049, true),
    ] {
        let rows = SequenceRows { flags: None, places: 1, first: 0, block, descending };
        for case in embedding(g, sizes, sizes[2] + apart, &rows)? {
            run(case).await?;
        }
    }
    // With numbers of their own, as the products.
    for (sizes, lengths) in
        [([1, 1, 1], false), ([7, 5, 3], true), ([3, 70, 300], false), ([40, 3, 257], true)]
    {
        for case in largest(&mut Data::new(g.precision), sizes, lengths)? {
            run(case).await?;
        }
    }
    for n in [1, 7, 33, 1000, 70_001] {
        run(dropout(g, n)?).await?;
    }
    for (n, v) in [(1, 1), (3, 2), (33, 257), (7, 1000), (3, 4100), (70_000, 2)] {
        run(cross_entropy(g, n, v)?).await?;
    }
    for shape in [[1, 1, 1], [2, 1, 1], [5, 7, 33], [40, 3, 257], [70_000, 1, 1]] {
        for bits in 0..8 {
            run(penalty(g, shape, [0, 1, 2].map(|i| bits >> i & 1 == 1))?).await?;
        }
    }
    for n in [1, 257] {
        for case in memory(g, n)? {
            run(case).await?;
        }
    }
    // With numbers of their own, as the products.
    let g = &mut Data::new(g.precision);
    for activation in Activation::examples() {
        run(scaling::activated(g, activation)?).await?;
    }
    run(scaling::scaled_loss(g)?).await?;
    losses::cases(&mut Data::new(g.precision), run).await
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> Result<Array2<f64>> {
    let wide = wide(values);
    let view = ArrayView2::from_shape((rows, columns), &wide);
    view.map(|v| v.to_owned()).map_err(|e| Error::invalid(e.to_string()))
}

/// Token ids that repeat and leave gaps.
fn tokens(n: usize, vocabulary: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 7 + i / 3) % vocabulary) as u32).collect()
}

/// The largest over time, and where its gradient goes; values that repeat, and rows without a step.
fn largest(g: &mut Data, [t, b, c]: [usize; 3], lengths: bool) -> Result<[Case; 2]> {
    let name = format!("T{t} B{b} C{c}{}", if lengths { " lengths" } else { "" });
    let ends: Vec<usize> =
        (0..b).map(|row| if lengths { (row * 5 + 2) % (t + 1) } else { t }).collect();
    // Coarse ones, so that the largest is there twice.
    let x: Vec<f32> = g.uniform(t * b * c, 4.0).into_iter().map(|x| x.round() - 5.0).collect();
    let d_y = g.uniform(b * c, 1.0);
    let before = g.uniform(t * b * c, 1.0);
    let (mut y, mut places) = (vec![0.0; b * c], vec![t as u32; b * c]);
    for (i, (y, place)) in y.iter_mut().zip(&mut places).enumerate() {
        let steps: Vec<f64> = (0..ends[i / c]).map(|t| f64::from(x[t * b * c + i])).collect();
        let Some(&first) = steps.first() else { continue };
        *y = steps.iter().copied().fold(first, f64::max);
        *place = steps.iter().position(|x| x == y).unwrap_or(t) as u32;
    }
    let mut forward = Case::new(g, "max_over_time", &name, EXACT);
    let x = forward.input("x", x)?;
    let out = forward.output("y", b * c)?;
    let place = forward.recording.buffer("places", b * c, DType::U32, Role::Temporary)?;
    let params = MaxOverTimeParams::new([t, b, c], x, out);
    let mut views = vec![x, out, place];
    if lengths {
        views.push(forward.ids("lengths", ends.iter().map(|&n| n as u32).collect())?);
    }
    forward.recording.launch(MaxOverTime { params, lengths }, &views)?;
    forward.want.push(("y", y));

    let accumulate = t % 2 == 1;
    let mut backward = Case::new(g, "max_over_time_backward", &name, EXACT);
    let mut want: Vec<f64> =
        before.iter().map(|&x| if accumulate { f64::from(x) } else { 0.0 }).collect();
    for (i, &place) in places.iter().enumerate().filter(|(_, place)| **place < t as u32) {
        want[place as usize * b * c + i] += f64::from(d_y[i]);
    }
    let place = backward.ids("places", places)?;
    let d_y = backward.input("d_y", d_y)?;
    let d_x = backward.state("d_x", before)?;
    let params = MaxOverTimeParams::new([t, b, c], d_x, d_y);
    let op = MaxOverTimeBackward { params, accumulate };
    backward.recording.launch(op, &[place, d_y, d_x])?;
    backward.want.push(("d_x", want));
    Ok([forward, backward])
}

/// `stride`: elements from one row of the output to the next, which others lie between.
fn embedding(
    g: &mut Data,
    [n, v, e]: [usize; 3],
    stride: usize,
    rows: &SequenceRows,
) -> Result<[Case; 2]> {
    let name = format!("N{n} V{v} E{e} stride {stride} block {}", rows.block);
    let ids = tokens(n, v);
    let plain: Vec<usize> = ids.iter().map(|&i| i as usize).collect();

    let mut forward = Case::new(g, "embedding_forward", &name, EXACT);
    let table = g.uniform(v * e, 1.0);
    let before = g.uniform(n * stride, 1.0);
    let looked_up = oracle::embedding(&matrix(&table, v, e)?, &plain)?;
    let mut want: Vec<f64> = before.iter().map(|&x| f64::from(x)).collect();
    for (row, values) in want.chunks_mut(stride).zip(looked_up.rows()) {
        row.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
    }
    let ids_view = forward.ids("ids", ids.clone())?;
    let table = forward.wide_input("table", table)?;
    let output = forward.state("output", before)?;
    let params = EmbeddingParams::new(v, e, ids_view, table, output).with_stride(stride);
    forward.recording.launch(EmbeddingForward { params }, &[ids_view, table, output])?;
    forward.want.push(("output", want));

    let accumulate = n % 2 == 1;
    let mut backward = Case::new(g, "embedding_backward", &name, SHORT);
    let d_output = g.uniform(n * stride, 1.0);
    let before = g.uniform(v * e, 1.0);
    let of_rows: Vec<f32> = d_output.chunks(stride).flat_map(|row| &row[..e]).copied().collect();
    let mut want = oracle::embedding_backward(v, &plain, &matrix(&of_rows, n, e)?)?;
    if accumulate {
        want += &matrix(&before, v, e)?;
    }
    let ids_view = backward.ids("ids", ids)?;
    // More rows follow in the buffer: a kernel that reads past the last token would add them.
    let mut longer = d_output;
    longer.resize((n + 64) * stride, 9.0);
    let d_output = backward.input("d_output", longer)?.part(0, n * stride);
    let d_table = backward.wide_state("d_table", before)?;
    let params = EmbeddingParams::new(v, e, ids_view, d_table, d_output).with_stride(stride);
    let op = EmbeddingBackward { params: params.over(rows), accumulate };
    backward.recording.launch(op, &[ids_view, d_output, d_table])?;
    backward.want.push(("d_table", want.into_iter().collect()));
    Ok([forward, backward])
}

fn dropout(g: &mut Data, n: usize) -> Result<Case> {
    let mut case = Case::new(g, "dropout", format!("N{n}"), EXACT);
    let accumulate = n.is_multiple_of(2);
    let (stream, rate) = (5, 0.3f32);
    let x = g.uniform(n, 1.0);
    let before = g.uniform(n, 1.0);
    let keep = f64::from(1.0 - rate);
    let c = case.control;
    let seed = u64::from(c.seed_high) << 32 | u64::from(c.seed_low);
    let mask = oracle::dropout_multipliers(seed, stream, c.step, keep, n);
    let want = (0..n).map(|i| {
        let value = f64::from(x[i]) * mask[i];
        if accumulate { value + f64::from(before[i]) } else { value }
    });
    case.want.push(("output", want.collect()));
    let input = case.input("input", x)?;
    let output = case.state("output", before)?;
    let control = case.recording.control();
    let op = Dropout { accumulate, ..Dropout::new(input, output, stream, rate) };
    case.recording.launch(op, &[input, output, control])?;
    Ok(case)
}

fn cross_entropy(g: &mut Data, n: usize, v: usize) -> Result<Case> {
    let mut case = Case::new(g, "cross_entropy", format!("N{n} V{v}"), SHORT);
    // Logits so large that an unshifted exponential overflows.
    let mut logits = g.uniform(n * v, 4.0);
    logits.iter_mut().for_each(|x| *x += 150.0);
    let logits = g.stored(logits);
    let targets = tokens(n, v);
    let plain: Vec<usize> = targets.iter().map(|&i| i as usize).collect();
    let wide_logits = matrix(&logits, n, v)?;
    let (_, d_logits) = oracle::softmax_cross_entropy(&wide_logits, &plain)?;
    let mut losses = Vec::new();
    for (row, &target) in wide_logits.outer_iter().zip(&plain) {
        let row = row.insert_axis(ndarray::Axis(0)).to_owned();
        losses.push(oracle::softmax_cross_entropy(&row, &[target])?.0);
    }
    let logits_view = case.input("logits", logits)?;
    let targets_view = case.ids("targets", targets)?;
    let losses_view = case.wide_output("losses", n)?;
    let gradient = case.output("d_logits", n * v)?;
    let mut op = CrossEntropy::new(v, logits_view, targets_view, true);
    // Loss scaling: 1/N of many rows is under the least normal number of f16.
    let scale = if g.is_short() { n as f64 } else { 1.0 };
    op.params.scale *= scale as f32;
    case.recording.launch(op, &[logits_view, targets_view, losses_view, gradient])?;
    // The same without a gradient must give the same losses.
    let again = case.wide_output("losses_only", n)?;
    let op = CrossEntropy::new(v, logits_view, targets_view, false);
    case.recording.launch(op, &[logits_view, targets_view, again])?;
    case.want.push(("losses", losses.clone()));
    case.want.push(("losses_only", losses));
    if v > 1 {
        case.want.push(("d_logits", d_logits.into_iter().map(|d| d * scale).collect()));
    }
    Ok(case)
}

/// Penalties on the outputs of T steps of B rows; the last row of three and more takes no part at all.
fn penalty(
    g: &mut Data,
    [time, batch, width]: [usize; 3],
    [temporal, flagged, accumulate]: [bool; 3],
) -> Result<Case> {
    let options = [temporal, flagged, accumulate].map(u8::from);
    let name = format!("T{time} B{batch} W{width} options {options:?}");
    let mut case = Case::new(g, "activation_penalty", name, SHORT);
    const OFFSET: usize = 3;
    let rows = time * batch;
    let n = rows * width;
    // A mean over so many is scaled as a loss is, so that its gradient is no subnormal number of f16.
    let rate = if g.is_short() { 1.7 * n as f32 } else { 1.7 };
    let random = g.uniform(rows, 1.0);
    let valid =
        |row: usize| !flagged || random[row] > -0.4 && (batch < 3 || row % batch < batch - 1);
    let flags: Vec<u32> = (0..rows).map(|row| u32::from(valid(row))).collect();
    let h = g.uniform(OFFSET + n, 1.0);
    let before = g.uniform(OFFSET + n, 1.0);
    let bad = |e: ndarray::ShapeError| Error::invalid(e.to_string());
    let wide_h = Array3::from_shape_vec((time, batch, width), wide(&h[OFFSET..])).map_err(bad)?;
    let taken: Vec<bool> = flags.iter().map(|&f| f == 1).collect();
    let taken = Array2::from_shape_vec((time, batch), taken).map_err(bad)?;
    let (loss, slope) = match temporal {
        true => oracle::temporal_penalty(&wide_h, &taken, f64::from(rate))?,
        false => oracle::activation_penalty(&wide_h, &taken, f64::from(rate))?,
    };
    let mut want = wide(&before);
    for (want, slope) in want[OFFSET..].iter_mut().zip(&slope) {
        *want = if accumulate { *want + slope } else { *slope };
    }
    let h = case.input("h", h)?;
    let gradient = case.state("gradient", before)?;
    let partials = ActivationPenalty::partials(n);
    let losses = case.wide_output("losses", partials)?;
    let ring = case.wide_output("ring", 1)?;
    let mut buffers = vec![h, losses, gradient];
    if flagged {
        buffers.push(case.ids("flags", flags)?);
    }
    let params = ActivationPenaltyParams {
        rows: rows as u32,
        batch: batch as u32,
        width: width as u32,
        h_offset: OFFSET as u32,
        gradient_offset: OFFSET as u32,
        places: 1,
        rate,
    };
    let (gradient, scaled) = (true, false);
    let op = ActivationPenalty { params, temporal, flags: flagged, gradient, accumulate, scaled };
    case.recording.launch(op, &buffers)?;
    // How it is cut into partial sums is the engine's own affair.
    let control = case.recording.control();
    let params = RecordLossParams { count: partials as u32, ring: 1, scale: 1.0, first: 0 };
    case.recording
        .launch(RecordLoss { params, ..RecordLoss::new(1, 1) }, &[losses, ring, control])?;
    case.want.push(("ring", vec![loss]));
    case.want.push(("gradient", want));
    Ok(case)
}

fn memory(g: &mut Data, n: usize) -> Result<Vec<Case>> {
    let mut add = Case::new(g, "combine", format!("N{n}"), EXACT);
    let (x, y) = (g.uniform(n, 1.0), g.uniform(n, 1.0));
    add.want.push(("y", x.iter().zip(&y).map(|(&x, &y)| f64::from(x) + f64::from(y)).collect()));
    let (x_view, y_view) = (add.input("x", x.clone())?, add.state("y", y)?);
    let row = |view| kernel::Rows::new(view, n);
    let op = kernel::Combine::copy([1, n], row(x_view), row(y_view)).accumulating(true);
    add.recording.launch(op, &[x_view, y_view])?;

    let mut fill = Case::new(g, "fill", format!("N{n}"), 0.0);
    let before = g.uniform(n + 2, 1.0);
    let mut want = wide(&before);
    want[1..=n].fill(1.5);
    fill.want.push(("x", want));
    let view = fill.state("x", before)?;
    fill.recording.launch(kernel::Fill::new(view.part(1, n), 1.5), &[view])?;

    // Two rows together are as long as the other cases.
    let n = n.div_ceil(2);
    let mut copy = Case::new(g, "combine", format!("2 rows of {n}"), 0.0);
    let source: Vec<f32> = x[..n].iter().chain(&x[..n]).copied().chain([7.0, 8.0]).collect();
    let before = vec![0.25; 2 * n + 5];
    let mut want = wide(&before);
    let (from, to) = ((1, n), (2, n + 1));
    for row in 0..2 {
        for column in 0..n {
            want[to.0 + row * to.1 + column] = f64::from(source[from.0 + row * from.1 + column]);
        }
    }
    copy.want.push(("to", want));
    let (source, target) = (copy.input("from", source)?, copy.state("to", before)?);
    let rows = |view: kernel::View, (first, stride)| {
        kernel::Rows::new(view.part(first, view.len - first), stride)
    };
    let op = kernel::Combine::copy([2, n], rows(source, from), rows(target, to));
    copy.recording.launch(op, &[source, target])?;
    Ok(vec![add, fill, copy])
}
