//! Convolutions over one or two axes, on the host: patches as columns, then a matrix product.

use super::call::Call;
use crate::error::Result;
use crate::tensor::Value;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewMut2, IxDyn, linalg::general_mat_mul};

/// One axis of the map: its extents and how the kernel moves over it.
#[derive(Clone, Copy)]
struct Line {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    output: usize,
}

impl Line {
    /// The place in the input under tap `tap` of the kernel for output `at`, if it isn't padding.
    fn source(self, at: usize, tap: usize) -> Option<usize> {
        let place = (at * self.stride + tap * self.dilation).checked_sub(self.before)?;
        (place < self.input).then_some(place)
    }
}

/// x [N, C, …], w [M, C/group, …], b [M] to [N, M, …].
pub fn conv(call: &Call<'_>) -> Result<Value> {
    let (x, w) = (call.f32(0)?, call.f32(1)?);
    let spatial = w.ndim().saturating_sub(2);
    if !(1..=2).contains(&spatial) {
        return Err(call.unsupported(format!("a convolution over {spatial} axes")));
    }
    let groups = call.int("group")?.unwrap_or(1);
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0);
    let groups = groups.ok_or_else(|| call.fail("attribute 'group' must be at least 1"))?;
    let [outputs, channels] = [w.shape()[0], w.shape()[1]];
    let fits = x.ndim() == w.ndim()
        && channels.checked_mul(groups) == Some(x.shape()[1])
        && outputs.is_multiple_of(groups);
    if !fits {
        let (x, w) = (x.shape(), w.shape());
        let reason = format!("input {x:?} and kernel {w:?} do not fit, with {groups} groups");
        return Err(call.fail(reason));
    }
    let mut lines = lines(call, &x.shape()[2..], &w.shape()[2..])?;
    let spatial_shape: Vec<usize> = lines.iter().map(|line| line.output).collect();
    if spatial == 1 {
        let one = Line { input: 1, kernel: 1, stride: 1, dilation: 1, before: 0, output: 1 };
        lines.insert(0, one);
    }
    let bias = match call.optional(2) {
        None => vec![0.0; outputs],
        Some(_) => call.f32(2)?.iter().copied().collect(),
    };
    if bias.len() != outputs {
        return Err(call.fail(format!("{} biases for {outputs} outputs", bias.len())));
    }
    let mut shape = vec![x.shape()[0], outputs];
    shape.extend(&spatial_shape);
    call.size(&shape)?;

    let [high, wide] = [lines[0], lines[1]];
    let (input_size, places) = (high.input * wide.input, high.output * wide.output);
    let taps = channels * high.kernel * wide.kernel;
    call.size(&[taps, places])?;
    let (part, dense) = (outputs / groups, "values lie row-major");
    let (x, w) = (x.as_standard_layout(), w.as_standard_layout());
    let (x, w) = (x.as_slice().expect(dense), w.as_slice().expect(dense));
    let mut y = ArrayD::<f32>::zeros(IxDyn(&shape));
    if places * part * input_size * channels == 0 {
        return Err(call.fail("an extent of 0"));
    }
    let mut patches = Array2::zeros((taps, places));
    let maps = y.as_slice_mut().expect(dense).chunks_exact_mut(part * places);
    for (index, map) in maps.enumerate() {
        let group = index % groups;
        let source = &x[index * channels * input_size..][..channels * input_size];
        fill(&mut patches, source, [high, wide]);
        let w = &w[group * part * taps..][..part * taps];
        let w = ArrayView2::from_shape((part, taps), w).expect(dense);
        let mut map = ArrayViewMut2::from_shape((part, places), map).expect(dense);
        for (mut row, &bias) in map.rows_mut().into_iter().zip(&bias[group * part..]) {
            row.fill(bias);
        }
        general_mat_mul(1.0, &w, &patches, 1.0, &mut map);
    }
    Ok(Value::F32(y))
}

/// For each tap of each channel a row, for each place of the output a column.
fn fill(patches: &mut Array2<f32>, source: &[f32], [high, wide]: [Line; 2]) {
    let size = high.input * wide.input;
    for (row, mut places) in patches.rows_mut().into_iter().enumerate() {
        let (channel, tap) = (row / (high.kernel * wide.kernel), row % (high.kernel * wide.kernel));
        let (down, across) = (tap / wide.kernel, tap % wide.kernel);
        for (at, value) in places.iter_mut().enumerate() {
            let up = high.source(at / wide.output, down);
            let over = wide.source(at % wide.output, across);
            *value = match (up, over) {
                (Some(up), Some(over)) => source[channel * size + up * wide.input + over],
                _ => 0.0,
            };
        }
    }
}

fn lines(call: &Call<'_>, input: &[usize], kernel: &[usize]) -> Result<Vec<Line>> {
    let rank = input.len();
    let list = |name: &str, default: i64, len: usize| -> Result<Vec<usize>> {
        let list = call.ints(name)?.unwrap_or_else(|| vec![default; len]);
        // Small enough that sums of products of them can't overflow.
        let fits = |n: &i64| (default..1 << 20).contains(n);
        if list.len() != len || !list.iter().all(fits) {
            return Err(call.fail(format!("attribute '{name}' = {list:?}")));
        }
        Ok(list.into_iter().map(|n| n as usize).collect())
    };
    if let Some(said) = call.ints("kernel_shape")?
        && !said.iter().eq(kernel.iter().map(|&n| n as i64).collect::<Vec<_>>().iter())
    {
        return Err(call.fail(format!("'kernel_shape' = {said:?}, but the kernel is {kernel:?}")));
    }
    let (strides, dilations) = (list("strides", 1, rank)?, list("dilations", 1, rank)?);
    let pads = list("pads", 0, 2 * rank)?;
    let auto = call.text("auto_pad")?.unwrap_or("NOTSET");
    let mut lines = Vec::new();
    for axis in 0..rank {
        let (stride, dilation) = (strides[axis], dilations[axis]);
        let span = kernel[axis].saturating_sub(1).saturating_mul(dilation).saturating_add(1);
        let [before, after] = match auto {
            "NOTSET" => [pads[axis], pads[rank + axis]],
            "VALID" => [0, 0],
            "SAME_UPPER" | "SAME_LOWER" => {
                let wanted = input[axis].div_ceil(stride).saturating_sub(1) * stride;
                let all = (wanted + span).saturating_sub(input[axis]);
                let small = all / 2;
                if auto == "SAME_UPPER" { [small, all - small] } else { [all - small, small] }
            }
            other => return Err(call.unsupported(format!("auto_pad '{other}'"))),
        };
        let room = (input[axis] + before + after).checked_sub(span);
        let room = room.filter(|_| kernel[axis] > 0).ok_or_else(|| {
            call.fail(format!("a kernel {kernel:?} is larger than the padded input {input:?}"))
        })?;
        let output = room / stride + 1;
        lines.push(Line {
            input: input[axis],
            kernel: kernel[axis],
            stride,
            dilation,
            before,
            output,
        });
    }
    Ok(lines)
}
