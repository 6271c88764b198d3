//! Reverse-mode differentiation of array expressions.
//!
//! A [`Tape`] keeps every value that an expression computed and how its gradient goes back to what
//! it was computed from (Wengert 1964; Griewank and Walther, "Evaluating Derivatives", 2008,
//! chapter 3). All values are matrices `[rows, columns]`; a vector is one row. A [`Node`] is a
//! copyable handle with arithmetic: `f * c + i * g` is the LSTM's cell.
//!
//! Operands broadcast: where one side has one row or one column it is repeated, and its gradient
//! is the sum over the repetitions.

mod local;
mod ops;
#[cfg(test)]
mod tests;

use ndarray::{Array2, Ix2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::same_shape;
use crate::error::Result;

/// From the gradient with respect to a value, adds to the gradients of what it was made from.
type Adjoint = Box<dyn Fn(&Array2<f64>, &mut Gradients)>;

/// All values of a computation, in the order in which they were computed.
pub struct Tape {
    entries: RefCell<Vec<Entry>>,
    margin: Cell<f64>,
    crossing: f64,
    rounding: Option<Rounding>,
}

/// Disturbs by so much of a value, at most.
struct Rounding {
    unit: f64,
    random: RefCell<ChaCha8Rng>,
}

struct Entry {
    value: Rc<Array2<f64>>,
    /// None for what was put in.
    adjoint: Option<Adjoint>,
}

/// One value on a tape.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    tape: &'t Tape,
    index: usize,
}

impl Default for Tape {
    fn default() -> Self {
        let margin = Cell::new(f64::INFINITY);
        Tape { entries: RefCell::default(), margin, crossing: 0.0, rounding: None }
    }
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty tape on which elements nearer than `crossing` to a border at which a slope jumps have the slope of
    /// the other side: what a lower precision, which may round them over, is to be compared with.
    pub fn across(crossing: f64) -> Self {
        Tape { crossing, ..Self::default() }
    }

    /// An empty tape on which the result of every operation, and every gradient on its way, is off by up to `unit` of itself
    /// (of activations by up to two, as what slopes are told from is rounded too), at random: how far results of several
    /// such tapes lie apart is what a precision of that unit can know of them (Parker 1997, "Monte Carlo arithmetic").
    pub fn rounding(unit: f64, seed: u64) -> Self {
        let random = RefCell::new(ChaCha8Rng::seed_from_u64(seed));
        Tape { rounding: Some(Rounding { unit, random }), ..Self::default() }
    }

    fn rounded(&self, mut value: Array2<f64>) -> Array2<f64> {
        if let Some(Rounding { unit, random }) = &self.rounding {
            let mut random = random.borrow_mut();
            value.mapv_inplace(|v| v * (1.0 + unit * random.random_range(-1.0..=1.0)));
        }
        value
    }

    /// Puts in a value: something to differentiate by, or a constant.
    pub fn input(&self, value: Array2<f64>) -> Node<'_> {
        self.push(value, None)
    }

    /// A constant `[1, 1]`.
    pub fn scalar(&self, value: f64) -> Node<'_> {
        self.input(Array2::from_elem((1, 1), value))
    }

    /// How near any element of any max, clamp or activation came to a border at which its slope
    /// jumps; infinite where there was none. Derivatives are to be trusted, and lower precisions
    /// to be compared, only where this is well above the size of the disturbance.
    pub fn margin(&self) -> f64 {
        self.margin.get()
    }

    /// The gradients of Σ seed⊙node, summed over the pairs of `seeds`, with respect to every
    /// value on the tape. A seed has its node's shape.
    pub fn backward(&self, seeds: &[(Node<'_>, Array2<f64>)]) -> Result<Gradients> {
        let entries = self.entries.borrow();
        let shapes: Vec<Ix2> = entries.iter().map(|entry| entry.value.raw_dim()).collect();
        let mut gradients = Gradients { values: vec![None; shapes.len()], shapes };
        for (node, seed) in seeds {
            same_shape("seed of a gradient", &node.shape(), seed.shape())?;
            *gradients.at(node.index) += seed;
        }
        for (index, entry) in entries.iter().enumerate().rev() {
            let Some(adjoint) = &entry.adjoint else { continue };
            // What is upstream of this value was visited before it.
            if let Some(d) = gradients.values[index].take().map(|d| self.rounded(d)) {
                adjoint(&d, &mut gradients);
                gradients.values[index] = Some(d);
            }
        }
        Ok(gradients)
    }

    fn push(&self, value: Array2<f64>, adjoint: Option<Adjoint>) -> Node<'_> {
        // What was put in is what it is.
        let value = if adjoint.is_some() { self.rounded(value) } else { value };
        let mut entries = self.entries.borrow_mut();
        entries.push(Entry { value: Rc::new(value), adjoint });
        Node { tape: self, index: entries.len() - 1 }
    }

    /// Notes how far from a border of its operation an element was.
    fn note(&self, distance: f64) {
        self.margin.set(self.margin.get().min(distance.abs()));
    }

    /// Whether an element so far from a border counts as on its other side.
    fn crosses(&self, distance: f64) -> bool {
        distance.abs() < self.crossing
    }
}

impl<'t> Node<'t> {
    /// The value.
    pub fn value(self) -> Rc<Array2<f64>> {
        self.tape.entries.borrow()[self.index].value.clone()
    }

    /// [rows, columns].
    pub fn shape(self) -> [usize; 2] {
        let (rows, columns) = self.tape.entries.borrow()[self.index].value.dim();
        [rows, columns]
    }

    /// How many rows.
    pub fn height(self) -> usize {
        self.shape()[0]
    }

    /// How many columns.
    pub fn width(self) -> usize {
        self.shape()[1]
    }

    /// The tape it is on.
    pub fn tape(self) -> &'t Tape {
        self.tape
    }
}

/// The gradients with respect to every value of a tape.
pub struct Gradients {
    shapes: Vec<Ix2>,
    values: Vec<Option<Array2<f64>>>,
}

impl Gradients {
    /// The gradient with respect to `node`, of its shape; zero where the seeds don't depend on it.
    pub fn of(&self, node: Node<'_>) -> Array2<f64> {
        match self.values.get(node.index) {
            Some(Some(value)) => value.clone(),
            _ => Array2::zeros(node.value().raw_dim()),
        }
    }

    /// Where to add to.
    fn at(&mut self, index: usize) -> &mut Array2<f64> {
        self.values[index].get_or_insert_with(|| Array2::zeros(self.shapes[index]))
    }
}
