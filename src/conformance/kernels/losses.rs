//! Losses with masks, weights and options; linear-chain conditional random fields.

use super::{Case, Data, SHORT, matrix, tokens};
use crate::conformance::harness::wide;
use crate::error::{Error, Result};
use crate::kernel::{
    ColumnSum, CrfForm, CrfParams, CrfPosterior, CrfPosteriorParams, CrfScan, CrfTransitions,
    CrossEntropy, ElementForm, ElementLoss, ElementLossParams, Fill, LossTotal, LossTotalParams,
    Operand, RecordLoss, RecordLossParams, View,
};
use crate::oracle::{self, ChainScores};
use ndarray::{Array1, Array2, Array3, ArrayView3};

/// Sums of differences of logarithms, of which each step of a chain adds some.
const CHAIN: f64 = 3e-6;

/// Which terms a mask leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Masked {
    No,
    Rows,
    Elements,
    All,
}

/// The sum of losses into a ring of one.
fn into_ring(
    case: &mut Case,
    name: &str,
    losses: View,
    scale: f64,
    total: Option<View>,
) -> Result<()> {
    let ring = case.wide_output(name, 1)?;
    let control = case.recording.control();
    let params =
        RecordLossParams { count: losses.len as u32, ring: 1, scale: scale as f32, first: 0 };
    let mut buffers = vec![losses, ring, control];
    buffers.extend(total);
    let op = RecordLoss { params, total: total.is_some(), accumulate: false };
    case.recording.launch(op, &buffers)
}

/// Each loss of elements, with the oracle's.
pub(super) fn element_forms() -> Vec<(ElementForm, f32)> {
    let levels = vec![0.1, 0.5, 0.75, 0.9];
    vec![
        (ElementForm::BinaryCrossEntropy { positive: false }, 0.0),
        (ElementForm::BinaryCrossEntropy { positive: true }, 0.0),
        (ElementForm::Squared, 0.0),
        (ElementForm::Absolute, 0.0),
        (ElementForm::Huber, 0.75),
        (ElementForm::Quantile(levels), 0.0),
        (ElementForm::Gaussian, 0.125),
        (ElementForm::StudentT, 0.125),
    ]
}

fn oracles(form: &ElementForm, shape: f32, positive: &[f32]) -> oracle::ElementLoss {
    let shape = f64::from(shape);
    match form {
        ElementForm::BinaryCrossEntropy { .. } => {
            oracle::ElementLoss::BinaryCrossEntropy(wide(positive))
        }
        ElementForm::Squared => oracle::ElementLoss::Squared,
        ElementForm::Absolute => oracle::ElementLoss::Absolute,
        ElementForm::Huber => oracle::ElementLoss::Huber(shape),
        ElementForm::Quantile(levels) => oracle::ElementLoss::Quantile(wide(levels)),
        ElementForm::Gaussian => oracle::ElementLoss::Gaussian(shape),
        ElementForm::StudentT => oracle::ElementLoss::StudentT(shape),
    }
}

