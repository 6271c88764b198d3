//! Wall times of programs that take turns.

use crate::clock::Instant;
use crate::engine::Program;
use crate::error::Result;
use std::time::Duration;

/// Runs of each program at least, where they don't take much longer than the budget.
const LEAST_RUNS: usize = 5;

/// How often the budget may be exceeded for [`LEAST_RUNS`].
const PATIENCE: u32 = 5;

/// Wall times of runs of one program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// The middle one, in milliseconds.
    pub median_ms: f64,
    /// The shortest, in milliseconds.
    pub min_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
    /// How many there were.
    pub runs: usize,
}

impl Timing {
    /// From the times of at least one run.
    pub(super) fn new(times: &[Duration]) -> Self {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let middle = ms.len() / 2;
        let median_ms =
            if ms.len() % 2 == 1 { ms[middle] } else { (ms[middle - 1] + ms[middle]) / 2.0 };
        Timing { median_ms, min_ms: ms[0], max_ms: ms[ms.len() - 1], runs: ms.len() }
    }

    /// 10⁹ operations a second in the median run, for a run of so many operations.
    pub fn gflops(&self, flops: f64) -> f64 {
        flops / (self.median_ms * 1e6)
    }
}

/// One run, to the device's last word.
pub(super) fn time(program: &mut Program) -> Result<Duration> {
    let start = Instant::now();
    program.run()?;
    program.wait()?;
    Ok(start.elapsed())
}

/// Warms the programs up; then it is always the turn of the one that has run the shortest time.
pub(super) fn take_turns<const N: usize>(
    programs: &mut [Program; N],
    budget: Duration,
) -> Result<[Timing; N]> {
    for program in programs.iter_mut() {
        if time(program)? < budget {
            time(program)?;
        }
    }
    let mut times = [(); N].map(|()| Vec::new());
    let mut spent = [Duration::ZERO; N];
    let start = Instant::now();
    loop {
        let runs = times.iter().map(Vec::len).min().unwrap_or(0);
        let limit = if runs < LEAST_RUNS { budget * PATIENCE } else { budget };
        if runs > 0 && start.elapsed() >= limit {
            return Ok(times.map(|times| Timing::new(&times)));
        }
        let turn = (0..N).min_by_key(|&i| (times[i].len() >= LEAST_RUNS, spent[i]));
        let turn = turn.expect("there are programs");
        let took = time(&mut programs[turn])?;
        times[turn].push(took);
        spent[turn] += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_meet_hand_counts() {
        let ms = |list: &[u64]| list.iter().map(|&n| Duration::from_millis(n)).collect::<Vec<_>>();
        let odd = Timing::new(&ms(&[9, 1, 4]));
        assert_eq!(odd, Timing { median_ms: 4.0, min_ms: 1.0, max_ms: 9.0, runs: 3 });
        assert_eq!(Timing::new(&ms(&[2, 8, 4, 1])).median_ms, 3.0);
        // 8 million operations in 4 ms are 2 GFLOP/s.
        assert!((odd.gflops(8e6) - 2.0).abs() < 1e-12);
    }
}
