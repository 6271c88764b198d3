//! What the loop has to remember besides weights: the best evaluation, and how long ago it was.

use super::MemberLosses;
use crate::optim::{AveragingState, ScheduleState};
use serde::{Deserialize, Serialize};

/// The lowest validation loss of a member.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The loss.
    pub loss: f32,
    /// The step it was found after.
    pub step: u64,
}

/// The loop's own state, as a checkpoint keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoopState {
    /// Each member's best evaluation; empty before the first.
    pub best: Vec<Best>,
    /// The lowest mean over the members.
    pub best_mean: Option<f32>,
    /// Evaluations since then.
    pub waited: u64,
    /// Of a learning rate that follows the evaluations.
    pub schedule: ScheduleState,
    /// Of an average that begins where evaluations get no better.
    pub averaging: AveragingState,
}

impl LoopState {
    /// Takes in an evaluation: the members whose loss is their lowest so far.
    pub fn evaluated(&mut self, step: u64, losses: &MemberLosses) -> Vec<usize> {
        let mean = losses.mean();
        match self.best_mean {
            Some(best) if mean >= best => self.waited += 1,
            _ => (self.best_mean, self.waited) = (Some(mean), 0),
        }
        let first = self.best.is_empty();
        self.best.resize(losses.0.len(), Best { loss: f32::INFINITY, step });
        let mut better = Vec::new();
        for (member, (best, &loss)) in self.best.iter_mut().zip(&losses.0).enumerate() {
            if first || loss < best.loss {
                *best = Best { loss, step };
                better.push(member);
            }
        }
        better
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_each_member_and_of_the_mean() {
        let mut state = LoopState::default();
        let mut at = |step, losses: [f32; 2]| {
            (state.evaluated(step, &MemberLosses(losses.to_vec())), state.waited)
        };
        assert_eq!(at(10, [2.0, 4.0]), (vec![0, 1], 0));
        assert_eq!(at(20, [1.0, 5.5]), (vec![0], 1));
        assert_eq!(at(30, [1.0, 4.9]), (vec![], 0), "equal losses are no better, the mean may be");
        assert_eq!(at(40, [9.0, 3.0]), (vec![1], 1));
        assert_eq!(state.best[0], Best { loss: 1.0, step: 20 });
        assert_eq!(state.best[1], Best { loss: 3.0, step: 40 });
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<LoopState>(&text).unwrap(), state);
        assert_eq!(serde_json::from_str::<LoopState>("{}").unwrap(), LoopState::default());
    }
}