/// A loss of N rows of D elements; `saturated`: logits of ±150 and residuals of 10,000.
pub(super) fn element(
    g: &mut Data,
    (form, shape): (ElementForm, f32),
    [n, width]: [usize; 2],
    masked: Masked,
    [accumulate, saturated]: [bool; 2],
) -> Result<Case> {
    const OFFSET: usize = 3;
    let kind = if saturated { " saturated" } else { "" };
    let plus = if accumulate { " added" } else { "" };
    let weighted = if form.positive() { " weighted" } else { "" };
    let name = format!("{}{weighted} N{n} D{width} mask {masked:?}{plus}{kind}", form.name());
    let mut case = Case::new(g, "element_loss", name, SHORT);
    let (count, each) = (n * width, form.each());
    let binary = matches!(form, ElementForm::BinaryCrossEntropy { .. });
    let mut prediction = g.uniform(OFFSET + count * each, 3.0);
    let mut target = g.generator.uniform(OFFSET + count, if binary { 0.5 } else { 3.0 });
    if binary {
        // Some are no and yes, some in between.
        let probability = |(i, y): (usize, &f32)| [0.0, 1.0, y + 0.5][i % 3];
        target = target.iter().enumerate().map(probability).collect();
    }
    if saturated {
        for (i, x) in prediction.iter_mut().enumerate() {
            *x = [150.0, -150.0, *x, 30.0 * *x][(i / 2) % 4];
        }
        if !binary {
            let far = |(i, y): (usize, &mut f32)| *y *= if i % 5 == 0 { 1e4 } else { 1.0 };
            target.iter_mut().enumerate().for_each(far);
        }
    }
    // Some predictions are right.
    if each == 1 && !binary {
        (0..count).step_by(7).for_each(|i| target[OFFSET + i] = prediction[OFFSET + i]);
    }
    let (flags, run) = match masked {
        Masked::No => (Vec::new(), 1),
        Masked::Rows => ((0..n).map(|i| u32::from(i % 3 != 1)).collect(), width),
        Masked::Elements => ((0..count).map(|i| [3, 0, 1, 2][i % 4]).collect(), 1),
        Masked::All => (vec![0u32; n], width),
    };
    let takes = |i: usize| flags.get(i / run).is_none_or(|flag| flag & 1 == 1);
    let taken = Array2::from_shape_fn((n, width), |(row, c)| takes(row * width + c));
    let positive: Vec<f32> = match form.positive() {
        true => (0..width).map(|c| 0.5 + c as f32).collect(),
        false => vec![1.0; width],
    };
    let (loss, slopes) = oracle::element_loss(
        &oracles(&form, shape, &positive),
        &matrix(&prediction[OFFSET..], n, width * each)?,
        &matrix(&target[OFFSET..], n, width)?,
        &taken,
    )?;
    // A mean over so many is scaled as a loss is, so that its gradient is no subnormal number of f16.
    let terms = taken.iter().filter(|&&t| t).count().max(1);
    let levels = if let ElementForm::Quantile(levels) = &form { levels.len() } else { 1 };
    let raise = if g.is_short() { (terms * levels) as f64 } else { 1.0 };
    let before = g.uniform(OFFSET + count * each, 1.0 / terms as f32);
    let before = if g.is_short() { g.uniform(OFFSET + count * each, 1.0) } else { before };
    let mut want = wide(&before);
    for (want, slope) in want[OFFSET..].iter_mut().zip(&slopes) {
        *want = if accumulate { *want + slope * raise } else { slope * raise };
    }
    case.want.push(("ring", vec![loss]));
    case.want.push(("ring.alone", vec![loss]));
    case.want.push(("gradient", want));
    // What takes no part may be anything.
    for i in (0..count).filter(|&i| !takes(i)) {
        target[OFFSET + i] = f32::NAN;
        prediction[OFFSET + i * each..][..each].fill(f32::NAN);
    }

    let prediction = case.input("prediction", prediction)?;
    let target = case.wide_input("wanted", target)?;
    let gradient = case.state("gradient", before)?;
    let losses = case.wide_output("losses", ElementLoss::partials(count))?;
    let mean =
        if masked == Masked::No { 1.0 / (count * levels) as f64 } else { 1.0 / levels as f64 };
    let params = ElementLossParams {
        count: count as u32,
        width: width as u32,
        run: run as u32,
        prediction_offset: OFFSET as u32,
        wanted_offset: OFFSET as u32,
        gradient_offset: OFFSET as u32,
        flags_offset: 1,
        positive_offset: 2,
        factor: (mean * raise) as f32,
        shape,
    };
    let has = masked != Masked::No;
    let is_positive = form.positive();
    let op = ElementLoss { params, form, flags: has, gradient: true, accumulate, scaled: false };
    let (mut more, mut total) = (Vec::new(), None);
    if has {
        let flags = case.ids("flags", [vec![0], flags].concat())?.part(1, count / run);
        let sum = case.wide_output("total", 1)?;
        case.recording.launch(LossTotal::of_flags(flags, run as f32), &[sum, flags])?;
        total = Some(sum);
        more.extend([flags, sum]);
    }
    if is_positive {
        more.push(case.wide_input("positive", [vec![9.0; 2], positive].concat())?);
    }
    let buffers = [vec![prediction, target, losses, gradient], more.clone()].concat();
    case.recording.launch(op.clone(), &buffers)?;
    into_ring(&mut case, "ring", losses, mean, total)?;
    // The same without a gradient must give the same loss.
    let alone = case.wide_output("losses.alone", ElementLoss::partials(count))?;
    more.retain(|view| Some(*view) != total);
    let buffers = [vec![prediction, target, alone], more].concat();
    let op = ElementLoss { gradient: false, accumulate: false, ..op };
    case.recording.launch(op, &buffers)?;
    into_ring(&mut case, "ring.alone", alone, mean, total)?;
    Ok(case)
}

