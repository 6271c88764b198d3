//! A function given as code only, element by element.

use ndarray::Array2;

use super::{Node, Tape};

/// The step of the central differences.
const STEP: f64 = 1e-5;

impl Tape {
    /// `f` at every element: from the elements of `inputs` (at least one, all of one shape) it
    /// fills in those of `outputs` results. Its Jacobian is taken by central differences of step
    /// 1e-5 (error of the order of 1e-10).
    pub fn local<'t>(
        &'t self,
        inputs: &[Node<'t>],
        outputs: usize,
        f: impl Fn(&[f64], &mut [f64]) + 'static,
    ) -> Vec<Node<'t>> {
        let values: Vec<_> = inputs.iter().map(|input| input.value()).collect();
        let (rows, columns) = values[0].dim();
        let at = move |r: usize, c: usize| values.iter().map(|v| v[[r, c]]).collect::<Vec<_>>();
        // All results side by side.
        let mut all = Array2::zeros((rows, outputs * columns));
        let mut result = vec![0.0; outputs];
        for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
            result.fill(0.0);
            f(&at(r, c), &mut result);
            result.iter().enumerate().for_each(|(k, v)| all[[r, k * columns + c]] = *v);
        }
        let places: Vec<_> = inputs.iter().map(|input| input.index).collect();
        let all = self.push(
            all,
            Some(Box::new(move |d, gradients| {
                let (mut above, mut below) = (vec![0.0; outputs], vec![0.0; outputs]);
                for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                    let mut point = at(r, c);
                    for (k, &place) in places.iter().enumerate() {
                        let x = point[k];
                        above.fill(0.0);
                        below.fill(0.0);
                        point[k] = x + STEP;
                        f(&point, &mut above);
                        point[k] = x - STEP;
                        f(&point, &mut below);
                        point[k] = x;
                        for o in 0..outputs {
                            let slope = (above[o] - below[o]) / (2.0 * STEP);
                            gradients.at(place)[[r, c]] += d[[r, o * columns + c]] * slope;
                        }
                    }
                }
            })),
        );
        (0..outputs).map(|k| all.columns(k * columns..(k + 1) * columns)).collect()
    }
}
