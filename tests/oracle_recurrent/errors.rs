//! What doesn't fit is an error, not a panic.

use ndarray::{Array2, Array3};
use recurra::Error;
use recurra::oracle::recurrent::{
    Activation, Cell, Convolution, Masks, Merge, Options, StackInput, forward, run,
};
use std::sync::Arc;

use crate::gradients::cells;
use crate::problem::{Case, Odd, Variational, both, plain_stack, spec};

#[test]
fn options_that_a_cell_does_not_have_are_errors() {
    let usual = Options::default;
    let refused = |cell: Cell, options: Options| {
        let error = spec(cell.clone(), 4, options.clone()).check();
        assert!(error.is_err(), "{cell:?} {options:?}");
    };
    for cell in cells() {
        if !matches!(cell, Cell::Lstm) {
            refused(cell.clone(), Options { peepholes: true, ..usual() });
            refused(cell.clone(), Options { coupled: true, ..usual() });
            refused(cell.clone(), Options { cell_clip: Some(1.0), ..usual() });
            refused(cell.clone(), Options { projection: Some(2), ..usual() });
        }
        refused(cell.clone(), Options { activations: Some(vec![]), ..usual() });
        refused(cell.clone(), Options { activations: Some(vec![Activation::Relu; 4]), ..usual() });
        refused(cell.clone(), Options { heads: 3, ..usual() });
        refused(cell.clone(), Options { heads: 0, ..usual() });
        refused(cell.clone(), Options { clip: Some(0.0), ..usual() });
        refused(cell.clone(), Options { layer_norm: Some(f64::NAN), ..usual() });
        let both = Options { layer_norm: Some(0.1), batch_norm: Some(0.1), ..usual() };
        refused(cell.clone(), both);
        let even = Convolution { height: 1, width: 4, kernel_height: 1, kernel_width: 2 };
        refused(cell, Options { convolution: Some(even), ..usual() });
    }
    refused(Cell::MinGru, Options { heads: 2, ..usual() });
    refused(Cell::Custom(Arc::new(Odd)), Options { clip: Some(1.0), ..usual() });
    assert!(spec(Cell::Rnn, 0, usual()).check().is_err());
}

#[test]
fn wrong_shapes_are_errors_that_name_the_tensor() {
    let mut case =
        Case::of(plain_stack(vec![vec![spec(Cell::Lstm, 4, Options::default())]]), [6, 3, 2]);
    case.stack.layers.push(both(spec(Cell::Lstm, 3, Options::default())));
    (case.valid, case.zoneout, case.dropout, case.weight_drop) = (true, true, true, true);
    case.variational = Variational::PerGate;
    let input = case.input(31);
    assert!(run(&case.stack, &input).is_ok());
    let reject = |change: &dyn Fn(&mut StackInput), name: &str| {
        let mut other = input.clone();
        change(&mut other);
        let ahead = forward(&case.stack, &other).map(|_| ()).expect_err(name).to_string();
        let back = run(&case.stack, &other).map(|_| ()).expect_err(name).to_string();
        assert_eq!(ahead, back);
        assert!(ahead.contains(name), "'{ahead}' should name {name}");
    };
    let set = |name: &'static str, rows: usize, columns: usize| {
        move |i: &mut StackInput| {
            i.weights[1][1].insert(name.into(), Array2::zeros((rows, columns)));
        }
    };
    reject(&|i| i.x = Array3::zeros((6, 3, 4)), "layer 0");
    reject(&|i| i.x = Array3::zeros((5, 3, 2)), "layer 0");
    reject(&|i| i.x = Array3::zeros((6, 2, 2)), "layer 0");
    reject(&|i| i.d_output = Array3::zeros((6, 3, 3)), "d_output");
    reject(&|i| i.weights.truncate(1), "weights");
    reject(&|i| i.weights[1].truncate(1), "weights of layer 1");
    reject(&|i| i.initial[1].truncate(1), "initial states of layer 1");
    reject(&|i| i.masks.truncate(1), "masks");
    reject(&|i| i.between.clear(), "dropout");
    reject(&|i| i.weight_drop[0].clear(), "weight drop of layer 0");
    reject(&|i| i.d_finals[1][0].truncate(1), "layer 1");
    reject(&|i| i.initial[0][0][1] = Array2::zeros((3, 5)), "layer 0");
    reject(&|i| i.between[1] = Some(Array3::zeros((6, 3, 3))), "dropout multipliers of layer 1");
    reject(&|i| i.weight_drop[1][0] = Some(Array2::zeros((1, 1))), "weight drop");
    reject(&set("weight_ih", 12, 3), "weight_ih");
    reject(&set("weight_hh", 12, 4), "weight drop");
    let undropped = |i: &mut StackInput| {
        set("weight_hh", 12, 4)(i);
        i.weight_drop[1][1] = None;
    };
    reject(&undropped, "weight_hh");
    reject(&set("bias_ih", 12, 1), "bias_ih");
    reject(&set("bias_hh", 1, 11), "bias_hh");
    reject(&set("weight_peephole", 1, 9), "weight_peephole");
    reject(&|i| drop(i.weights[1][0].remove("bias_hh")), "bias_hh");
    let masks = |change: fn(&mut Masks)| move |i: &mut StackInput| change(&mut i.masks[0][0]);
    reject(&masks(|m| m.valid = Some(Array2::from_elem((6, 2), true))), "valid");
    reject(&masks(|m| m.resets = Some(Array2::from_elem((5, 3), true))), "resets");
    reject(&masks(|m| m.recurrent.truncate(2)), "recurrent masks");
    reject(&masks(|m| m.recurrent[3] = Array2::zeros((3, 3))), "recurrent mask");
    reject(&masks(|m| m.zoneout.truncate(1)), "zoneout");
    reject(&masks(|m| m.zoneout[1] = Some(Array2::zeros((6, 4)))), "zoneout");
    reject(&|i| i.masks[1][1].valid = None, "valid rows");

    let mut none = case.clone();
    none.stack.layers.clear();
    assert!(matches!(forward(&none.stack, &input), Err(Error::Invalid(_))));
    let mut three = case.clone();
    let one = three.stack.layers[0][0].clone();
    three.stack.layers[0] = vec![one.clone(), one.clone(), one];
    assert!(matches!(forward(&three.stack, &input), Err(Error::Invalid(_))));
    let mut uneven = case.clone();
    uneven.stack.layers[1][1].hidden = 2;
    uneven.stack.merge = Merge::Sum;
    assert!(matches!(forward(&uneven.stack, &input), Err(Error::Invalid(_))));
}
