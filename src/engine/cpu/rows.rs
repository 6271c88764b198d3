//! A step's batch rows, halved by their work until there is a part for each thread.

/// Slices that have so many words for each batch row; absent ones are empty.
pub struct PartRows<'a, const R: usize, const W: usize> {
    /// The first row's number in the batch.
    pub first: usize,
    /// How many rows.
    pub count: usize,
    pub read: [(&'a [f32], usize); R],
    pub write: [(&'a mut [f32], usize); W],
}

impl<'a, const R: usize, const W: usize> PartRows<'a, R, W> {
    /// Runs `part` over all rows, on up to `threads` threads of the pool; `works` says whether a row is
    /// more than copied.
    pub fn run(
        self,
        threads: usize,
        works: &(impl Fn(usize) -> bool + Sync),
        part: &(impl Fn(PartRows<'_, R, W>) + Sync),
    ) {
        if threads < 2 || self.count < 2 {
            return part(self);
        }
        let half = self.half(works);
        let mut left: [(&[f32], usize); R] = [(&[], 0); R];
        let mut right = left;
        for (i, (slice, words)) in self.read.into_iter().enumerate() {
            let (a, b) = slice.split_at((half * words).min(slice.len()));
            (left[i], right[i]) = ((a, words), (b, words));
        }
        let mut left_mut: [(&mut [f32], usize); W] = std::array::from_fn(|_| Default::default());
        let mut right_mut: [(&mut [f32], usize); W] = std::array::from_fn(|_| Default::default());
        for (i, (slice, words)) in self.write.into_iter().enumerate() {
            let at = (half * words).min(slice.len());
            let (a, b) = slice.split_at_mut(at);
            (left_mut[i], right_mut[i]) = ((a, words), (b, words));
        }
        let a = PartRows { first: self.first, count: half, read: left, write: left_mut };
        let (first, count) = (self.first + half, self.count - half);
        let b = PartRows { first, count, read: right, write: right_mut };
        rayon::join(
            || a.run(threads / 2, works, part),
            || b.run(threads - threads / 2, works, part),
        );
    }

    /// How many rows have half of the work: at least one, and not all.
    fn half(&self, works: &impl Fn(usize) -> bool) -> usize {
        let of = |row: usize| works(self.first + row);
        let all = (0..self.count).filter(|&row| of(row)).count();
        if all == 0 || all == self.count {
            return self.count / 2;
        }
        let mut done = 0;
        let reached = |&row: &usize| {
            done += usize::from(of(row));
            2 * done >= all
        };
        (0..self.count).find(reached).map_or(1, |row| row + 1).clamp(1, self.count - 1)
    }
}

/// Row `row` of a slice with `words` words a row; empty where the slice is.
#[inline(always)]
pub fn row((slice, words): (&[f32], usize), row: usize) -> &[f32] {
    slice.get(row * words..(row + 1) * words).unwrap_or_default()
}

/// The same for writing.
#[inline(always)]
pub fn row_mut<'a>(part: &'a mut (&mut [f32], usize), row: usize) -> &'a mut [f32] {
    let words = part.1;
    part.0.get_mut(row * words..(row + 1) * words).unwrap_or_default()
}
