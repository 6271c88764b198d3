//! ONNX's RNN, LSTM and GRU: from a node and its values to a [`RecurrentNode`] and back out.

use super::activation::Activation;
use super::call::Call;
use super::model::Node;
use super::node::{Direction, RecurrentCell, RecurrentNode, States};
use super::operator::Layers;
use crate::cell::{GateOrder, reorder_gates};
use crate::engine::Engine;
use crate::error::Result;
use crate::tensor::{Value, require_finite};
use ndarray::{
    Array1, Array2, ArrayD, ArrayView1, ArrayView2, ArrayView3, Axis, Ix1, Ix2, Ix3, IxDyn,
};

/// What a node's attributes say.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The equations.
    pub cell: RecurrentCell,
    /// H, where it is said.
    pub hidden: Option<usize>,
    /// For each direction whether it is reversed.
    pub reverse: Vec<bool>,
    /// For each direction its activations.
    pub activations: Vec<Vec<Activation>>,
    /// The bound of pre-activations.
    pub clip: Option<f32>,
    /// The LSTM's f is 1 − i.
    pub coupled: bool,
    /// Sequences are \[B, T, …\], not \[T, B, …\].
    pub batch_first: bool,
}

/// A node's constant inputs, W \[D, G·H, I\], R \[D, G·H, H\], B \[D, 2·G·H\], P \[D, 3·H\].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "ONNX's names")]
pub struct Weights<'a> {
    pub w: ArrayView3<'a, f32>,
    pub r: ArrayView3<'a, f32>,
    pub b: Option<ArrayView2<'a, f32>>,
    pub p: Option<ArrayView2<'a, f32>>,
}

/// The options of a recurrent node.
///
/// # Errors
/// Another operator; an attribute of another type, or with a value that isn't supported.
pub fn options(node: &Node, engine: &Engine) -> Result<Options> {
    let call = Call { node, inputs: Vec::new(), opset: 0, engine };
    read_options(&call)
}

fn read_options(call: &Call<'_>) -> Result<Options> {
    let cell = match call.node.operator.as_str() {
        "RNN" => RecurrentCell::Rnn,
        "LSTM" => RecurrentCell::Lstm,
        "GRU" if call.flag("linear_before_reset", false)? => RecurrentCell::Gru,
        "GRU" => RecurrentCell::GruResetBefore,
        _ => return Err(call.fail("this is no recurrent operator")),
    };
    let hidden = match call.int("hidden_size")? {
        None => None,
        Some(n) => match usize::try_from(n) {
            Ok(n) if n > 0 => Some(n),
            _ => return Err(call.fail(format!("attribute 'hidden_size' = {n}"))),
        },
    };
    let reverse = match call.text("direction")?.unwrap_or("forward") {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(call.unsupported(format!("direction '{other}'"))),
    };
    let clip = call.float("clip")?;
    if clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
        return Err(call.fail(format!("attribute 'clip' = {}", clip.unwrap_or_default())));
    }
    let activations = activations(call, cell, reverse.len())?;
    Ok(Options {
        cell,
        hidden,
        reverse,
        activations,
        clip,
        coupled: call.flag("input_forget", false)?,
        batch_first: call.flag("layout", false)?,
    })
}

/// For each direction its activations. Alphas and betas are listed for those activations that have
/// one, in the order of the activations.
fn activations(
    call: &Call<'_>,
    cell: RecurrentCell,
    directions: usize,
) -> Result<Vec<Vec<Activation>>> {
    let each = cell.activations().len();
    let mut alphas = call.floats("activation_alpha")?.iter().copied();
    let mut betas = call.floats("activation_beta")?.iter().copied();
    let list = match call.texts("activations")? {
        None => cell.activations().repeat(directions),
        Some(names) => {
            if names.len() != each * directions {
                let wanted = each * directions;
                return Err(call.fail(format!("{} activations; {wanted} are needed", names.len())));
            }
            let mut one = |name: &String| {
                let found = Activation::from_onnx(name, || alphas.next(), || betas.next());
                found.map_err(|reason| call.unsupported(reason))
            };
            names.iter().map(&mut one).collect::<Result<_>>()?
        }
    };
    for (name, left) in [("activation_alpha", alphas.len()), ("activation_beta", betas.len())] {
        if left > 0 {
            let reason = format!("attribute '{name}' has {left} more values than activations");
            return Err(call.fail(format!("{reason} that take one")));
        }
    }
    Ok(list.chunks(each).map(<[_]>::to_vec).collect())
}