/// Cross-entropy with a mask, an ignored target, weights, smoothing, as the bits say.
pub(super) fn classes(
    g: &mut Data,
    [n, v]: [usize; 2],
    [masked, ignoring, weighted, smoothed]: [bool; 4],
    nothing: bool,
) -> Result<Case> {
    let options = [masked, ignoring, weighted, smoothed].map(u8::from);
    let empty = if nothing { " nothing" } else { "" };
    let name = format!("options {options:?} N{n} V{v}{empty}");
    let mut case = Case::new(g, "cross_entropy", name, SHORT);
    // Logits so large that an unshifted exponential overflows, and in some rows a sure one.
    let mut logits = g.uniform(n * v, 4.0);
    logits.iter_mut().for_each(|x| *x += 150.0);
    (0..n).step_by(5).for_each(|row| logits[row * v + row % v] -= 300.0);
    let mut logits = g.stored(logits);
    let mut targets = tokens(n, v);
    // One beyond all classes, and in a wide table one of them.
    let ignored = if v > 20 { targets[1] } else { 9999 };
    if ignoring {
        (0..n).filter(|i| i % 4 == 2 || nothing).for_each(|i| targets[i] = ignored);
    }
    let flags: Vec<u32> = (0..n).map(|i| u32::from(i % 3 != 1 && !nothing)).collect();
    let takes: Vec<bool> =
        (0..n).map(|i| !(masked && flags[i] == 0 || ignoring && targets[i] == ignored)).collect();
    let weights: Vec<f32> = match weighted {
        true => (0..v).map(|c| 0.25 * (c % 7) as f32 + 0.1).collect(),
        false => vec![1.0; v],
    };
    let plain: Vec<usize> = targets.iter().map(|&t| t as usize).collect();
    let smoothing = if smoothed { 0.1f32 } else { 0.0 };
    let wide_logits = matrix(&logits, n, v)?;
    let (loss, slopes) = oracle::weighted_cross_entropy(
        &wide_logits,
        &plain,
        &takes,
        &wide(&weights),
        f64::from(smoothing),
    )?;
    let raise = if g.is_short() { n as f64 } else { 1.0 };
    case.want.push(("ring", vec![loss]));
    if v > 1 {
        case.want.push(("d_logits", slopes.iter().map(|d| d * raise).collect()));
    }
    for row in (0..n).filter(|&row| !takes[row]) {
        logits[row * v..][..v].fill(f32::NAN);
    }
    let logits = case.input("logits", logits)?;
    let targets = case.ids("targets", targets)?;
    let losses = case.wide_output("losses", n)?;
    let gradient = case.output("d_logits", n * v)?;
    let mut op = CrossEntropy::new(v, logits, targets, true);
    op.smoothing = smoothed;
    op.params.smoothing = smoothing;
    (op.flags, op.ignoring, op.weights) = (masked, ignoring, weighted);
    (op.params.ignored, op.params.flags_offset, op.params.weights_offset) = (ignored, 1, 2);
    let mut mean = f64::from(op.params.scale);
    let (mut more, mut total) = (Vec::new(), None);
    let mut counted = Vec::new();
    if masked {
        more.push(case.ids("flags", [vec![0], flags].concat())?);
        counted.extend(&more);
    }
    if ignoring || weighted {
        counted.push(targets);
    }
    if weighted {
        let weights = case.wide_input("class_weights", [vec![9.0; 2], weights].concat())?;
        more.push(weights);
        counted.push(weights);
    }
    if op.counted() {
        let sum = case.wide_output("total", 1)?;
        let params = LossTotalParams {
            count: n as u32,
            run: 1,
            flags_offset: 1,
            targets_offset: 0,
            ignored,
            classes: v as u32,
            weights_offset: 2,
            factor: 1.0,
        };
        let count = LossTotal { params, flags: masked, ignoring, weights: weighted };
        case.recording.launch(count, &[vec![sum], counted].concat())?;
        more.push(sum);
        total = Some(sum);
        mean = 1.0;
    }
    op.params.scale = (mean * raise) as f32;
    let buffers = [vec![logits, targets, losses, gradient], more.clone()].concat();
    case.recording.launch(op, &buffers)?;
    into_ring(&mut case, "ring", losses, mean, total)?;
    Ok(case)
}

