//! How the buffers of a recording lie in memory.

use super::{Buffer, Recording, Role};
use crate::error::{Error, Result};
use crate::kernel::Access;
use crate::tensor::WORD_BYTES;

/// Which physical slot each temporary buffer lies in.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// Words of each physical slot.
    pub slots: Vec<usize>,
    /// For each buffer of the recording its slot, or none: the buffer has memory of its own.
    pub slot_of: Vec<Option<usize>>,
    /// Bytes of buffers that are not temporary.
    pub fixed_bytes: u64,
}

impl MemoryPlan {
    /// Greedy by size: the largest buffers choose first, and take the first slot in which no
    /// buffer's lifetime meets theirs. A slot is as large as its first buffer.
    pub(super) fn new(recording: &Recording, time_of: impl Fn(usize) -> usize) -> Result<Self> {
        let count = recording.buffers.len();
        let mut lifetimes: Vec<Option<(usize, usize)>> = vec![None; count];
        for (number, launch) in recording.launches.iter().enumerate() {
            let time = time_of(number);
            for (binding, id) in launch.op.kernel().bindings().iter().zip(&launch.buffers) {
                let life = &mut lifetimes[id.0];
                let buffer = recording.get(*id);
                let unwritten = life.is_none() && binding.access == Access::Read;
                if unwritten && buffer.role == Role::Temporary {
                    return Err(Error::invalid(format!(
                        "launch {number} ({}) reads '{}' before anything wrote it",
                        launch.op.kernel().name(),
                        buffer.name
                    )));
                }
                *life = Some((life.map_or(time, |l| l.0), time));
            }
        }
        let mut order: Vec<usize> =
            (0..count).filter(|&i| recording.buffers[i].role == Role::Temporary).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(recording.buffers[i].words()), i));
        let mut slots: Vec<usize> = Vec::new();
        let mut occupied: Vec<Vec<(usize, usize)>> = Vec::new();
        let mut slot_of = vec![None; count];
        for i in order {
            // A temporary buffer that no launch uses needs no memory.
            let Some((first, last)) = lifetimes[i] else { continue };
            let free = |lives: &Vec<(usize, usize)>| {
                lives.iter().all(|&(from, to)| last < from || to < first)
            };
            let slot = occupied.iter().position(free).unwrap_or_else(|| {
                slots.push(recording.buffers[i].words());
                occupied.push(Vec::new());
                slots.len() - 1
            });
            occupied[slot].push((first, last));
            slot_of[i] = Some(slot);
        }
        let fixed = |b: &&Buffer| b.role != Role::Temporary;
        let fixed_words: usize = recording.buffers.iter().filter(fixed).map(Buffer::words).sum();
        Ok(MemoryPlan { slots, slot_of, fixed_bytes: (fixed_words * WORD_BYTES) as u64 })
    }

    /// For so many members of an ensemble.
    pub(crate) fn times(self, members: usize) -> Self {
        let slots = self.slots.iter().map(|words| words.saturating_mul(members)).collect();
        MemoryPlan {
            slots,
            slot_of: self.slot_of,
            fixed_bytes: self.fixed_bytes.saturating_mul(members as u64),
        }
    }

    /// Bytes of all physical slots: the peak of temporary memory.
    pub fn temporary_bytes(&self) -> u64 {
        let words = self.slots.iter().fold(0u64, |sum, &words| sum.saturating_add(words as u64));
        words.saturating_mul(WORD_BYTES as u64)
    }

    /// Bytes of everything a program of this recording holds, parameters included.
    pub fn peak_bytes(&self) -> u64 {
        self.temporary_bytes().saturating_add(self.fixed_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::add;
    use super::*;
    use crate::kernel::Fill;
    use crate::tensor::DType;
    use std::collections::BTreeMap;

    /// x(4) is filled; y(2) = x-part; x dies; z(3) may take x's slot; y and z meet in the end.
    #[test]
    fn the_plan_meets_a_hand_count() {
        let mut r = Recording::new();
        let temporary = |r: &mut Recording, name: &str, len| {
            r.buffer(name, len, DType::F32, Role::Temporary).unwrap()
        };
        let x = temporary(&mut r, "x", 4);
        let y = temporary(&mut r, "y", 4);
        let z = temporary(&mut r, "z", 3);
        let out = r.buffer("out", 4, DType::F32, Role::Output).unwrap();
        r.launch(Fill::new(x, 1.0), &[x]).unwrap();
        r.launch(Fill::new(y, 0.0), &[y]).unwrap();
        r.launch(add(x, y), &[x, y]).unwrap();
        r.launch(Fill::new(z, 2.0), &[z]).unwrap();
        r.launch(add(y, out), &[y, out]).unwrap();
        r.launch(add(z, out), &[z, out]).unwrap();
        let plan = r.plan().unwrap();
        assert_eq!(plan.slots, [4, 4]);
        assert_eq!(plan.slot_of, [Some(0), Some(1), Some(0), None]);
        assert_eq!((plan.temporary_bytes(), plan.fixed_bytes, plan.peak_bytes()), (32, 16, 48));
        assert_eq!(r.census(), BTreeMap::from([("combine", 3), ("fill", 3)]));
    }
}
