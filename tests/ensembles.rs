//! Ensembles: each member has the bits that it has alone.

mod common;

use common::seeded::{assert_equal, run, run_members};
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases, recurrent_cases_in_f16,
};
use recurra::engine::{Engine, Strategy};
use recurra::kernel::{GroupLimits, shader::Fault};
use recurra::layer::Recurrent;
use recurra::recording::Role;
use recurra::{Result, cell::CellKind};

const SEEDS: [u64; 3] = [11, 12, 13];

/// Runs a case for three members at once and for each alone: whether all bits are the same.
fn members_are_as_alone(alone: &Engine, ensemble: &Engine, case: &RecurrentCase) {
    let recording = record_case(case).unwrap();
    let together = run_members(ensemble, &recording, case.time, 2, &SEEDS);
    let what = format!("{} {}", case.stack.cell.name(), case.name());
    let mut all = Vec::new();
    for (member, together) in together.iter().enumerate() {
        let seed = &SEEDS[member..member + 1];
        let want = run_members(alone, &recording, case.time, 2, seed).remove(0);
        assert_equal(&format!("{what}, member {member}"), &want, together);
        all.push(want);
    }
    // Unless a mask leaves no step.
    let masked = case.mask || case.lengths;
    assert!(masked || (all[0] != all[1] && all[1] != all[2]), "{what}: the members are the same");
}

fn cases(every: usize) -> impl Iterator<Item = RecurrentCase> {
    let small = |case: &RecurrentCase| case.stack.hidden <= 40;
    recurrent_cases().into_iter().filter(small).step_by(every)
}

#[test]
fn members_have_their_bits_on_a_gpu() {
    let Some(engine) = common::gpu_engine() else { return };
    let ways = [Strategy::Step, Strategy::Sequence].map(|strategy| {
        let alone = engine.with_strategy(strategy).unwrap();
        let ensemble = alone.ensemble(3).unwrap();
        (alone, ensemble)
    });
    let random = (0..40).map(random_case).filter(|case| case.stack.hidden <= 40).take(3);
    for (number, case) in cases(73).chain(random).enumerate() {
        let (alone, ensemble) = &ways[number % 2];
        members_are_as_alone(alone, ensemble, &case);
    }
}

/// Members of a grid wait side by side: where the device keeps too few at work, they go by steps.
#[test]
fn members_have_their_bits_in_grids() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let kept = |resident: usize| {
        let limits = GroupLimits { resident, spins: 2000, ..gpu.group_limits() };
        Engine::Gpu(gpu.with_group_limits(limits)).with_strategy(Strategy::Grid)
    };
    let (Ok(alone), Ok(few)) = (kept(12), kept(4)) else {
        println!("SKIPPED: no memory that workgroups share");
        return;
    };
    let stack = Recurrent::new("rnn", CellKind::Lstm, 5, 24);
    let case = RecurrentCase { given: true, resets: true, ..RecurrentCase::new(stack, 5, 2) };
    let recording = record_case(&case).unwrap();
    let launched = |engine: &Engine| engine.arranged(&recording).census();
    let ensemble = alone.ensemble(3).unwrap();
    // Two tiles of two rows, alone and of three members.
    assert_eq!(launched(&few)["grid_forward"], 2);
    assert_eq!(launched(&few.ensemble(3).unwrap())["step_forward"], 5);
    assert_eq!(launched(&ensemble)["grid_forward"], 2);
    members_are_as_alone(&alone, &ensemble, &case);
}

#[test]
fn members_have_their_bits_in_f16() {
    let Some(engine) = common::gpu_engine() else { return };
    let Engine::Gpu(gpu) = &engine else { return };
    if !gpu.has_f16() {
        println!("SKIPPED: {} lacks shader-f16", gpu.info().name);
        return;
    }
    let ensemble = engine.ensemble(3).unwrap();
    for case in recurrent_cases_in_f16().into_iter().step_by(61) {
        members_are_as_alone(&engine, &ensemble, &case);
    }
}

#[test]
fn members_have_their_bits_on_the_cpu() {
    let engine = Engine::cpu(Some(2)).unwrap();
    let ensemble = engine.ensemble(3).unwrap();
    for case in cases(11) {
        members_are_as_alone(&engine, &ensemble, &case);
    }
}

