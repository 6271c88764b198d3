//! Every permutation of every shader, for validation.

use super::*;

/// One launch of each permutation of each kernel but those of a time step, with sizes of no importance.
/// The permutations of the steps are those that the stacks of the conformance suite record.
pub fn permutations() -> Vec<Op> {
    let view = View { buffer: BufferId(0), offset: 0, len: 8 };
    let flags = [false, true];
    let mut list: Vec<Op> = Vec::new();
    for (tile, bits) in TILES.iter().flat_map(|tile| (0..32u32).map(move |bits| (tile, bits))) {
        let flag = |n: u32| bits >> n & 1 == 1;
        // In single words and in vectors.
        for size in [2, 4] {
            let operand = Operand::new(view, size);
            let mut matmul = Matmul::new([size; 3], operand, operand, operand).with_tile(*tile);
            matmul.a_transposed = flag(0);
            matmul.b_transposed = flag(1);
            matmul.bias = flag(2);
            matmul.row_sum = flag(3);
            matmul.accumulate = flag(4);
            list.push(matmul.into());
        }
    }
    // One operand in vectors, the others not.
    for vectors in 1..7usize {
        let operand = |n: usize| Operand::new(view, if vectors >> n & 1 == 1 { 4 } else { 2 });
        list.push(Matmul::new([4; 3], operand(0), operand(1), operand(2)).into());
    }
    for accumulate in flags {
        list.push(SumParts { accumulate, ..SumParts::new(2, 2, 0, false) }.into());
    }
    for activation in Activation::examples() {
        list.push(Slope::new(activation, view, view).into());
        let operand = Operand::new(view, 2);
        let product = Matmul::new([2; 3], operand, operand, operand).with_bias(view);
        list.push(product.with_activation(Some(activation)).into());
    }
    let params = EmbeddingParams::new(2, 2, view, view, view);
    list.push(EmbeddingForward { params }.into());
    let params = MaxOverTimeParams::new([2, 2, 2], view, view);
    for flag in flags {
        list.push(MaxOverTime { params, lengths: flag }.into());
        list.push(MaxOverTimeBackward { params, accumulate: flag }.into());
    }
    let params = EmbeddingParams::new(2, 2, view, view, view);
    for accumulate in flags {
        list.push(EmbeddingBackward { params, accumulate }.into());
        list.push(Dropout { accumulate, ..Dropout::new(view, view, 0, 0.5) }.into());
    }
    for gradient in flags {
        for classes in [2, 1000, 10_000] {
            list.push(CrossEntropy::new(classes, view, view, gradient).into());
        }
    }
    list.push(SumSquares::new(view, 0).into());
    list.push(CrossEntropy { scaled: true, ..CrossEntropy::new(2, view, view, true) }.into());
    list.push(ClipScale::new(1, 1.0).into());
    list.push(ClipScale::new(1, 1.0).under_scale((0.9, 0.999)).into());
    list.push(RecordLoss::new(1, 1).into());
    for total in flags {
        list.push(RecordLoss { total, accumulate: true, ..RecordLoss::new(1, 1) }.into());
    }
    list.push(RecordLoss { total: true, ..RecordLoss::new(1, 1) }.into());
    losses(&mut list);
    for [clip, scaled] in [[false, false], [true, false], [true, true]] {
        for flag in flags {
            let op = Sgd::new(view, 0.9, 0.0, clip);
            list.push(Sgd { scaled, nesterov: flag, ..op }.into());
            let params = AdamParams::zeroed();
            list.push(Adam { params, decoupled: flag, clip, scaled }.into());
            for momentum in flags {
                let params = RmsPropParams::zeroed();
                list.push(RmsProp { params, centered: flag, momentum, clip, scaled }.into());
            }
        }
    }
    list.push(Average::new(8).into());
    for scaled in flags {
        list.push(ClipValue { scaled, ..ClipValue::new(view, 1.0) }.into());
    }
    let rows = Rows::new(view, 2);
    for with in [With::Nothing, With::Sum, With::Product] {
        for accumulate in flags {
            let op = Combine::copy([2, 2], rows, rows).and(with, rows);
            list.push(op.clone().accumulating(accumulate).into());
            list.push(Combine { scaled: true, ..op.accumulating(accumulate) }.into());
        }
    }
    list.push(Fill::new(view, 0.0).into());
    for bits in 0..8u32 {
        let flag = |n: u32| bits >> n & 1 == 1;
        let one = SelectRowsParams { places: 1, batch: 1, ..SelectRowsParams::zeroed() };
        let (params, accumulate) = (one, flag(2));
        list.push(SelectRows { params, flags: flag(0), mask: flag(1), accumulate }.into());
        if bits > 0 {
            let params = SequenceFlagsParams::zeroed();
            let (lengths, mask, resets) = (flag(0), flag(1), flag(2));
            list.push(SequenceFlags { params, lengths, mask, resets }.into());
        }
    }
    for flag in flags {
        let operand = Operand::new(view, 2);
        for other in [None, Some(operand)] {
            let op = ColumnSum::new([2, 2], operand, other, view);
            list.push(ColumnSum { accumulate: flag, ..op }.into());
        }
        let shape = Convolution { map: [2, 2], kernel: [1, 3] };
        let params = ColumnsParams::new(&shape, 4, 1, 0);
        for mask in flags {
            list.push(ColumnsForward { params, flags: flag, mask }.into());
        }
        list.push(ColumnsBackward { params, accumulate: flag }.into());
        let params = InputNormParams { places: 1, ..InputNormParams::zeroed() };
        let column = |running| NormAxis::Column { flags: flag, running };
        for axis in [column(false), column(true)] {
            list.push(InputNormForward { params, axis }.into());
        }
        list.push(InputNormBackward { params, axis: column(false) }.into());
        for (side, flags, descending) in [
            (SequenceSide::Rows, Some(view), false),
            (SequenceSide::Terms, Some(view), false),
            (SequenceSide::Terms, Some(view), true),
            (SequenceSide::Terms, None, true),
        ] {
            let rows = SequenceRows { flags, places: 1, first: 0, block: 0, descending };
            let mut op = Matmul::new([2, 2, 2], operand, operand, operand).over(side, &rows);
            op.a_transposed = side == SequenceSide::Terms;
            op.row_sum = op.a_transposed;
            op.accumulate = flag;
            for tile in TILES {
                list.push(op.clone().with_tile(tile).into());
                if side == SequenceSide::Terms {
                    op.block = 2;
                    list.push(op.of_blocks(0, 1).with_tile(tile).into());
                }
            }
        }
    }
    for bits in 0..12u32 {
        let flag = |n: u32| bits >> n & 1 == 1;
        let one = ActivationPenaltyParams { places: 1, ..ActivationPenaltyParams::zeroed() };
        let op = ActivationPenalty {
            params: ActivationPenaltyParams { rows: 2, batch: 1, width: 1, ..one },
            temporal: flag(0),
            flags: flag(1),
            gradient: bits >= 4,
            accumulate: bits >= 8,
            scaled: bits == 11,
        };
        list.push(op.into());
    }
    let params = InputNormParams::zeroed();
    list.push(InputNormForward { params, axis: NormAxis::Row }.into());
    list.push(InputNormBackward { params, axis: NormAxis::Row }.into());
    list
}

