//! Options of a stack.

use crate::{says, stack};
use recurra::Result;
use recurra::cell::{Activation, Cell, CellKind};
use recurra::kernel::Convolution;
use recurra::layer::{InitialState, Recurrent};
use recurra::schedule::Recorder;

const LINE: Convolution = Convolution { map: [1, 3], kernel: [1, 3] };

/// Records a stack over 2 steps of 3 rows.
fn record(stack: &Recurrent) -> Result<()> {
    let mut rec = Recorder::training();
    let x = rec.input("x", [6, stack.input.max(1)], true)?;
    stack.record(&mut rec, x, [2, 3], &InitialState::Zero).map(|_| ())
}

#[test]
fn options_that_make_no_sense_are_named() {
    type Change = fn(&mut Recurrent);
    let lstm: [(Change, &str); 31] = [
        (|s| s.input = 0, "input size"),
        (|s| s.hidden = 0, "hidden size"),
        (|s| s.layers = 0, "number of layers"),
        (|s| s.heads = 0, "number of heads"),
        (|s| s.dropout = 1.0, "rate of dropout must be in [0, 1), not 1"),
        (|s| s.dropout = f32::NAN, "rate of dropout"),
        (|s| s.input_dropout = -0.1, "input dropout"),
        (|s| s.recurrent_dropout = 1.5, "recurrent dropout"),
        (|s| s.weight_drop = f32::INFINITY, "weight drop"),
        (|s| s.zoneout = [1.0, 0.0], "zoneout of h"),
        (|s| s.zoneout = [0.0, -1.0], "zoneout of the other states"),
        (|s| s.heads = 3, "heads must divide"),
        (|s| (s.heads, s.cell.projection) = (2, Some(3)), "heads must divide"),
        (|s| s.batch_norm = Some(0.0), "batch norm's epsilon"),
        (|s| s.batch_norm = Some(f32::NAN), "batch norm's epsilon"),
        (|s| s.cell.layer_norm = Some(-1.0), "layer norm's epsilon"),
        (|s| (s.cell.layer_norm, s.batch_norm) = (Some(0.1), Some(0.1)), "layer norm and batch"),
        (|s| s.cell.clip = Some(0.0), "clip must be a positive number, not 0"),
        (|s| s.cell.clip = Some(f32::NAN), "clip must be"),
        (|s| s.cell.clip = Some(f32::INFINITY), "clip must be"),
        (|s| s.cell.cell_clip = Some(-2.0), "cell clip must be a positive number, not -2"),
        (|s| s.cell.projection = Some(0), "projection"),
        (|s| s.cell.activations = Some(vec![Activation::Tanh; 2]), "3 or 5 activations"),
        (|s| s.cell.activations = Some(vec![]), "3 or 5 activations"),
        (|s| s.cell.activations = Some(vec![Activation::LeakyRelu { alpha: f32::NAN }; 3]), "NaN"),
        (|s| s.convolution = Some(Convolution { kernel: [1, 2], ..LINE }), "odd kernel"),
        (|s| s.convolution = Some(Convolution { map: [0, 3], ..LINE }), "at least one place"),
        // Three rows are no maps of two places.
        (|s| s.convolution = Some(Convolution { map: [1, 2], ..LINE }), "maps of 2 places"),
        (|s| s.cell.kind = CellKind::Custom, "equations are missing"),
        (|s| s.layers = 1 << 21, "2097152 layers"),
        (|s| s.layers = usize::MAX / 2, "layers are too many"),
    ];
    for (change, word) in lstm {
        let mut stack = stack(CellKind::Lstm);
        record(&stack).unwrap();
        change(&mut stack);
        says(word, record(&stack).unwrap_err(), &[word]);
    }
    type CellChange = fn(&mut Cell);
    let lstm_alone: [(CellChange, &str); 4] = [
        (|c| c.peepholes = true, "peepholes"),
        (|c| c.coupled = true, "coupled gates"),
        (|c| c.cell_clip = Some(1.0), "cell clip"),
        (|c| c.projection = Some(2), "projection"),
    ];
    for kind in CellKind::ALL {
        let refused = |change: &dyn Fn(&mut Recurrent), words: &[&str]| {
            let mut stack = stack(kind);
            change(&mut stack);
            says(words[0], record(&stack).unwrap_err(), &[words, &[kind.name()]].concat());
        };
        if kind != CellKind::Lstm {
            for (change, word) in lstm_alone {
                refused(&|s| change(&mut s.cell), &[word, "LSTM alone"]);
            }
        }
        if kind.is_scan() {
            refused(&|s| s.recurrent_dropout = 0.1, &["no recurrent product"]);
            refused(&|s| s.weight_drop = 0.1, &["no recurrent product"]);
            refused(&|s| s.heads = 2, &["no recurrent product"]);
        }
        if kind.is_scan() || kind == CellKind::Slstm {
            refused(&|s| s.cell.clip = Some(1.0), &["clip"]);
            refused(
                &|s| s.cell.activations = Some(vec![Activation::Tanh]),
                &["no activations can be chosen, 1 was given"],
            );
        }
        refused(&|s| s.cell.layer_norm = Some(0.0), &["layer norm's epsilon"]);
    }
}