fn small_case() -> RecurrentCase {
    RecurrentCase::new(Recurrent::new("rnn", CellKind::Lstm, 3, 5), 4, 2)
}

/// Members whose places are mixed up are noticed.
#[test]
fn mixed_members_are_noticed() {
    let Some(alone) = common::gpu_engine() else { return };
    let Engine::Gpu(gpu) = &alone else { return };
    let recording = record_case(&small_case()).unwrap();
    let differs = |fault: Option<Fault>| {
        let engine = fault.map_or(gpu.clone(), |fault| gpu.with_fault(fault));
        let ensemble = Engine::Gpu(engine).ensemble(3).unwrap();
        let together = run_members(&ensemble, &recording, 4, 1, &SEEDS);
        let of = |(i, seed)| together[i] != run_members(&alone, &recording, 4, 1, &[seed])[0];
        SEEDS.into_iter().enumerate().any(of)
    };
    assert!(!differs(None));
    for (old, new) in [("group.z *", "0u *"), ("of_w + (", "("), (" / 3u", " / 4u")] {
        assert!(differs(Some(Fault { stem: Fault::MEMBERS, old, new })), "{old} -> {new}");
    }
}

/// An ensemble takes as many launches as one model, and a stride of whole vectors a member.
#[test]
fn launches_do_not_grow_with_members() -> Result<()> {
    let Some(engine) = common::gpu_engine() else { return Ok(()) };
    let recording = record_case(&small_case())?;
    let launches = |engine: &Engine| {
        let store = engine.store();
        for buffer in recording.buffers() {
            store.set(&buffer.name, &vec![0.5; buffer.len])?;
        }
        Ok::<_, recurra::Error>(engine.load(&recording, &store)?.launches())
    };
    assert_eq!(launches(&engine)?, launches(&engine.ensemble(50)?)?);
    Ok(())
}

#[test]
fn what_is_no_ensemble_is_refused() {
    for engine in common::engines() {
        assert!(engine.ensemble(0).unwrap_err().to_string().contains("a member at least"));
        let two = engine.ensemble(2).unwrap();
        let (store, name) = (two.store(), "w");
        store.set(name, &[1.0, 2.0, 3.0]).unwrap();
        store.member(1).unwrap().set(name, &[4.0, 5.0, 6.0]).unwrap();
        assert_eq!(store.get(name).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(store.member(0).unwrap().get(name).unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(store.names(), [name]);
        // What one member lacks is missing, and one has no other size than the others.
        let recording = record_case(&small_case()).unwrap();
        let parameters = || recording.buffers().iter().filter(|b| b.role == Role::Parameter);
        let part = two.store();
        for buffer in parameters() {
            part.member(0).unwrap().set(&buffer.name, &vec![0.5; buffer.len]).unwrap();
        }
        let missing = two.load(&recording, &part).err().unwrap().to_string();
        assert!(missing.contains(&parameters().next().unwrap().name), "{missing}");
        for buffer in parameters() {
            part.member(1).unwrap().set(&buffer.name, &vec![0.5; buffer.len]).unwrap();
        }
        two.load(&recording, &part).unwrap();
        let name_0 = &parameters().next().unwrap().name;
        let resized = part.member(1).unwrap().set(name_0, &[1.0]);
        assert!(resized.is_err() || two.load(&recording, &part).is_err());
        assert!(store.member(2).err().unwrap().to_string().contains("no member 2 of 2"));
        let recording = record_case(&small_case()).unwrap();
        for (engine, store) in [
            (&engine, store.clone()),
            (&engine, store.member(0).unwrap()),
            (&two, engine.store()),
            (&two, store.member(0).unwrap()),
            (&two, engine.ensemble(3).unwrap().store()),
        ] {
            let refused = engine.load(&recording, &store).err().unwrap();
            assert!(refused.to_string().contains("the whole store"), "{refused}");
        }
    }
    if let Some(gpu) = common::gpu_engine() {
        let refused = gpu.ensemble(65_536).unwrap_err().to_string();
        assert!(refused.contains("maxComputeWorkgroupsPerDimension"), "{refused}");
        // One model's seeded run is the first member's.
        let recording = record_case(&small_case()).unwrap();
        assert_eq!(
            run(&gpu, &recording, 4, 1),
            run_members(&gpu, &recording, 4, 1, &SEEDS[..1])[0]
        );
    }
}