/// Losses with masks, weights and options; conditional random fields.
fn losses(list: &mut Vec<Op>) {
    let view = View { buffer: BufferId(0), offset: 0, len: 8 };
    for bits in 1..8u32 {
        let flag = |n: u32| bits >> n & 1 == 1;
        let params = LossTotal::of_flags(view, 1.0).params;
        let (flags, ignoring, weights) = (flag(0), flag(1), flag(2));
        list.push(LossTotal { params, flags, ignoring, weights }.into());
    }
    // Without a gradient, with one, with one that is scaled.
    let gradients = [[false; 2], [true, false], [true, true]];
    for bits in 1..16u32 {
        let flag = |n: u32| bits >> n & 1 == 1;
        for [gradient, scaled] in gradients {
            let mut op = CrossEntropy::new(2, view, view, gradient);
            (op.flags, op.ignoring, op.weights, op.smoothing) =
                (flag(0), flag(1), flag(2), flag(3));
            list.push(CrossEntropy { scaled, ..op }.into());
        }
    }
    let forms = [
        ElementForm::BinaryCrossEntropy { positive: false },
        ElementForm::BinaryCrossEntropy { positive: true },
        ElementForm::Squared,
        ElementForm::Absolute,
        ElementForm::Huber,
        ElementForm::Quantile(vec![0.1, 0.5, 0.9]),
        ElementForm::Gaussian,
        ElementForm::StudentT,
    ];
    let params = ElementLossParams { count: 2, width: 1, run: 1, ..ElementLossParams::zeroed() };
    for form in forms {
        for [gradient, scaled] in gradients {
            for bits in 0..4u32 {
                let (flags, accumulate) = (bits & 1 == 1, bits > 1);
                if accumulate && !gradient {
                    continue;
                }
                let form = form.clone();
                let op = ElementLoss { params, form, flags, gradient, accumulate, scaled };
                list.push(op.into());
            }
        }
    }
    let forward = |states| CrfForm::Forward { states };
    for form in [forward(false), forward(true), CrfForm::Reverse, CrfForm::Best] {
        for tags in [5, 33, 100, 256, MAX_TAGS as u32] {
            for (count, flags) in [(2, false), (2, true), (1, false), (1, true)] {
                let one = CrfParams { time: 2, batch: 1, ..CrfParams::zeroed() };
                let params = CrfParams { tags, count, ..one };
                list.push(CrfScan { params, form, flags }.into());
            }
        }
    }
    for tags in [5, 1000] {
        for [gradient, scaled] in gradients.into_iter().chain([[false, true]]) {
            for accumulate in [false, true] {
                if accumulate && !gradient {
                    continue;
                }
                let one = CrfPosteriorParams { time: 2, batch: 1, ..Zeroable::zeroed() };
                let params = CrfPosteriorParams { tags, ..one };
                list.push(CrfPosterior { params, gradient, accumulate, scaled }.into());
            }
        }
    }
    for [scaled, accumulate] in [[false; 2], [true, false], [false, true], [true; 2]] {
        let op = CrfTransitions::new([2, 1], 2, 1.0);
        list.push(CrfTransitions { scaled, accumulate, ..op }.into());
    }
}

