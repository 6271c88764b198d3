//! What a look means, in words.

use super::{LayerView, View};
use std::fmt::Write;

/// A gradient that loses half of its norm within so small a share of the window does not tell the early steps
/// anything.
const VANISHES: f32 = 0.25;
/// Growth a step that counts as exploding.
const EXPLODES: f32 = 1.02;
/// A share of a gate's activations at its ends that stops it from learning.
const SATURATED: f32 = 0.8;
/// Updates, relative to the weights, that are far from what is usual, 0.001 (Karpathy 2022).
const SMALL_UPDATE: f32 = 1e-5;
const LARGE_UPDATE: f32 = 3e-2;

impl View {
    /// Whether gradients vanish or explode, gates are stuck, updates are out of proportion, and what helps: a line
    /// each; none where nothing is wrong.
    pub fn verdict(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.layers.iter().flat_map(LayerView::verdict).collect();
        let worst = |worse: fn(f32, f32) -> bool| {
            let moved = self.updates.iter().filter(|u| u.ratio > 0.0);
            moved.reduce(|a, b| if worse(b.ratio, a.ratio) { b } else { a })
        };
        if let Some(update) = worst(|a, b| a > b).filter(|u| u.ratio > LARGE_UPDATE) {
            lines.push(format!(
                "{} moves by {:.1} % of its norm in a step: lower the learning rate, or warm up for longer",
                update.parameter,
                100.0 * update.ratio
            ));
        }
        if let Some(update) = worst(|a, b| a < b).filter(|u| u.ratio < SMALL_UPDATE) {
            lines.push(format!(
                "{} moves by {:.1e} of its norm in a step: raise the learning rate, or look whether gradients \
                 reach it",
                update.parameter, update.ratio
            ));
        }
        lines
    }
}

impl LayerView {
    fn verdict(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let time = self.gradients.h.len();
        match (self.gradients.kept, self.gradients.half_distance()) {
            (None, _) => lines.push(format!("{}: no gradient comes back through time", self.name)),
            (Some(kept), _) if kept > EXPLODES => lines.push(format!(
                "{}: gradients explode, by {:.1} % a step, {} over the window of {time}; what helps: {}",
                self.name,
                100.0 * (kept - 1.0),
                times((f64::from(kept)).powi(time as i32)),
                self.against_explosion()
            )),
            (Some(_), Some(half)) if half < VANISHES * time as f32 => lines.push(format!(
                "{}: gradients vanish, by half every {half:.1} of {time} steps: what lies {:.0} steps back is \
                 heard at a hundredth; what helps: {}",
                self.name,
                half * 100f32.log2(),
                self.against_vanishing()
            )),
            _ => {}
        }
        for gate in &self.gates {
            let stuck = gate.low + gate.high;
            if stuck > SATURATED {
                let mut line = String::new();
                let _ = write!(
                    line,
                    "{}: gate {} is stuck at its ends {:.0} % of the time ({:.0} % low, {:.0} % high), where \
                     it hardly learns; what helps: ",
                    self.name,
                    gate.name,
                    100.0 * stuck,
                    100.0 * gate.low,
                    100.0 * gate.high
                );
                line += match (self.cell.as_str(), gate.name.as_str()) {
                    ("lstm", "f") | ("gru" | "gru_reset_before", "z") if gate.high > gate.low => {
                        "nothing, if it should remember; else a start where it forgets more"
                    }
                    _ => "layer norm, smaller weights or inputs, a lower learning rate",
                };
                lines.push(line);
            }
        }
        lines
    }

    fn against_vanishing(&self) -> &'static str {
        match self.cell.as_str() {
            "lstm" | "slstm" => {
                "a forget bias of 1 to 3, or chrono's; layer norm; an orthogonal start"
            }
            "gru" | "gru_reset_before" | "min_gru" | "min_lstm" => {
                "a gate that starts open (z towards 1), layer norm, an orthogonal start"
            }
            _ => "an orthogonal start, or a cell with gates (LSTM, GRU)",
        }
    }

    fn against_explosion(&self) -> &'static str {
        match self.cell.as_str() {
            "rnn_tanh" | "rnn_relu" => {
                "clipping by norm, an orthogonal start, a cell with gates (LSTM, GRU)"
            }
            _ => "clipping by norm, layer norm, an orthogonal start, a lower learning rate",
        }
    }
}

fn times(factor: f64) -> String {
    if factor < 1e4 { format!("{factor:.0} times") } else { format!("{factor:.0e} times") }
}

#[cfg(test)]
mod tests {
    use super::super::{GateView, Gradients, UpdateRatio};
    use super::*;

    fn view(cell: &str, kept: Option<f32>, gate: [f32; 2], ratio: f32) -> View {
        let gate = GateView { name: "f".to_string(), mean: 0.5, low: gate[0], high: gate[1] };
        View {
            step: 3,
            layers: vec![LayerView {
                name: format!("{cell}.l0"),
                cell: cell.to_string(),
                gradients: Gradients {
                    h: vec![1.0; 100],
                    c: Vec::new(),
                    c_by_way_of_h: false,
                    kept,
                },
                gates: vec![gate],
                spectral_radius: Vec::new(),
                half_life: None,
                long_half_life: None,
            }],
            updates: vec![UpdateRatio { parameter: "w".to_string(), ratio }],
        }
    }

    #[test]
    fn it_says_what_is_wrong_and_what_helps() {
        assert_eq!(view("lstm", Some(0.99), [0.1, 0.2], 1e-3).verdict(), Vec::<String>::new());
        let says = |view: View, words: &[&str]| {
            let lines = view.verdict();
            assert_eq!(lines.len(), 1, "{lines:?}");
            words.iter().for_each(|w| assert!(lines[0].contains(w), "{w}: {lines:?}"));
        };
        says(view("lstm", Some(0.8), [0.0, 0.0], 1e-3), &["vanish", "3.1 of 100", "forget bias"]);
        says(view("rnn_tanh", Some(0.8), [0.0, 0.0], 1e-3), &["vanish", "orthogonal", "LSTM"]);
        says(view("gru", Some(1.1), [0.0, 0.0], 1e-3), &["explode", "10.0 %", "clipping"]);
        says(view("gru", None, [0.0, 0.0], 1e-3), &["no gradient"]);
        says(view("gru", Some(1.0), [0.4, 0.45], 1e-3), &["stuck", "85 %", "layer norm"]);
        says(view("lstm", Some(1.0), [0.0, 0.9], 1e-3), &["gate f", "remember"]);
        says(view("lstm", Some(1.0), [0.0, 0.0], 0.1), &["w moves by 10.0 %", "lower"]);
        says(view("lstm", Some(1.0), [0.0, 0.0], 1e-6), &["1.0e-6", "raise"]);
    }
}