/// Which steps of a chain take part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Chain {
    /// All.
    Whole,
    /// Rows end after lengths of their own.
    Lengths,
    /// Steps are missing in between, and the last of three and more rows has none at all.
    Holes,
}

/// What a chain's scores are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scores {
    Plain,
    /// Emissions of ±150, transitions that must not be.
    Saturated,
    /// Multiples of 1/8: sums are exact, and paths are equal.
    Even,
}

/// A chain's data.
struct Links {
    emissions: Vec<f32>,
    /// Transitions, start, end.
    scores: Vec<f32>,
    takes: Array2<bool>,
}

fn links(
    g: &mut Data,
    [time, batch, tags]: [usize; 3],
    chain: Chain,
    scores: Scores,
) -> Result<(Links, ChainScores, Array3<f64>)> {
    let words = time * batch * tags;
    let mut emissions = g.uniform(words, 3.0);
    let mut table = g.generator.uniform(tags * (tags + 2), 2.0);
    if scores == Scores::Saturated {
        for (i, x) in emissions.iter_mut().enumerate() {
            *x = [150.0, -150.0, *x, *x, 30.0][(i * i + i / 3) % 5];
        }
        let forbid = |(i, x): (usize, &mut f32)| {
            if i % 3 == 1 {
                *x = -1e4
            }
        };
        table.iter_mut().take(tags * tags).enumerate().for_each(forbid);
    }
    if scores == Scores::Even {
        let even = |x: &mut f32| *x = (*x * 2.0).round() / 8.0;
        emissions.iter_mut().chain(&mut table).for_each(even);
    }
    let takes = Array2::from_shape_fn((time, batch), |(t, b)| match chain {
        Chain::Whole => true,
        Chain::Lengths => t + b * time / batch < time,
        Chain::Holes => !(batch > 2 && b == batch - 1) && (t * 7 + b * 3) % 5 != 0,
    });
    let bad = |e: ndarray::ShapeError| Error::invalid(e.to_string());
    let all = wide(&emissions);
    let view = ArrayView3::from_shape((time, batch, tags), &all).map_err(bad)?.to_owned();
    let ends = |from: usize| -> Array1<f64> {
        table[from * tags..][..tags].iter().map(|&x| f64::from(x)).collect()
    };
    let chain_scores = ChainScores {
        transitions: matrix(&table[..tags * tags], tags, tags)?,
        start: ends(tags),
        end: ends(tags + 1),
    };
    // What takes no part may be anything.
    for ((t, b), _) in takes.indexed_iter().filter(|t| !*t.1) {
        emissions[(t * batch + b) * tags..][..tags].fill(f32::NAN);
    }
    Ok((Links { emissions, scores: table, takes }, chain_scores, view))
}