/// Each permutation of the product of matrices that subgroups multiply, which not every device takes.
pub fn cooperative_permutations() -> Vec<Op> {
    let view = View { buffer: BufferId(0), offset: 0, len: 8 };
    let mut list: Vec<Op> = Vec::new();
    for tile in COOPERATIVE_TILES {
        let subgroups: &[usize] = if tile.matrix == 8 { &[8, 32] } else { &[32, 64] };
        for (subgroup, bits) in subgroups.iter().flat_map(|&s| (0..32u32).map(move |b| (s, b))) {
            let flag = |n: u32| bits >> n & 1 == 1;
            for size in [2, 4] {
                let operand = Operand::new(view, size);
                let mut op = Matmul::new([size; 3], operand, operand, operand);
                (op.a_transposed, op.b_transposed) = (flag(0), flag(1));
                (op.bias, op.row_sum, op.accumulate) = (flag(2), flag(3), flag(4));
                list.push(op.with_cooperative(tile, subgroup).into());
            }
            // Rows of a sequence.
            let side = if flag(0) { SequenceSide::Terms } else { SequenceSide::Rows };
            let (flags, descending) = (flag(1).then_some(view), flag(2));
            if side == SequenceSide::Rows && (descending || flag(3) || !flag(1)) {
                continue;
            }
            if !flag(1) && !descending && !flag(3) {
                continue;
            }
            let operand = Operand::new(view, 2);
            let rows = SequenceRows { flags, places: 1, first: 0, block: 2, descending };
            let mut op = Matmul::new([2, 2, 2], operand, operand, operand).over(side, &rows);
            op.a_transposed = side == SequenceSide::Terms;
            (op.row_sum, op.accumulate) = (op.a_transposed, flag(4));
            let op = if flag(3) { op.of_blocks(0, 1) } else { op };
            list.push(op.with_cooperative(tile, subgroup).into());
        }
    }
    list
}

use bytemuck::Zeroable;
