//! The operations, each with its adjoint. They assert that shapes fit: who builds an expression
//! from data of another's making checks it first, as [`recurrent`](super::super::recurrent) does.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, Zip, concatenate, s};
use std::ops::{Add, Div, Mul, Range, Sub};
use std::rc::Rc;

use super::{Gradients, Node};

impl Gradients {
    /// Adds `d` to the gradient of a value that may have been repeated over rows or columns.
    fn add(&mut self, index: usize, d: ArrayView2<f64>) {
        let target = self.at(index);
        match (target.dim(), d.dim()) {
            (a, b) if a == b => *target += &d,
            ((1, 1), _) => *target += d.sum(),
            ((1, _), _) => *target += &d.sum_axis(Axis(0)),
            _ => *target += &d.sum_axis(Axis(1)).insert_axis(Axis(1)),
        }
    }
}

impl<'t> Node<'t> {
    /// Both operands, and the value computed from them, with its gradients by the operands.
    fn binary(
        self,
        other: Node<'t>,
        value: Array2<f64>,
        adjoint: impl Fn(&Array2<f64>) -> (Array2<f64>, Array2<f64>) + 'static,
    ) -> Node<'t> {
        debug_assert!(std::ptr::eq(self.tape, other.tape), "two tapes");
        let (a, b) = (self.index, other.index);
        self.tape.push(
            value,
            Some(Box::new(move |d, gradients| {
                let (da, db) = adjoint(d);
                gradients.add(a, da.view());
                gradients.add(b, db.view());
            })),
        )
    }

    /// y = f(x) by element; `slope` is dy/dx from x and y.
    pub fn map(
        self,
        f: impl Fn(f64) -> f64,
        slope: impl Fn(f64, f64) -> f64 + 'static,
    ) -> Node<'t> {
        self.map_at(self.value(), f, slope)
    }

    /// The same with other values in the place of this node's.
    fn map_at(
        self,
        x: Rc<Array2<f64>>,
        f: impl Fn(f64) -> f64,
        slope: impl Fn(f64, f64) -> f64 + 'static,
    ) -> Node<'t> {
        // A slope is told from what is kept.
        let y = self.tape.rounded(x.mapv(f));
        let at = self.index;
        let saved = y.clone();
        self.tape.push(
            y,
            Some(Box::new(move |d, gradients| {
                Zip::from(gradients.at(at))
                    .and(d)
                    .and(&*x)
                    .and(&saved)
                    .for_each(|target, &d, &x, &y| *target += d * slope(x, y));
            })),
        )
    }

    /// The same for a function whose slope jumps at `borders`.
    pub fn map_with_borders(
        self,
        borders: &[f64],
        f: impl Fn(f64) -> f64,
        slope: impl Fn(f64, f64) -> f64 + 'static,
    ) -> Node<'t> {
        for x in self.value().iter() {
            borders.iter().for_each(|border| self.tape.note(x - border));
        }
        let crossed = |&x: &f64| {
            let border = borders.iter().find(|&&border| self.tape.crosses(x - border));
            border.map_or(x, |border| 2.0 * border - x)
        };
        let sides = Rc::new(self.value().map(crossed));
        self.map_at(sides, f, slope)
    }

    /// σ(x) = 1/(1 + e^(−x)).
    pub fn sigmoid(self) -> Node<'t> {
        self.map(|x| 1.0 / (1.0 + (-x).exp()), |_, y| y * (1.0 - y))
    }

    /// tanh x.
    pub fn tanh(self) -> Node<'t> {
        self.map(f64::tanh, |_, y| 1.0 - y * y)
    }

    /// e^x.
    pub fn exp(self) -> Node<'t> {
        self.map(f64::exp, |_, y| y)
    }

    /// √x.
    pub fn sqrt(self) -> Node<'t> {
        self.map(f64::sqrt, |_, y| 0.5 / y)
    }

    /// log σ(x) = min(x, 0) − log(1 + e^(−|x|)), which nothing overflows; its slope is σ(−x).
    pub fn log_sigmoid(self) -> Node<'t> {
        self.map(|x| x.min(0.0) - (-x.abs()).exp().ln_1p(), |x, _| 1.0 / (1.0 + x.exp()))
    }

    /// max(−limit, min(x, limit)) for a limit above 0; the slope is 1 for |x| < limit, else 0.
    pub fn clamp(self, limit: f64) -> Node<'t> {
        let inside = move |x: f64, _| if x.abs() < limit { 1.0 } else { 0.0 };
        self.map_with_borders(&[-limit, limit], |x| x.clamp(-limit, limit), inside)
    }

    /// The larger of two of one shape, which has the gradient; `other` where they are equal.
    pub fn max(self, other: Node<'t>) -> Node<'t> {
        let (a, b) = (self.value(), other.value());
        Zip::from(&*a).and(&*b).for_each(|a, b| self.tape.note(a - b));
        let larger = |a: &f64, b: &f64| (a > b) != self.tape.crosses(a - b);
        let first = Zip::from(&*a).and(&*b).map_collect(larger);
        self.choose(&first, other)
    }

    /// This where `mask` (its shape, or one column for whole rows), else `other`, of the same
    /// shape. Nothing of what isn't chosen, a NaN for example, comes through.
    pub fn choose(self, mask: &Array2<bool>, other: Node<'t>) -> Node<'t> {
        let (a, b) = (self.value(), other.value());
        let wide = mask.broadcast(a.raw_dim()).expect("the mask's shape").to_owned();
        let value = Zip::from(&wide).and(&*a).and(&*b).map_collect(|&m, &a, &b| match m {
            true => a,
            false => b,
        });
        self.binary(other, value, move |d| {
            let part = |take: bool| {
                Zip::from(&wide).and(d).map_collect(|&m, &d| if m == take { d } else { 0.0 })
            };
            (part(true), part(false))
        })
    }

    /// This where `mask`, else 0.
    pub fn keep(self, mask: &Array2<bool>) -> Node<'t> {
        self.choose(mask, self.tape.input(Array2::zeros(self.shape())))
    }

    /// The product with a constant.
    pub fn scale(self, factor: f64) -> Node<'t> {
        self.map(move |x| factor * x, move |_, _| factor)
    }

    /// The sum with a constant.
    pub fn offset(self, term: f64) -> Node<'t> {
        self.map(move |x| x + term, |_, _| 1.0)
    }

    /// 1 − x.
    pub fn complement(self) -> Node<'t> {
        self.map(|x| 1.0 - x, |_, _| -1.0)
    }

    /// a/b by element; da = d/b, db = −(a/b)·d/b.
    fn quotient(self, other: Node<'t>) -> Node<'t> {
        let b = other.value();
        let value = &*self.value() / &*b;
        let saved = value.clone();
        self.binary(other, value, move |d| {
            let da = d / &*b;
            let db = -(&saved * &da);
            (da, db)
        })
    }

    /// a·b; da = d·bᵀ, db = aᵀ·d.
    pub fn matmul(self, other: Node<'t>) -> Node<'t> {
        let (a, b) = (self.value(), other.value());
        let (at_a, at_b) = (self.index, other.index);
        self.tape.push(
            a.dot(&*b),
            Some(Box::new(move |d, gradients| {
                general_mat_mul(1.0, d, &b.t(), 1.0, gradients.at(at_a));
                general_mat_mul(1.0, &a.t(), d, 1.0, gradients.at(at_b));
            })),
        )
    }

    /// a·bᵀ, what a layer does to its rows; da = d·b, db = dᵀ·a.
    pub fn matmul_transposed(self, other: Node<'t>) -> Node<'t> {
        let (a, b) = (self.value(), other.value());
        let (at_a, at_b) = (self.index, other.index);
        self.tape.push(
            a.dot(&b.t()),
            Some(Box::new(move |d, gradients| {
                general_mat_mul(1.0, d, &*b, 1.0, gradients.at(at_a));
                general_mat_mul(1.0, &d.t(), &*a, 1.0, gradients.at(at_b));
            })),
        )
    }

    /// Some of the columns.
    pub fn columns(self, range: Range<usize>) -> Node<'t> {
        let at = self.index;
        let part = self.value().slice(s![.., range.clone()]).to_owned();
        self.tape.push(
            part,
            Some(Box::new(move |d, gradients| {
                let mut target = gradients.at(at).slice_mut(s![.., range.clone()]);
                target += d;
            })),
        )
    }

    /// Some of the rows.
    pub fn rows(self, range: Range<usize>) -> Node<'t> {
        let at = self.index;
        let part = self.value().slice(s![range.clone(), ..]).to_owned();
        self.tape.push(
            part,
            Some(Box::new(move |d, gradients| {
                let mut target = gradients.at(at).slice_mut(s![range.clone(), ..]);
                target += d;
            })),
        )
    }

    /// Values one below the other (axis 0) or side by side (axis 1); at least one.
    pub fn concat(axis: Axis, parts: &[Node<'t>]) -> Node<'t> {
        let values: Vec<_> = parts.iter().map(|part| part.value()).collect();
        let views: Vec<_> = values.iter().map(|value| value.view()).collect();
        let whole = concatenate(axis, &views).expect("parts of one height or width");
        let places: Vec<_> = parts.iter().map(|p| (p.index, p.shape()[axis.0])).collect();
        parts[0].tape.push(
            whole,
            Some(Box::new(move |d, gradients| {
                let mut rest = d.view();
                for &(index, extent) in &places {
                    let (part, after) = rest.split_at(axis, extent);
                    *gradients.at(index) += &part;
                    rest = after;
                }
            })),
        )
    }

    /// The elements at the places `map` (row·columns + column, of this; None gives 0), in the
    /// order of rows of a matrix of `shape`. The adjoint adds each gradient at its place.
    pub fn gather(self, shape: [usize; 2], map: Rc<[Option<usize>]>) -> Node<'t> {
        let x = self.value();
        let (at, columns) = (self.index, self.width());
        let place = move |flat: usize| [flat / columns, flat % columns];
        let picked = map.iter().map(|from| from.map_or(0.0, |flat| x[place(flat)])).collect();
        let value = Array2::from_shape_vec(shape, picked).expect("a map of the result's length");
        self.tape.push(
            value,
            Some(Box::new(move |d, gradients| {
                let target = gradients.at(at);
                for (&from, &d) in map.iter().zip(d) {
                    if let Some(flat) = from {
                        target[place(flat)] += d;
                    }
                }
            })),
        )
    }

    /// Along axis 0 the sum of the rows `[1, columns]`, along axis 1 of the columns `[rows, 1]`.
    pub fn sum(self, axis: Axis) -> Node<'t> {
        let at = self.index;
        let value = self.value().sum_axis(axis).insert_axis(axis);
        self.tape.push(value, Some(Box::new(move |d, gradients| *gradients.at(at) += d)))
    }

    /// N(x) = (x − mean)/√(variance + ε) of each row (Ba 2016); the variance divides by the width.
    pub fn normalize_rows(self, epsilon: f64) -> Node<'t> {
        let share = 1.0 / self.width() as f64;
        let centred = self - self.sum(Axis(1)).scale(share);
        let variance = (centred * centred).sum(Axis(1)).scale(share);
        centred / variance.offset(epsilon).sqrt()
    }

    /// Mean and variance `[1, columns]` of each column over the rows where `mask` `[rows, 1]`.
    pub fn column_statistics(self, mask: &Array2<bool>) -> [Node<'t>; 2] {
        let share = 1.0 / mask.iter().filter(|&&m| m).count().max(1) as f64;
        let mean = self.keep(mask).sum(Axis(0)).scale(share);
        let centred = (self - mean).keep(mask);
        [mean, (centred * centred).sum(Axis(0)).scale(share)]
    }
}

impl<'t> Add for Node<'t> {
    type Output = Node<'t>;

    fn add(self, other: Node<'t>) -> Node<'t> {
        self.binary(other, &*self.value() + &*other.value(), |d| (d.clone(), d.clone()))
    }
}

impl<'t> Sub for Node<'t> {
    type Output = Node<'t>;

    fn sub(self, other: Node<'t>) -> Node<'t> {
        self.binary(other, &*self.value() - &*other.value(), |d| (d.clone(), -d))
    }
}

impl<'t> Mul for Node<'t> {
    type Output = Node<'t>;

    fn mul(self, other: Node<'t>) -> Node<'t> {
        let (a, b) = (self.value(), other.value());
        self.binary(other, &*a * &*b, move |d| (d * &*b, d * &*a))
    }
}

impl<'t> Div for Node<'t> {
    type Output = Node<'t>;

    fn div(self, other: Node<'t>) -> Node<'t> {
        self.quotient(other)
    }
}
