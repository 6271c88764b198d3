//! Matrix products: every transposition and option, and sums and results that are rows of a sequence.

use super::{Case, Data, SHORT};
use crate::conformance::harness::wide;
use crate::error::Result;
use crate::kernel::{Matmul, Operand, SequenceRows, SequenceSide, SumParts};
use crate::tensor::Precision;

/// Gives `run` every case.
pub(super) async fn cases(
    g: &mut Data,
    run: &mut impl AsyncFnMut(Case) -> Result<()>,
) -> Result<()> {
    if g.is_short() {
        return cases_in_f16(g, run).await;
    }
    for [m, n, k] in [
        [1, 1, 1],
        [3, 2, 7],
        [65, 33, 7],
        [64, 64, 64],
        [132, 36, 44],
        [7, 130, 257],
        [129, 1, 33],
    ] {
        for bits in 0..8u32 {
            let flag = |i: u32| bits >> i & 1 == 1;
            let row_sum = flag(0) && flag(1);
            let options = [flag(0), flag(1), flag(2), row_sum, flag(2) != flag(0)];
            run(matmul(g, [m, n, k], options)?).await?;
        }
    }
    for bits in 0..32u32 {
        let flag = |i: u32| bits >> i & 1 == 1;
        // A few blocks, or one more than are summed at once.
        let shape = if flag(0) { [36, 44, 100, 16] } else { [33, 66, 387, 3] };
        run(matmul_over_terms(g, shape, [flag(1), flag(2), flag(3), flag(4)])?).await?;
    }
    for accumulate in [false, true] {
        run(matmul_over_rows(g, [70, 35, 9], accumulate)?).await?;
        for (len, parts) in [(1, 1), (300, 7), (70_001, 2)] {
            run(sum_parts(g, len, parts, accumulate)?).await?;
        }
    }
    // More tiles than one dimension of workgroups holds, if they are small.
    run(matmul(g, [65_536 * 64 + 1, 1, 1], [false; 5])?).await
}

/// The same over operands of f16, into results of f16 (activations), and of f32 what is a gradient of weights:
/// with A transposed, or over the rows of a sequence. The kernel is the same text: fewer cases serve.
async fn cases_in_f16(g: &mut Data, run: &mut impl AsyncFnMut(Case) -> Result<()>) -> Result<()> {
    for sums in [Precision::F16, Precision::F32] {
        g.sums = sums;
        for shape in [[65, 33, 7], [132, 36, 44], [7, 130, 257]] {
            for bits in 0..8u32 {
                let flag = |i: u32| bits >> i & 1 == 1;
                let row_sum = flag(0) && flag(1);
                let options = [flag(0), flag(1), flag(2), row_sum, flag(2) != flag(0)];
                if sums == Precision::F16 || flag(0) && shape[0] == 132 {
                    run(matmul(g, shape, options)?).await?;
                }
            }
        }
    }
    for accumulate in [false, true] {
        run(sum_parts(g, 300, 7, accumulate)?).await?;
    }
    for bits in [0, 7, 9, 14, 18, 21, 28, 31u32] {
        let flag = |i: u32| bits >> i & 1 == 1;
        let shape = if flag(0) { [36, 44, 100, 16] } else { [33, 66, 387, 3] };
        run(matmul_over_terms(g, shape, [flag(1), flag(2), flag(3), flag(4)])?).await?;
    }
    g.sums = Precision::F16;
    for accumulate in [false, true] {
        run(matmul_over_rows(g, [70, 35, 9], accumulate)?).await?;
        run(sum_parts(g, 300, 7, accumulate)?).await?;
    }
    Ok(())
}