/// A layer from a node's options and weights: gates in our order. Coupled gates lose the rows of f,
/// which ONNX's operator has but does not use.
///
/// # Errors
/// A weight of another shape than the others and the options ask for, or with a value that is NaN or
/// infinite.
pub fn decode(name: &str, options: &Options, weights: Weights<'_>) -> Result<RecurrentNode> {
    let kind = options.cell.gate_kind();
    let gates = kind.gates();
    let [count, rows, input] = weights.w.dim().into();
    let hidden = options.hidden.unwrap_or(weights.r.dim().2);
    let fail = |what: &str, wanted: String, got: &[usize]| crate::Error::Shape {
        tensor: format!("{what} of {name}"),
        expected: wanted,
        got: format!("{got:?}"),
    };
    let wanted_directions = options.reverse.len();
    let all_rows = hidden.saturating_mul(gates);
    if count != wanted_directions || rows != all_rows {
        let wanted = format!("[{wanted_directions}, {all_rows}, inputs]");
        return Err(fail("W", wanted, weights.w.shape()));
    }
    if weights.r.shape() != [count, rows, hidden] {
        return Err(fail("R", format!("{:?}", [count, rows, hidden]), weights.r.shape()));
    }
    if let Some(b) = weights.b
        && b.shape() != [count, 2 * rows]
    {
        return Err(fail("B", format!("{:?}", [count, 2 * rows]), b.shape()));
    }
    if let Some(p) = weights.p
        && p.shape() != [count, 3 * hidden]
    {
        return Err(fail("P", format!("{:?}", [count, 3 * hidden]), p.shape()));
    }
    for (what, tensor) in [
        ("W", Some(weights.w.into_dyn())),
        ("R", Some(weights.r.into_dyn())),
        ("B", weights.b.map(|b| b.into_dyn())),
        ("P", weights.p.map(|p| p.into_dyn())),
    ] {
        if let Some(tensor) = tensor {
            require_finite(&format!("{what} of {name}"), tensor)?;
        }
    }
    // Blocks of `width` words for each unit, reordered; i, f, g, o lose f if they are coupled.
    let ours = |values: Vec<f32>| -> Result<Vec<f32>> {
        let mut list = reorder_gates(kind, GateOrder::Onnx, &values)?;
        if options.coupled {
            let block = list.len() / gates;
            list.drain(block..2 * block);
        }
        Ok(list)
    };
    let kept = if options.coupled { rows - hidden } else { rows };
    let matrix = |of: ArrayView3<'_, f32>, d: usize| -> Result<Array2<f32>> {
        let values = ours(of.index_axis(Axis(0), d).iter().copied().collect())?;
        let columns = of.dim().2;
        Array2::from_shape_vec((kept, columns), values)
            .map_err(|_| fail("weights", format!("[{kept}, {columns}]"), of.shape()))
    };
    let mut directions = Vec::new();
    for (d, &reverse) in options.reverse.iter().enumerate() {
        let bias = match weights.b.map(|b| b.index_axis_move(Axis(0), d)) {
            None => None,
            Some(b) => {
                let half = |from: usize| ours(b.iter().skip(from).take(rows).copied().collect());
                Some([Array1::from(half(0)?), Array1::from(half(rows)?)])
            }
        };
        let peephole = weights.p.map(|p| peephole(p.index_axis_move(Axis(0), d), options.coupled));
        directions.push(Direction {
            reverse,
            activations: options.activations[d].clone(),
            weight_ih: matrix(weights.w, d)?,
            weight_hh: matrix(weights.r, d)?,
            bias,
            peephole,
            projection: None,
        });
    }
    let node = RecurrentNode {
        name: name.to_string(),
        cell: options.cell,
        input,
        hidden,
        clip: options.clip,
        coupled: options.coupled,
        directions,
    };
    node.check()?;
    Ok(node)
}

/// ONNX's i, o, f as i, f, o, or i, o.
fn peephole(p: ArrayView1<'_, f32>, coupled: bool) -> Array1<f32> {
    let hidden = p.len() / 3;
    let block = |k: usize| p.iter().skip(k * hidden).take(hidden).copied();
    if coupled {
        block(0).chain(block(1)).collect()
    } else {
        block(0).chain(block(2)).chain(block(1)).collect()
    }
}

/// Which inputs of a node are weights: W, R, B and P.
pub const WEIGHTS: [usize; 4] = [1, 2, 3, 7];

/// A layer that stays loaded.
pub struct Kept {
    node: RecurrentNode,
    layers: Layers,
}

