//! Linear-chain conditional random fields, as Lafferty, McCallum and Pereira 2001 print them.

use ndarray::{Array1, Array2, Array3};

use super::same_shape;
use crate::error::{Error, Result};

/// The scores of a chain of K tags.
#[derive(Clone, Debug)]
pub struct ChainScores {
    /// Of going from a tag to another, `[K, K]`.
    pub transitions: Array2<f64>,
    /// Of the first tag, `[K]`.
    pub start: Array1<f64>,
    /// Of the last tag, `[K]`.
    pub end: Array1<f64>,
}

/// The loss, and its gradients.
#[derive(Clone, Debug)]
pub struct ChainGradients {
    /// −log p of the tags, the mean over the rows that have a step.
    pub loss: f64,
    /// With respect to the emissions `[T, B, K]`.
    pub emissions: Array3<f64>,
    /// With respect to the scores.
    pub scores: ChainScores,
}

/// log Σ exp.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|x| (x - most).exp()).sum::<f64>().ln()
}

impl ChainScores {
    fn check(&self, emissions: &Array3<f64>, takes_part: &Array2<bool>) -> Result<[usize; 3]> {
        let (time, batch, tags) = emissions.dim();
        same_shape("transitions", &[tags, tags], self.transitions.shape())?;
        same_shape("start scores", &[tags], self.start.shape())?;
        same_shape("end scores", &[tags], self.end.shape())?;
        same_shape("steps that take part", &[time, batch], takes_part.shape())?;
        Ok([time, batch, tags])
    }

    /// The score of a path over a row's emissions.
    pub fn score(&self, emissions: &[Array1<f64>], path: &[usize]) -> f64 {
        let Some((&last, &first)) = path.last().zip(path.first()) else { return 0.0 };
        let along: f64 = path.windows(2).map(|pair| self.transitions[[pair[0], pair[1]]]).sum();
        let own: f64 = emissions.iter().zip(path).map(|(e, &tag)| e[tag]).sum();
        self.start[first] + own + along + self.end[last]
    }

    /// The negative log likelihood of `tags` `[T, B]` and its gradients, by forward and backward sums in logarithms.
    pub fn likelihood(
        &self,
        emissions: &Array3<f64>,
        tags: &Array2<usize>,
        takes_part: &Array2<bool>,
    ) -> Result<ChainGradients> {
        let [time, batch, count] = self.check(emissions, takes_part)?;
        same_shape("tags", &[time, batch], tags.shape())?;
        let rows: Vec<Vec<usize>> =
            (0..batch).map(|b| (0..time).filter(|&t| takes_part[[t, b]]).collect()).collect();
        let present = rows.iter().filter(|steps| !steps.is_empty()).count();
        let mut d = ChainGradients {
            loss: 0.0,
            emissions: Array3::zeros(emissions.dim()),
            scores: ChainScores {
                transitions: Array2::zeros((count, count)),
                start: Array1::zeros(count),
                end: Array1::zeros(count),
            },
        };
        for (b, steps) in rows.iter().enumerate().filter(|row| !row.1.is_empty()) {
            let e: Vec<Array1<f64>> =
                steps.iter().map(|&t| (0..count).map(|k| emissions[[t, b, k]]).collect()).collect();
            let path: Vec<usize> = steps.iter().map(|&t| tags[[t, b]]).collect();
            if let Some(bad) = path.iter().find(|&&tag| tag >= count) {
                return Err(Error::invalid(format!("tag {bad} is not below {count}")));
            }
            let n = path.len();
            // α(1,j) = start(j) + e(1,j); α(t,j) = e(t,j) + log Σᵢ exp(α(t−1,i) + A(i,j))
            let mut alpha = vec![&self.start + &e[0]];
            for t in 1..n {
                let sum =
                    |j| log_sum((0..count).map(|i| alpha[t - 1][i] + self.transitions[[i, j]]));
                let next = (0..count).map(|j| e[t][j] + sum(j)).collect();
                alpha.push(next);
            }
            // β(T,i) = end(i); β(t,i) = log Σⱼ exp(A(i,j) + e(t+1,j) + β(t+1,j))
            let mut beta = vec![self.end.clone(); n];
            for t in (0..n - 1).rev() {
                let after = &e[t + 1] + &beta[t + 1];
                beta[t] = (0..count)
                    .map(|i| log_sum((0..count).map(|j| self.transitions[[i, j]] + after[j])))
                    .collect();
            }
            let log_z = log_sum((0..count).map(|j| alpha[n - 1][j] + self.end[j]));
            let share = 1.0 / present as f64;
            d.loss += share * (log_z - self.score(&e, &path));
            for t in 0..n {
                for j in 0..count {
                    // p(yₜ = j) − [j = target]
                    let wanted = if path[t] == j { 1.0 } else { 0.0 };
                    let p = (alpha[t][j] + beta[t][j] - log_z).exp() - wanted;
                    d.emissions[[steps[t], b, j]] = share * p;
                    if t == 0 {
                        d.scores.start[j] += share * p;
                    }
                    if t == n - 1 {
                        d.scores.end[j] += share * p;
                    }
                    for i in (0..count).filter(|_| t > 0) {
                        // p(yₜ₋₁ = i, yₜ = j) − [targets]
                        let both =
                            alpha[t - 1][i] + self.transitions[[i, j]] + e[t][j] + beta[t][j];
                        let wanted = if [path[t - 1], path[t]] == [i, j] { 1.0 } else { 0.0 };
                        d.scores.transitions[[i, j]] += share * ((both - log_z).exp() - wanted);
                    }
                }
            }
        }
        Ok(d)
    }

    /// The best path of each row, none where a step takes no part `[T, B]`, and its score `[B]` (Viterbi 1967); of two
    /// equal ones that with the smaller tag, from the last step on.
    pub fn best(
        &self,
        emissions: &Array3<f64>,
        takes_part: &Array2<bool>,
    ) -> Result<(Array2<Option<usize>>, Vec<f64>)> {
        let [time, batch, count] = self.check(emissions, takes_part)?;
        let mut path = Array2::from_elem((time, batch), None);
        let mut scores = vec![0.0; batch];
        for b in 0..batch {
            let steps: Vec<usize> = (0..time).filter(|&t| takes_part[[t, b]]).collect();
            let Some((&first, rest)) = steps.split_first() else { continue };
            let smallest = |values: &[f64]| {
                let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                values.iter().position(|&x| x == most).unwrap_or(0)
            };
            let mut x: Vec<f64> =
                (0..count).map(|j| self.start[j] + emissions[[first, b, j]]).collect();
            let mut pointers = Vec::new();
            for &t in rest {
                let mut next = Vec::new();
                let mut from = Vec::new();
                for j in 0..count {
                    let each: Vec<f64> =
                        (0..count).map(|i| x[i] + self.transitions[[i, j]]).collect();
                    from.push(smallest(&each));
                    next.push(each[from[j]] + emissions[[t, b, j]]);
                }
                pointers.push(from);
                x = next;
            }
            let last: Vec<f64> = (0..count).map(|j| x[j] + self.end[j]).collect();
            let mut tag = smallest(&last);
            scores[b] = last[tag];
            for (n, &t) in steps.iter().enumerate().rev() {
                path[[t, b]] = Some(tag);
                if n > 0 {
                    tag = pointers[n - 1][tag];
                }
            }
        }
        Ok((path, scores))
    }
}