/// Offsets and strides beyond the matrix, so that a kernel that forgets them is seen.
fn matmul(g: &mut Data, [m, n, k]: [usize; 3], options: [bool; 5]) -> Result<Case> {
    let [a_transposed, b_transposed, bias, row_sum, accumulate] = options;
    let flags = options.map(|f| if f { '1' } else { '0' });
    let flags: String = flags.iter().collect();
    // Sums of k terms in single precision.
    let bound = SHORT * (k as f64 / 64.0).max(1.0);
    let mut case = Case::new(g, "matmul", format!("{m}x{n}x{k} options {flags}"), bound);
    // Whole vectors where the sizes are.
    let aligned = [m, n, k].iter().all(|size| size % 4 == 0);
    let [offset, pad] = if aligned { [4, 4] } else { [3, 2] };
    let mut operand = |case: &mut Case, name: &str, rows: usize, columns: usize| -> Result<_> {
        let stride = columns + pad;
        let view = case.input(name, g.uniform(offset + rows * stride, 1.0))?;
        let wanted = wide(&case.values[name][offset..]);
        let wanted = move |i: usize, j: usize| wanted[i * stride + j];
        Ok((Operand::new(view.part(offset, rows * stride), stride), wanted))
    };
    let (a_rows, a_columns) = if a_transposed { (k, m) } else { (m, k) };
    let (b_rows, b_columns) = if b_transposed { (n, k) } else { (k, n) };
    let (mut a, a_at) = operand(&mut case, "a", a_rows, a_columns)?;
    let (mut b, b_at) = operand(&mut case, "b", b_rows, b_columns)?;
    (a.transposed, b.transposed) = (a_transposed, b_transposed);
    let left = |i, l| if a_transposed { a_at(l, i) } else { a_at(i, l) };
    let right = |l, j| if b_transposed { b_at(j, l) } else { b_at(l, j) };

    // C is a state with content, so that strides and accumulation can be seen.
    let stride = n + pad;
    let before = g.uniform(offset + m * stride, 1.0);
    let mut want = wide(&before);
    let c = case.sum("c", before)?;
    let bias_values = g.uniform(n + offset, 1.0);
    for i in 0..m {
        for j in 0..n {
            let mut sum: f64 = (0..k).map(|l| left(i, l) * right(l, j)).sum();
            if bias {
                sum += f64::from(bias_values[offset + j]);
            }
            let at = offset + i * stride + j;
            want[at] = if accumulate { want[at] + sum } else { sum };
        }
    }
    case.want.push(("c", want));
    let c = Operand::new(c.part(offset, m * stride), stride);
    let mut op = Matmul::new([m, n, k], a, b, c).accumulating(accumulate);
    let mut buffers = vec![a.view, b.view, c.view];
    if bias {
        let view = case.wide_input("bias", bias_values)?.part(offset, n);
        op = op.with_bias(view);
        buffers.push(view);
    }
    if row_sum {
        let before = g.uniform(offset + m, 1.0);
        let mut want = wide(&before);
        for (i, want) in want[offset..].iter_mut().enumerate() {
            let sum: f64 = (0..k).map(|l| left(i, l)).sum();
            *want = if accumulate { *want + sum } else { sum };
        }
        case.want.push(("row_sum", want));
        let view = case.wide_state("row_sum", before)?.part(offset, m);
        op = op.with_row_sum(view);
        buffers.push(view);
    }
    case.recording.launch(op, &buffers)?;
    Ok(case)
}