impl Links {
    /// The flags, where there need be any, the emissions, and the table of scores.
    fn buffers(
        &self,
        case: &mut Case,
        tags: usize,
        chain: Chain,
    ) -> Result<(View, View, Option<View>)> {
        let emissions = case.input("emissions", [vec![7.0; 2], self.emissions.clone()].concat())?;
        let mut table = self.scores.clone();
        for j in 0..tags {
            table.extend((0..tags).map(|i| self.scores[i * tags + j]));
        }
        let scores = case.wide_input("scores", table)?;
        let flags = self.takes.iter().map(|&t| u32::from(t));
        let flags: Vec<u32> = std::iter::once(1).chain(flags).collect();
        let flags = (chain != Chain::Whole).then(|| case.ids("flags", flags)).transpose()?;
        Ok((emissions, scores, flags))
    }
}

fn title([time, batch, tags]: [usize; 3], chain: Chain, scores: Scores) -> String {
    format!("T{time} B{batch} K{tags} {chain:?} {scores:?}")
}

/// All steps, in several launches where there are many.
fn launch_scan(case: &mut Case, scan: &CrfScan, mut buffers: Vec<View>) -> Result<()> {
    let parts = scan.cut();
    if let Some(words) = parts.first().and_then(CrfScan::carry_words) {
        let name = format!("carry {:?}", scan.form);
        buffers.push(case.wide_output(&name, words)?);
    }
    parts.into_iter().try_for_each(|part| case.recording.launch(part, &buffers))
}

