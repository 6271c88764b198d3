//! A long sequence as parallel streams of windows, for truncated backpropagation through time.

use crate::error::{Error, Result};

/// B streams, each a run of consecutive tokens, cut into windows of T. Row b of one window goes on
/// where row b of the window before ended, so that states can be carried.
#[derive(Clone, Debug)]
pub struct Streams {
    tokens: Vec<u32>,
    time: usize,
    batch: usize,
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
        let needed = batch.saturating_mul(time.saturating_mul(2));
        if tokens.len() < needed {
            return Err(Error::invalid(format!(
                "the text is too short: {} characters to train on, {needed} are needed for \
                 batches of {batch} rows by {time} steps; use a longer text, or a smaller batch \
                 or sequence",
                tokens.len()
            )));
        }
        Ok(Streams { tokens, time, batch })
    }

    /// The largest streams for validation that `tokens` have enough for, at most as given. The
    /// time may be shortened too; at least two tokens are needed.
    ///
    /// # Errors
    /// Fewer than two tokens.
    pub fn fitting(tokens: Vec<u32>, time: usize, batch: usize) -> Result<Self> {
        let batch = batch.min(tokens.len() / time.saturating_mul(2)).max(1);
        let time = time.min(tokens.len() / 2).max(1);
        Self::new(tokens, time, batch)
    }

    /// T.
    pub fn time(&self) -> usize {
        self.time
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    fn stream_len(&self) -> usize {
        self.tokens.len() / self.batch
    }

    /// Windows of one pass, whatever the offset.
    pub fn windows(&self) -> usize {
        (self.stream_len() - self.time) / self.time
    }

    /// Inputs and targets of window `window`, \[T·B\], time slowest; the pass starts `offset` < T
    /// tokens into each stream.
    pub fn window(&self, window: usize, offset: usize, inputs: &mut [u32], targets: &mut [u32]) {
        let first = offset % self.time + (window % self.windows()) * self.time;
        for t in 0..self.time {
            for b in 0..self.batch {
                let at = b * self.stream_len() + first + t;
                inputs[t * self.batch + b] = self.tokens[at];
                targets[t * self.batch + b] = self.tokens[at + 1];
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
    fn too_short_texts_say_what_is_needed() {
        let message = Streams::new(vec![0; 100], 64, 32).unwrap_err().to_string();
        assert!(message.contains("100 characters") && message.contains("4096 are needed"));
        let small = Streams::fitting(vec![0; 10], 64, 32).unwrap();
        assert_eq!((small.time(), small.batch(), small.windows()), (5, 1, 1));
        assert!(Streams::fitting(vec![0; 1], 64, 32).is_err());
        // Sizes whose double does not fit a word.
        let huge = usize::MAX / 2 + 1;
        assert!(Streams::new(vec![0; 10], huge, 1).is_err());
        assert_eq!(Streams::fitting(vec![0; 10], huge, 1).unwrap().time(), 5);
    }
}
