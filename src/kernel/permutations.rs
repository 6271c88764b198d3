//! Every permutation of every shader, for validation.

use super::*;

/// One launch of each permutation of each kernel, with sizes of no importance.
pub fn permutations() -> Vec<Op> {
    let view = View { buffer: BufferId(0), offset: 0, len: 8 };
    let flags = [false, true];
    let mut list: Vec<Op> = Vec::new();
    for bits in 0..32u32 {
        let flag = |n: u32| bits >> n & 1 == 1;
        let operand = Operand::new(view, 2);
        let mut matmul = Matmul::new([2, 2, 2], operand, operand, operand);
        matmul.a_transposed = flag(0);
        matmul.b_transposed = flag(1);
        matmul.bias = flag(2);
        matmul.row_sum = flag(3);
        matmul.accumulate = flag(4);
        list.push(matmul.into());
    }
    for cell in CellKind::ALL {
        let params = StepParams::new([2, 2, 2], view, view, Some(view), Some(view)).at(1);
        list.push(StepForward { params, cell }.into());
        list.push(StepBackward { params: params.at(0), cell, d_output: false }.into());
        for d_output in flags {
            list.push(StepBackward { params, cell, d_output }.into());
        }
    }
    let params = EmbeddingParams::new(2, 2, view, view, view);
    list.push(EmbeddingForward { params }.into());
    for accumulate in flags {
        list.push(EmbeddingBackward { params, accumulate }.into());
        list.push(Dropout { accumulate, ..Dropout::new(view, view, 0, 0.5) }.into());
    }
    for gradient in flags {
        list.push(CrossEntropy::new(2, view, view, gradient).into());
    }
    list.push(SumSquares::new(view, 0).into());
    list.push(ClipScale::new(1, 1.0).into());
    list.push(RecordLoss::new(1, 1).into());
    for clip in flags {
        list.push(Sgd::new(view, 0.9, 0.0, clip).into());
        for decoupled in flags {
            let params = AdamParams::zeroed();
            list.push(Adam { params, decoupled, clip }.into());
        }
    }
    let params = CopyParams { rows: 1, columns: 1, ..CopyParams::zeroed() };
    list.push(Copy2d { params }.into());
    list.push(Fill::new(view, 0.0).into());
    list.push(Add::new(view, view).into());
    list
}

use bytemuck::Zeroable;
