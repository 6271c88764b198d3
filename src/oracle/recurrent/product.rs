//! The products X = W·x + b and R = U·h̃ + b′, with everything that an option does to them.

use ndarray::{Array2, Axis};
use std::ops::Range;
use std::rc::Rc;

use super::super::tape::{Node, Tape};
use super::{Convolution, LayerSpec, Masks, WeightNodes};

/// The input products `[B, G·H]` of all steps, and with batch norm the statistics μ and v
/// `[1, G·H]` of W·x.
pub(super) struct InputProducts<'t> {
    pub(super) steps: Vec<Node<'t>>,
    pub(super) statistics: Option<[Node<'t>; 2]>,
}

/// X of every step, from `x`, T nodes `[B, I]`.
pub(super) fn input_products<'t>(
    spec: &LayerSpec,
    weights: &WeightNodes<'t>,
    x: &[Node<'t>],
    masks: &Masks,
) -> InputProducts<'t> {
    let (w, b) = (weights["weight_ih"], weights["bias_ih"]);
    let products = x.iter().map(|&x| spread(spec, x).matmul_transposed(w));
    if let Some(epsilon) = spec.options.layer_norm {
        // X = γ_x⊙N(W·x) + b (Ba et al. 2016)
        let gamma = weights["norm_ih_weight"];
        let steps = products.map(|p| p.normalize_rows(epsilon) * gamma + b).collect();
        return InputProducts { steps, statistics: None };
    }
    let Some(epsilon) = spec.options.batch_norm.filter(|_| !x.is_empty()) else {
        return InputProducts { steps: products.map(|p| p + b).collect(), statistics: None };
    };
    // X = γ⊙(W·x − μ)/√(v + ε) + b (Laurent et al. 2016), over the valid rows of all steps
    let batch = x[0].height();
    let all = Node::concat(Axis(0), &products.collect::<Vec<_>>());
    let valid = match &masks.valid {
        Some(valid) => valid.iter().copied().collect(),
        None => vec![true; x.len() * batch],
    };
    let valid = Array2::from_shape_fn((valid.len(), 1), |(row, _)| valid[row]);
    let given = ["batch_norm_mean", "batch_norm_variance"].map(|name| weights.get(name).copied());
    let [mean, variance] = match given {
        [Some(mean), Some(variance)] => [mean, variance],
        _ => all.column_statistics(&valid),
    };
    let normal = (all - mean) / variance.offset(epsilon).sqrt();
    let all = normal * weights["batch_norm_weight"] + b;
    let steps = (0..x.len()).map(|t| all.rows(t * batch..(t + 1) * batch)).collect();
    InputProducts { steps, statistics: Some([mean, variance]) }
}

/// U and what it needs.
pub(super) struct RecurrentProduct<'t> {
    spec: LayerSpec,
    /// U with its blocks of zeros `[G·H, P·taps]`.
    u: Node<'t>,
    bias: Node<'t>,
    gamma: Option<Node<'t>>,
    /// None, one, or one a gate.
    masks: Vec<Node<'t>>,
}

impl<'t> RecurrentProduct<'t> {
    pub(super) fn new(
        tape: &'t Tape,
        spec: &LayerSpec,
        weights: &WeightNodes<'t>,
        masks: &Masks,
    ) -> Self {
        RecurrentProduct {
            spec: spec.clone(),
            u: dense(spec, weights["weight_hh"]),
            bias: weights["bias_hh"],
            gamma: weights.get("norm_hh_weight").copied(),
            masks: masks.recurrent.iter().map(|m| tape.input(m.clone())).collect(),
        }
    }

    /// R `[B, G·H]` from h `[B, P]`.
    pub(super) fn all(&self, h: Node<'t>) -> Node<'t> {
        self.gates(0..self.spec.gates(), h, None)
    }

    /// The blocks of some gates alone, U·(factor⊙h̃) + b′. A norm goes over what is one product.
    pub(super) fn gates(
        &self,
        gates: Range<usize>,
        h: Node<'t>,
        factor: Option<Node<'t>>,
    ) -> Node<'t> {
        let hidden = self.spec.hidden;
        let units = gates.start * hidden..gates.end * hidden;
        let product = self.without_bias(gates, h, factor);
        let normal = match (self.spec.options.layer_norm, self.gamma) {
            // R = γ_h⊙N(U·h̃) + b′ (Ba et al. 2016)
            (Some(epsilon), Some(gamma)) => {
                product.normalize_rows(epsilon) * gamma.columns(units.clone())
            }
            _ => product,
        };
        normal + self.bias.columns(units)
    }

    fn without_bias(&self, gates: Range<usize>, h: Node<'t>, factor: Option<Node<'t>>) -> Node<'t> {
        let hidden = self.spec.hidden;
        let product = |gates: Range<usize>, mask: Option<&Node<'t>>| {
            // h̃ = m⊙h (Gal, Ghahramani 2016)
            let seen = mask.map_or(h, |&m| m * h);
            let seen = factor.map_or(seen, |factor| factor * seen);
            let u = self.u.rows(gates.start * hidden..gates.end * hidden);
            spread(&self.spec, seen).matmul_transposed(u)
        };
        match self.masks.len() {
            0 | 1 => product(gates, self.masks.first()),
            _ => {
                let parts: Vec<_> = gates.map(|g| product(g..g + 1, self.masks.get(g))).collect();
                Node::concat(Axis(1), &parts)
            }
        }
    }
}

/// The recurrent weights `[G·H, P·taps]` of heads, zero where a unit and an element of h belong to
/// different ones; unit j is of head j/(H/heads), element p of h of head p/(P/heads).
fn dense<'t>(spec: &LayerSpec, u: Node<'t>) -> Node<'t> {
    let heads = spec.options.heads;
    if heads == 1 {
        return u;
    }
    let taps = spec.options.convolution.map_or(1, |c| c.taps());
    let (units, own, columns) = (spec.hidden / heads, u.width(), spec.width() * taps);
    let mut map = Vec::new();
    for row in 0..u.height() {
        let head = row % spec.hidden / units;
        map.extend((0..columns).map(|k| (k / own == head).then_some(row * own + k % own)));
    }
    u.gather([u.height(), columns], map.into())
}

/// What a product sees of `x` `[B·S, C]`: itself, or with a convolution the neighbourhood
/// `[B·S, C·taps]` of each place, taps fastest, zero past the map's edges.
fn spread<'t>(spec: &LayerSpec, x: Node<'t>) -> Node<'t> {
    let Some(convolution) = spec.options.convolution else { return x };
    let [rows, channels] = x.shape();
    x.gather([rows, channels * convolution.taps()], neighbourhoods(convolution, rows, channels))
}

fn neighbourhoods(c: Convolution, rows: usize, channels: usize) -> Rc<[Option<usize>]> {
    let mut map = Vec::new();
    for row in 0..rows {
        let (image, y, x) = (row / c.places(), row % c.places() / c.width, row % c.width);
        for channel in 0..channels {
            for i in 0..c.kernel_height {
                for j in 0..c.kernel_width {
                    // (y, x) + (i, j) − (kernel − 1)/2, if that is on the map.
                    let v = (y + i).checked_sub(c.kernel_height / 2).filter(|&v| v < c.height);
                    let u = (x + j).checked_sub(c.kernel_width / 2).filter(|&u| u < c.width);
                    map.push(
                        v.zip(u).map(|(v, u)| {
                            (image * c.places() + v * c.width + u) * channels + channel
                        }),
                    );
                }
            }
        }
    }
    map.into()
}