/// The likelihood of a chain of T steps of B rows of K tags, and its gradient.
pub(super) fn likelihood(
    g: &mut Data,
    shape: [usize; 3],
    chain: Chain,
    scores: Scores,
    accumulate: bool,
) -> Result<Case> {
    let [time, batch, tags] = shape;
    let (steps, words) = (time * batch, time * batch * tags);
    let plus = if accumulate { " added" } else { "" };
    let name = title(shape, chain, scores) + plus;
    // Numbers of 150 have a last place of 1.5e-5 in f32, and a path's are differences of such.
    let tolerance = if scores == Scores::Saturated { 3e-5 } else { CHAIN };
    let mut case = Case::new(g, "crf", name, tolerance);
    let (links, table, view) = links(g, shape, chain, scores)?;
    let taken = |step: usize| links.takes[[step / batch, step % batch]];
    let mut targets = tokens(steps, tags);
    let plain = Array2::from_shape_fn((time, batch), |(t, b)| targets[t * batch + b] as usize);
    (0..steps).filter(|&step| !taken(step)).for_each(|step| targets[step] = 4_000_000_000);
    let want = table.likelihood(&view, &plain, &links.takes)?;
    let raise = if g.is_short() { batch as f64 } else { 1.0 };
    let before = g.uniform(words + 1, 0.1);
    let d_table = g.generator.uniform(tags * (tags + 2), 0.1);
    let mut d_emissions = wide(&before);
    for (d, slope) in d_emissions[1..].iter_mut().zip(&want.emissions) {
        *d = if accumulate { *d + slope * raise } else { slope * raise };
    }
    let of = &want.scores;
    let slopes = of.transitions.iter().chain(&of.start).chain(&of.end);
    let both = wide(&d_table).into_iter().zip(slopes);
    let d_scores: Vec<f64> =
        both.map(|(d, s)| if accumulate { d + s * raise } else { s * raise }).collect();
    case.want.push(("ring", vec![want.loss]));
    case.want.push(("ring.alone", vec![want.loss]));
    case.want.push(("d_emissions", d_emissions));
    case.want.push(("d_scores", d_scores));

    let (emissions, scores, flags) = links.buffers(&mut case, tags, chain)?;
    let targets = case.ids("targets", [vec![0; 3], targets].concat())?;
    let losses = case.wide_output("losses", batch)?;
    let marks = case.recording.buffer(
        "marks",
        steps + batch,
        crate::tensor::DType::U32,
        crate::recording::Role::Temporary,
    )?;
    let states = case.wide_output("states", steps * (tags + 1))?;
    let right = case.wide_output("right", steps * (tags + 1))?;
    let total = case.wide_output("total", 1)?;
    let ends = case.wide_output("ends", 2 * batch * tags)?;
    let d_emissions = case.state("d_emissions", before)?;
    let d_scores = case.wide_state("d_scores", d_table)?;
    let params = CrfParams {
        time: time as u32,
        batch: batch as u32,
        tags: tags as u32,
        emissions_offset: 2,
        flags_offset: 1,
        targets_offset: 3,
        first: 0,
        count: time as u32,
    };
    let form = CrfForm::Forward { states: true };
    let scan = CrfScan { params, form, flags: flags.is_some() };
    let with_flags = |list: &[View], more: &[View]| -> Vec<View> {
        list.iter().chain(flags.as_slice()).chain(more).copied().collect()
    };
    let buffers = with_flags(&[emissions, scores], &[targets, losses, marks, states]);
    launch_scan(&mut case, &scan, buffers)?;
    let reverse = CrfScan { form: CrfForm::Reverse, ..scan.clone() };
    launch_scan(&mut case, &reverse, with_flags(&[emissions, scores], &[right]))?;
    let own = &mut case.recording;
    let present = marks.part(steps, batch);
    own.launch(LossTotal::of_flags(present, 1.0), &[total, present])?;
    own.launch(Fill::new(ends, 0.0), &[ends])?;
    let params = CrfPosteriorParams {
        time: time as u32,
        batch: batch as u32,
        tags: tags as u32,
        emissions_offset: 2,
        gradient_offset: 1,
        factor: raise as f32,
    };
    let op = CrfPosterior { params, gradient: true, accumulate, scaled: false };
    own.launch(op, &[emissions, states, right, marks, ends, total, d_emissions])?;
    let mut op = CrfTransitions::new([time, batch], tags, raise as f32);
    // Longer chains than these are cut into several launches.
    if time == 300 {
        op.params.end = 500;
    }
    let parts = op.parts();
    let sums = case.wide_output("parts", parts * tags * tags)?;
    let own = &mut case.recording;
    for part in op.cut(steps) {
        own.launch(part, &[states, right, scores, marks, sums, total])?;
    }
    let half = batch * tags;
    for (source, rows, at) in [
        (sums, parts, [0, tags * tags]),
        (ends.part(0, half), batch, [tags * tags, tags]),
        (ends.part(half, half), batch, [tags * (tags + 1), tags]),
    ] {
        let d = d_scores.part(at[0], at[1]);
        let op = ColumnSum::new([rows, at[1]], Operand::new(source, at[1]), None, d);
        own.launch(ColumnSum { accumulate, ..op }, &[source, d])?;
    }
    into_ring(&mut case, "ring", losses, 1.0, Some(total))?;
    // The same without a gradient must give the same loss.
    let losses = case.wide_output("losses.alone", batch)?;
    let form = CrfForm::Forward { states: false };
    let buffers = with_flags(&[emissions, scores], &[targets, losses, marks]);
    launch_scan(&mut case, &CrfScan { form, ..scan }, buffers)?;
    into_ring(&mut case, "ring.alone", losses, 1.0, Some(total))?;
    Ok(case)
}

