//! A long sequence as parallel streams of windows, for truncated backpropagation through time.

use crate::error::{Error, Result};

/// B streams, each a run of consecutive tokens, cut into windows of T. Row b of one window goes on
/// where row b of the window before ended, so that states can be carried.
#[derive(Clone, Debug)]
pub struct Streams {
    tokens: Vec<u32>,
    time: usize,
    batch: usize,
    lead: usize,
    /// How many offsets a pass may begin at.
    offsets: usize,
}

impl Streams {
    /// Streams over `tokens`, in windows of `time` steps, `batch` of them side by side.
    ///
    /// # Errors
    /// Too few tokens for one window, with the number that is needed.
    pub fn new(tokens: Vec<u32>, time: usize, batch: usize) -> Result<Self> {
        if time == 0 || batch == 0 {
            return Err(Error::invalid("the sequence length and the batch must be at least 1"));
        }
        // A window needs one more token for its last target, and windows may start at an offset.
        Streams { tokens, time, batch, lead: 0, offsets: time }.checked()
    }

    /// The same with windows of `back` steps, of which the last T are new: the others lead there once more.
    ///
    /// # Errors
    /// Fewer steps than T; too few tokens for one window.
    pub fn with_lead(self, back: usize) -> Result<Self> {
        let lead = back.checked_sub(self.time).ok_or_else(|| {
            Error::invalid(format!(
                "gradients go back over the {} steps of a window at least, not over {back}",
                self.time
            ))
        })?;
        Streams { lead, ..self }.checked()
    }

    fn checked(self) -> Result<Self> {
        let (time, batch, found) = (self.time, self.batch, self.tokens.len());
        let needed = batch.saturating_mul(time.saturating_mul(2).saturating_add(self.lead));
        if found < needed {
            return Err(Error::invalid(format!(
                "the text is too short: {found} tokens, {needed} are needed for \
                 batches of {batch} rows by {} steps; use a longer text, or a smaller batch \
                 or sequence",
                self.lead + time
            )));
        }
        Ok(self)
    }

    /// The largest streams for validation that `tokens` have enough for, at most as given: each pass is the same. The
    /// time may be shortened too; at least two tokens are needed.
    ///
    /// # Errors
    /// Fewer than two tokens.
    pub fn fitting(tokens: Vec<u32>, time: usize, batch: usize) -> Result<Self> {
        if time == 0 || batch == 0 {
            return Self::new(tokens, time, batch);
        }
        let batch = batch.min(tokens.len() / time.saturating_mul(2)).max(1);
        let time = time.min(tokens.len() / 2).max(1);
        Ok(Streams { offsets: 1, ..Self::new(tokens, time, batch)? })
    }

    /// T.
    pub fn time(&self) -> usize {
        self.time
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Steps of a window before its new ones.
    pub fn lead(&self) -> usize {
        self.lead
    }

    fn stream_len(&self) -> usize {
        self.tokens.len() / self.batch
    }

    /// Windows of one pass, whatever the offset.
    pub fn windows(&self) -> usize {
        (self.stream_len() - self.lead - self.offsets) / self.time
    }

    /// Inputs \[(lead + T)·B\] and targets \[T·B\] of window `window`, time slowest; the pass starts `offset` < T
    /// tokens into each stream, those for validation at its first.
    pub fn window(&self, window: usize, offset: usize, inputs: &mut [u32], targets: &mut [u32]) {
        let first = offset % self.offsets + (window % self.windows()) * self.time;
        for b in 0..self.batch {
            let row = &self.tokens[b * self.stream_len() + first..];
            for t in 0..self.lead + self.time {
                inputs[t * self.batch + b] = row[t];
                if let Some(new) = t.checked_sub(self.lead) {
                    targets[new * self.batch + b] = row[t + 1];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_on_from_window_to_window() {
        let streams = Streams::new((0..26).collect(), 3, 2).unwrap();
        assert_eq!(streams.windows(), 3);
        let (mut x, mut y) = ([0; 6], [0; 6]);
        streams.window(0, 0, &mut x, &mut y);
        assert_eq!((x, y), ([0, 13, 1, 14, 2, 15], [1, 14, 2, 15, 3, 16]));
        streams.window(1, 0, &mut x, &mut y);
        assert_eq!(x, [3, 16, 4, 17, 5, 18]);
        // The last window at the largest offset stays inside each stream.
        streams.window(2, 2, &mut x, &mut y);
        assert_eq!((x, y), ([8, 21, 9, 22, 10, 23], [9, 22, 10, 23, 11, 24]));
    }

    #[test]
    fn a_lead_goes_over_the_steps_before_once_more() {
        let streams = Streams::new((0..26).collect(), 3, 2).unwrap().with_lead(5).unwrap();
        assert_eq!((streams.lead(), streams.windows()), (2, 2));
        let (mut x, mut y) = ([0; 10], [0; 6]);
        streams.window(0, 0, &mut x, &mut y);
        assert_eq!((x, y), ([0, 13, 1, 14, 2, 15, 3, 16, 4, 17], [3, 16, 4, 17, 5, 18]));
        streams.window(1, 2, &mut x, &mut y);
        assert_eq!((x[0], y), (5, [8, 21, 9, 22, 10, 23]));
        assert!(Streams::new((0..26).collect(), 3, 2).unwrap().with_lead(2).is_err());
        assert!(Streams::new((0..26).collect(), 3, 2).unwrap().with_lead(11).is_err());
    }

    #[test]
    fn too_short_texts_say_what_is_needed() {
        let message = Streams::new(vec![0; 100], 64, 32).unwrap_err().to_string();
        assert!(message.contains("100 tokens") && message.contains("4096 are needed"));
        let small = Streams::fitting(vec![0; 10], 64, 32).unwrap();
        assert_eq!((small.time(), small.batch(), small.windows()), (5, 1, 1));
        assert!(Streams::fitting(vec![0; 1], 64, 32).is_err());
        // Every whole window counts: 23 tokens have 22 targets, four windows of five.
        let all = Streams::fitting((0..23).collect(), 5, 1).unwrap();
        assert_eq!(all.windows(), 4);
        let (mut x, mut y) = ([0; 5], [0; 5]);
        all.window(3, 4, &mut x, &mut y);
        assert_eq!((x, y), ([15, 16, 17, 18, 19], [16, 17, 18, 19, 20]));
        // Sizes whose double does not fit a word.
        let huge = usize::MAX / 2 + 1;
        assert!(Streams::new(vec![0; 10], huge, 1).is_err());
        assert_eq!(Streams::fitting(vec![0; 10], huge, 1).unwrap().time(), 5);
    }
}
