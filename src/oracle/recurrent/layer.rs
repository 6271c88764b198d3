//! One direction of one layer over time.

use ndarray::{Array2, Axis, s};

use super::super::same_shape;
use super::super::tape::{Node, Tape};
use super::cells::Equations;
use super::product::{RecurrentProduct, input_products};
use super::{LayerSpec, Masks, WeightNodes};
use crate::error::{Error, Result};

/// What a layer computed.
pub struct LayerRun<'t> {
    /// h `[B, P]` of each step; where a row isn't valid, the one carried past it.
    pub outputs: Vec<Node<'t>>,
    /// The states after the last step of the layer's direction.
    pub finals: Vec<Node<'t>>,
    /// The states after each step, by step.
    pub states: Vec<Vec<Node<'t>>>,
    /// With batch norm, μ and v `[1, G·H]` of W·x; v divides by the number of valid rows.
    pub statistics: Option<[Node<'t>; 2]>,
}

/// Runs a layer over `x`, T nodes `[B, I]`, from the states `initial`, h `[B, P]` and then
/// `[B, H]` each. `weights` are those of [`LayerSpec::weight_shapes`]; for batch norm with known
/// averages also batch_norm_mean and batch_norm_variance `[1, G·H]`.
pub fn layer<'t>(
    tape: &'t Tape,
    spec: &LayerSpec,
    weights: &WeightNodes<'t>,
    x: &[Node<'t>],
    initial: &[Node<'t>],
    masks: &Masks,
) -> Result<LayerRun<'t>> {
    let batch = check(spec, weights, x, initial, masks)?;
    let products = input_products(spec, weights, x, masks);
    let recurrent = spec.recurrent().then(|| RecurrentProduct::new(tape, spec, weights, masks));
    let equations = Equations { tape, spec, weights, recurrent };

    let mut states = vec![vec![]; x.len()];
    let mut finals = initial.to_vec();
    for k in 0..x.len() {
        let t = if spec.options.reverse { x.len() - 1 - k } else { k };
        let rows = |mask: &Array2<bool>| mask.row(t).to_owned().insert_axis(Axis(1));
        // 1. Where a row starts anew, its old states are 0.
        let old: Vec<_> = match &masks.resets {
            Some(resets) => finals.iter().map(|s| s.keep(&rows(resets).mapv(|r| !r))).collect(),
            None => finals.clone(),
        };
        // 2, 3. The products and the cell.
        let mut new = equations.step(products.steps[t], &old);
        for (s, (new, &old)) in new.iter_mut().zip(&old).enumerate() {
            // 4. Zoneout: z⊙old + (1 − z)⊙candidate (Krueger et al. 2017, equations 5 and 6).
            if let Some(Some(z)) = masks.zoneout.get(s) {
                let z = tape.input(z.slice(s![t * batch..(t + 1) * batch, ..]).to_owned());
                *new = z * old + z.complement() * *new;
            }
            // 5. Where a row isn't valid, its states stay.
            if let Some(valid) = &masks.valid {
                *new = new.choose(&rows(valid), old);
            }
        }
        finals.clone_from(&new);
        states[t] = new;
    }
    let outputs = states.iter().map(|states| states[0]).collect();
    Ok(LayerRun { outputs, finals, states, statistics: products.statistics })
}

/// Whether everything has the shape that `spec` asks for; returns B.
fn check(
    spec: &LayerSpec,
    weights: &WeightNodes<'_>,
    x: &[Node<'_>],
    initial: &[Node<'_>],
    masks: &Masks,
) -> Result<usize> {
    spec.check()?;
    let taps = spec.options.convolution.map_or(1, |c| c.taps());
    let rows = spec.gates() * spec.hidden;
    let inputs = match (x.first(), weights.get("weight_ih")) {
        (Some(x), _) => x.width(),
        (None, w) => w.map_or(0, |w| w.width() / taps),
    };
    let mut shapes = spec.weight_shapes(inputs);
    for (name, shape) in &shapes {
        let missing =
            || Error::Missing { tensor: name.clone(), place: "the layer's weights".into() };
        same_shape(name, shape, &weights.get(name).ok_or_else(missing)?.shape())?;
    }
    let averages = ["batch_norm_mean", "batch_norm_variance"];
    if spec.options.batch_norm.is_some() && averages.iter().any(|&a| weights.contains_key(a)) {
        for name in averages {
            let got = weights.get(name).map_or([0, 0], |w| w.shape());
            same_shape(name, &[1, rows], &got)?;
            shapes.insert(name.into(), [1, rows]);
        }
    }
    if let Some(name) = weights.keys().find(|&name| !shapes.contains_key(name)) {
        return Err(Error::invalid(format!("the layer has no weight '{name}'")));
    }
    let widths = spec.state_widths();
    same_shape("initial states (how many)", &[widths.len()], &[initial.len()])?;
    let batch = initial[0].height();
    for (s, (state, &width)) in initial.iter().zip(&widths).enumerate() {
        same_shape(&format!("initial state {s}"), &[batch, width], &state.shape())?;
    }
    for (t, x) in x.iter().enumerate() {
        same_shape(&format!("input at step {t}"), &[batch, inputs], &x.shape())?;
    }
    if let Some(c) = spec.options.convolution
        && !batch.is_multiple_of(c.places())
    {
        let places = c.places();
        return Err(Error::invalid(format!("{batch} rows are not maps of {places} places")));
    }
    spec.check_masks(masks, x.len(), batch)?;
    Ok(batch)
}