/// The best paths, exactly.
pub(super) fn best(g: &mut Data, shape: [usize; 3], chain: Chain) -> Result<Case> {
    let [time, batch, tags] = shape;
    let steps = time * batch;
    let name = format!("best {}", title(shape, chain, Scores::Even));
    let mut case = Case::new(g, "crf", name, 0.0);
    let (links, table, view) = links(g, shape, chain, Scores::Even)?;
    let (paths, scores) = table.best(&view, &links.takes)?;
    let paths = paths.iter().map(|tag| tag.map_or(-1.0, |tag| tag as f64)).collect();
    case.want.push(("path", paths));
    case.want.push(("best", scores));
    let (emissions, scores, flags) = links.buffers(&mut case, tags, chain)?;
    let pointers = case.recording.buffer(
        "pointers",
        steps * tags,
        crate::tensor::DType::U32,
        crate::recording::Role::Temporary,
    )?;
    let path = case.wide_output("path", steps)?;
    let best = case.wide_output("best", batch)?;
    let params = CrfParams {
        time: time as u32,
        batch: batch as u32,
        tags: tags as u32,
        emissions_offset: 2,
        flags_offset: 1,
        targets_offset: 0,
        first: 0,
        count: time as u32,
    };
    let op = CrfScan { params, form: CrfForm::Best, flags: flags.is_some() };
    let mut buffers = vec![emissions, scores];
    buffers.extend(flags);
    buffers.extend([pointers, path, best]);
    launch_scan(&mut case, &op, buffers)?;
    Ok(case)
}

/// All of them.
pub(super) async fn cases(
    g: &mut Data,
    run: &mut impl AsyncFnMut(Case) -> Result<()>,
) -> Result<()> {
    for form in element_forms() {
        for (shape, masked, accumulate) in [
            ([1, 1], Masked::No, false),
            ([37, 3], Masked::Rows, true),
            ([37, 3], Masked::Elements, false),
            ([5, 2], Masked::All, false),
            ([5, 2], Masked::All, true),
            ([1031, 2], Masked::No, true),
            ([1031, 2], Masked::Rows, false),
        ] {
            run(element(g, form.clone(), shape, masked, [accumulate, false])?).await?;
        }
        // Beyond what f16 holds.
        if !g.is_short() {
            for masked in [Masked::No, Masked::Elements] {
                run(element(g, form.clone(), [61, 2], masked, [false, true])?).await?;
            }
        }
    }
    for bits in 1..16 {
        let options = [0, 1, 2, 3].map(|i| bits >> i & 1 == 1);
        run(classes(g, [37, 11], options, false)?).await?;
        if bits % 4 == 3 || bits == 12 {
            run(classes(g, [23, 301], options, false)?).await?;
        }
    }
    for options in [[true, false, false, false], [true, true, true, true]] {
        run(classes(g, [7, 5], options, true)?).await?;
    }
    for (shape, chain, scores) in [
        ([1, 1, 1], Chain::Whole, Scores::Plain),
        ([1, 3, 5], Chain::Whole, Scores::Plain),
        ([5, 3, 4], Chain::Lengths, Scores::Plain),
        ([40, 5, 9], Chain::Holes, Scores::Plain),
        ([7, 2, 33], Chain::Whole, Scores::Plain),
        ([300, 3, 17], Chain::Lengths, Scores::Plain),
        // In several launches.
        ([50, 2, 300], Chain::Lengths, Scores::Plain),
        ([6, 4, 7], Chain::Holes, Scores::Saturated),
        ([4, 4, 6], Chain::Lengths, Scores::Even),
    ] {
        let accumulate = shape[0] % 2 == 0;
        run(likelihood(g, shape, chain, scores, accumulate)?).await?;
        run(best(g, shape, chain)?).await?;
    }
    if !g.is_short() {
        let shape = [10_000, 2, 3];
        run(likelihood(g, shape, Chain::Lengths, Scores::Plain, false)?).await?;
        run(best(g, shape, Chain::Whole)?).await?;
    }
    Ok(())
}