/// Runs a recurrent node: Y, Y_h and, of the LSTM, Y_c. `before` is what stayed loaded of the same node's last run; with
/// `lasting` weights it is known to be the same layer.
pub fn run(call: &Call<'_>, before: Option<Kept>, lasting: bool) -> Result<(Vec<Value>, Kept)> {
    let options = read_options(call)?;
    let mut kept = match before {
        Some(kept) if lasting => kept,
        before => {
            let node = read_layer(call, &options)?;
            let same = before.filter(|kept| kept.node == node);
            same.unwrap_or_else(|| Kept { node, layers: Layers::default() })
        }
    };
    let outputs = run_kept(call, &options, &mut kept)?;
    Ok((outputs, kept))
}

fn read_layer(call: &Call<'_>, options: &Options) -> Result<RecurrentNode> {
    let needed = |place: usize| call.fail(format!("input {place} is left out"));
    let lstm = options.cell == RecurrentCell::Lstm;
    let weights = Weights {
        w: call.axes_of::<Ix3>(1)?.ok_or_else(|| needed(1))?,
        r: call.axes_of::<Ix3>(2)?.ok_or_else(|| needed(2))?,
        b: call.axes_of::<Ix2>(3)?,
        p: if lstm { call.axes_of::<Ix2>(7)? } else { None },
    };
    decode(&call.node.title(), options, weights)
}

fn run_kept(call: &Call<'_>, options: &Options, kept: &mut Kept) -> Result<Vec<Value>> {
    let Kept { node, layers } = kept;
    let lstm = options.cell == RecurrentCell::Lstm;
    let x = call.axes_of::<Ix3>(0)?.ok_or_else(|| call.fail("input 0 is left out"))?;
    // [T, B, I] and [D, B, H] from the layout with the batch first.
    let turn = |view: ArrayView3<'_, f32>| {
        let view = match options.batch_first {
            true => view.permuted_axes([1, 0, 2]),
            false => view,
        };
        view.as_standard_layout().into_owned()
    };
    let x = turn(x);
    let (time, batch, input) = x.dim();
    if input != node.input {
        let wanted = [time, batch, node.input];
        return Err(crate::Error::shape(format!("X of {}", call.node.title()), &wanted, x.shape()));
    }
    let state = |place: usize| -> Result<_> {
        let Some(view) = call.axes_of::<Ix3>(place)? else { return Ok(None) };
        let state = turn(view);
        let wanted = [node.directions.len(), batch, node.hidden];
        if state.shape() != wanted {
            let got = state.shape();
            return Err(call.fail(format!("input {place} has states {got:?}, not {wanted:?}")));
        }
        Ok(Some(state))
    };
    let initial = States { h: state(5)?, c: if lstm { state(6)? } else { None } };
    let lengths = lengths(call, time, batch)?;
    let (y, last) = layers.run(call.engine, node, x.view(), lengths.as_deref(), &initial)?;
    // [T, D, B, H] to [B, T, D, H].
    let y = y.into_dyn();
    let y = if options.batch_first { y.permuted_axes(IxDyn(&[2, 0, 1, 3])) } else { y };
    let out = |state: Option<ndarray::Array3<f32>>| {
        let state = state.unwrap_or_default();
        turn(state.view()).into_dyn()
    };
    let mut outputs = vec![y, out(last.h)];
    if lstm {
        outputs.push(out(last.c));
    }
    let dense = |array: ArrayD<f32>| Value::F32(array.as_standard_layout().into_owned());
    Ok(outputs.into_iter().map(dense).collect())
}

/// The rows' lengths; none where all are as long as the sequence.
fn lengths(call: &Call<'_>, time: usize, batch: usize) -> Result<Option<Vec<usize>>> {
    if call.optional(4).is_none() {
        return Ok(None);
    }
    let list = call.i64(4)?.view().into_dimensionality::<Ix1>();
    let list = list.map_err(|_| call.fail("input 4, the lengths, is no list"))?;
    let one = |&n: &i64| {
        let length = usize::try_from(n).ok().filter(|&n| n <= time);
        length.ok_or_else(|| call.fail(format!("a length of {n} in a sequence of {time} steps")))
    };
    let lengths: Vec<usize> = list.iter().map(one).collect::<Result<_>>()?;
    if lengths.len() != batch {
        return Err(call.fail(format!("{} lengths for {batch} rows", lengths.len())));
    }
    Ok(lengths.iter().any(|&n| n != time).then_some(lengths))
}
