//! Random properties: any small stack meets the oracle, any recording's memory plan is sound.

mod common;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use recurra::conformance::{random_case, recurrent_reports};
use recurra::engine::Engine;
use recurra::kernel::Fill;
use recurra::recording::{Recording, Role};
use recurra::tensor::DType;

/// Any cell, sizes from 1 to past a tile's edge, options at random.
fn random_stacks_meet_the_oracle(engine: &Engine, seed: u8, cases: u32) {
    // The same cases every time, so that a failure can be repeated: proptest prints the seed, which
    // is all that the case depends on.
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let seed = [seed; 32];
    let random = proptest::test_runner::TestRng::from_seed(Default::default(), &seed);
    let mut runner = TestRunner::new_with_rng(config, random);
    runner
        .run(&any::<u64>(), |seed| {
            for report in recurrent_reports(engine, &random_case(seed)).unwrap() {
                prop_assert!(report.pass, "seed {seed}: {report:?}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_stacks_on_the_cpu() {
    random_stacks_meet_the_oracle(&Engine::cpu(Some(2)).unwrap(), 7, 500);
}

#[test]
fn random_stacks_on_the_gpu() {
    if let Some(engine) = common::gpu_engine() {
        random_stacks_meet_the_oracle(&engine, 7, 50);
    }
}

#[test]
fn more_random_stacks_on_the_gpu() {
    if let Some(engine) = common::gpu_engine() {
        random_stacks_meet_the_oracle(&engine, 8, 50);
    }
}

proptest! {
    /// Buffers that live at the same time never share a slot, a slot is as large as its largest
    /// tenant, and no two slots could be one.
    #[test]
    fn memory_plans_are_sound(
        lives in proptest::collection::vec((1..50usize, 0..30usize, 0..30usize), 1..20)
    ) {
        let mut recording = Recording::new();
        let mut views = Vec::new();
        for (i, &(len, ..)) in lives.iter().enumerate() {
            views.push(recording.buffer(format!("b{i}"), len, DType::F32, Role::Temporary).unwrap());
        }
        let span = |i: usize| (lives[i].1.min(lives[i].2), lives[i].1.max(lives[i].2));
        // At each time every buffer that begins or ends there is touched, in turn.
        let mut touched: Vec<Option<(usize, usize)>> = vec![None; lives.len()];
        for time in 0..30 {
            for i in 0..lives.len() {
                if span(i).0 == time || span(i).1 == time {
                    let now = recording.launches().len();
                    recording.launch(Fill::new(views[i], 0.0), &[views[i]]).unwrap();
                    touched[i] = Some((touched[i].map_or(now, |t| t.0), now));
                }
            }
        }
        let plan = recording.plan().unwrap();
        let touched: Vec<(usize, usize)> = touched.into_iter().flatten().collect();
        let meet = |i: usize, j: usize| {
            let ((a0, a1), (b0, b1)) = (touched[i], touched[j]);
            a0 <= b1 && b0 <= a1
        };
        let slot_of = |i: usize| plan.slot_of[i].unwrap();
        let tenants = |slot: usize| (0..lives.len()).filter(move |&i| slot_of(i) == slot);
        for i in 0..lives.len() {
            prop_assert!((0..i).all(|j| slot_of(j) != slot_of(i) || !meet(i, j)));
        }
        for (slot, &words) in plan.slots.iter().enumerate() {
            prop_assert_eq!(Some(words), tenants(slot).map(|i| lives[i].0).max());
            // Two slots whose tenants never meet could be one: a plan that shares nothing fails here.
            for other in 0..slot {
                prop_assert!(tenants(other).any(|j| tenants(slot).any(|i| meet(i, j))));
            }
        }
    }
}