/// Terms that are rows of a sequence, in blocks, with those left out that are not valid. Where the rows of
/// C lie apart, the GPU engine has one sum for all blocks.
fn matmul_over_terms(
    g: &mut Data,
    [m, n, k, block]: [usize; 4],
    [flagged, descending, accumulate, apart]: [bool; 4],
) -> Result<Case> {
    let options = [flagged, descending, accumulate, apart].map(|f| if f { '1' } else { '0' });
    let options: String = options.iter().collect();
    let name = format!("terms {m}x{n}x{k} options {options}");
    let mut case = Case::new(g, "matmul", name, SHORT * (k as f64 / 64.0));
    let (places, first) = (2, 48);
    let valid: Vec<u32> = (0..(first + k).div_ceil(places)).map(|i| u32::from(i % 3 < 2)).collect();
    let takes_part = |l: usize| !flagged || valid[(first + l) / places] == 1;
    let stride = n + if apart { 4 } else { 0 };
    let (a, b) = (g.uniform(k * m, 1.0), g.uniform(k * n, 1.0));
    let (c, sums) = (g.uniform(m * stride, 1.0), g.uniform(m, 1.0));
    let start = |before: f32| if accumulate { f64::from(before) } else { 0.0 };
    let mut want = wide(&c);
    let mut want_sums = Vec::new();
    for i in 0..m {
        let left = |l: usize| f64::from(a[l * m + i]);
        let terms = || (0..k).filter(|&l| takes_part(l));
        want_sums.push(start(sums[i]) + terms().map(left).sum::<f64>());
        for j in 0..n {
            let sum: f64 = terms().map(|l| left(l) * f64::from(b[l * n + j])).sum();
            let at = i * stride + j;
            want[at] = start(c[at]) + sum;
        }
    }
    case.want.push(("c", want));
    case.want.push(("row_sum", want_sums));
    let (a, b) = (case.input("a", a)?, case.input("b", b)?);
    let (c, sums) = (case.sum("c", c)?, case.wide_state("row_sum", sums)?);
    let flags = if flagged { Some(case.ids("flags", valid)?) } else { None };
    let rows = SequenceRows { flags, places, first, block, descending };
    let op = Matmul::new(
        [m, n, k],
        Operand::transposed(a, m),
        Operand::new(b, n),
        Operand::new(c, stride),
    )
    .with_row_sum(sums)
    .over(SequenceSide::Terms, &rows)
    .accumulating(accumulate);
    let views: Vec<_> = [a, b, c, sums].into_iter().chain(flags).collect();
    case.recording.launch(op, &views)?;
    Ok(case)
}

/// Rows of the result that are rows of a sequence: those that are not valid are 0, or stay.
fn matmul_over_rows(g: &mut Data, [m, n, k]: [usize; 3], accumulate: bool) -> Result<Case> {
    let name = format!("rows {m}x{n}x{k} options {}", u32::from(accumulate));
    let mut case = Case::new(g, "matmul", name, SHORT);
    let (places, first) = (3, 6);
    let valid: Vec<u32> = (0..(first + m).div_ceil(places)).map(|i| u32::from(i % 3 < 2)).collect();
    let (a, b, c) = (g.uniform(m * k, 1.0), g.uniform(k * n, 1.0), g.uniform(m * n, 1.0));
    let mut want = Vec::new();
    for i in 0..m {
        for j in 0..n {
            let terms = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j]));
            let sum = if valid[(first + i) / places] == 1 { terms.sum() } else { 0.0 };
            want.push(sum + if accumulate { f64::from(c[i * n + j]) } else { 0.0 });
        }
    }
    case.want.push(("c", want));
    let (a, b, c) = (case.input("a", a)?, case.input("b", b)?, case.sum("c", c)?);
    let flags = case.ids("flags", valid)?;
    let rows = SequenceRows { flags: Some(flags), places, first, block: 16, descending: true };
    let op = Matmul::new([m, n, k], Operand::new(a, k), Operand::new(b, n), Operand::new(c, n))
        .over(SequenceSide::Rows, &rows)
        .accumulating(accumulate);
    case.recording.launch(op, &[a, b, c, flags])?;
    Ok(case)
}

/// What a product leaves that is cut along its terms.
fn sum_parts(g: &mut Data, len: usize, parts: usize, accumulate: bool) -> Result<Case> {
    let mut case = Case::new(g, "sum_parts", format!("{parts} of {len}"), SHORT);
    let (values, before) = (g.uniform(len * parts, 1.0), g.uniform(len + 3, 1.0));
    let mut want = wide(&before);
    for (i, want) in want[3..].iter_mut().enumerate() {
        let sum: f64 = (0..parts).map(|j| f64::from(values[j * len + i])).sum();
        *want = if accumulate { *want + sum } else { sum };
    }
    case.want.push(("sums", want));
    let (values, sums) = (case.wide_input("parts", values)?, case.sum("sums", before)?);
    let op = SumParts { accumulate, ..SumParts::new(len, parts, 3, parts % 2 == 1) };
    case.recording.launch(op, &[values, sums])?;
    Ok(case)
}
