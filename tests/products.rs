//! The matrix product of the GPU engine: all tiles give the same bits, and those are right.

mod common;

use recurra::engine::{Engine, GpuEngine, Tuning};
use recurra::kernel::{Control, Matmul, Operand, SequenceRows, SequenceSide, TILES};
use recurra::layer::Initializer;
use recurra::recording::{Recording, Role};
use recurra::tensor::DType;
use std::time::Duration;

/// The engine with each of the tiles for all products.
fn tiles() -> Vec<Engine> {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return Vec::new() };
    (0..TILES.len()).map(|tile| Engine::Gpu(gpu.with_tile(tile))).collect()
}

/// One product of a case on an engine: the bits of C and of the row sums.
fn bits(engine: &Engine, [m, n, k]: [usize; 3], options: u32) -> Vec<u32> {
    let flag = |i: u32| options >> i & 1 == 1;
    let terms = flag(3);
    let mut recording = Recording::new();
    let mut matrix = |name, len, role| recording.buffer(name, len, DType::F32, role).unwrap();
    let a = matrix("a", m * k, Role::Input);
    let b = matrix("b", k * n, Role::Input);
    let c = matrix("c", m * n, Role::Output);
    let sums = matrix("sums", m, Role::Output);
    let a_transposed = terms || flag(0);
    let b_transposed = !terms && flag(1);
    let left =
        Operand { transposed: a_transposed, ..Operand::new(a, if a_transposed { m } else { k }) };
    let right =
        Operand { transposed: b_transposed, ..Operand::new(b, if b_transposed { k } else { n }) };
    let mut op = Matmul::new([m, n, k], left, right, Operand::new(c, n)).with_row_sum(sums);
    let mut views = vec![a, b, c, sums];
    if terms {
        let flags = recording.buffer("flags", k, DType::U32, Role::Input).unwrap();
        let (block, descending) = (64, flag(0));
        let rows = SequenceRows { flags: Some(flags), places: 1, first: 0, block, descending };
        op = op.over(SequenceSide::Terms, &rows);
        views.push(flags);
    }
    recording.launch(op.clone(), &views).unwrap();
    recording.launch(op.accumulating(true), &views).unwrap();
    let mut program = engine.load(&recording, &engine.store()).unwrap();
    let mut generator = Initializer::new(5);
    for view in [a, b] {
        program.write(view.buffer, &generator.uniform(view.len, 1.0)).unwrap();
    }
    if terms {
        let flags: Vec<u32> = (0..k).map(|i| u32::from(i % 5 != 3)).collect();
        program.write_u32(views[4].buffer, &flags).unwrap();
    }
    program.set_control(Control::new(1, 1));
    program.run().unwrap();
    let read = [c, sums].map(|view| program.read(view.buffer).unwrap());
    read.iter().flatten().map(|value| value.to_bits()).collect()
}

/// The largest error of C, of twice the sum of the products, over what √K terms may round to.
fn check(got: &[u32], [m, n, k]: [usize; 3], options: u32) {
    let flag = |i: u32| options >> i & 1 == 1;
    let terms = flag(3);
    let (a_transposed, b_transposed) = (terms || flag(0), !terms && flag(1));
    let mut generator = Initializer::new(5);
    let [a, b] = [m * k, k * n].map(|len| generator.uniform(len, 1.0));
    for i in (0..m).step_by(7) {
        for j in (0..n).step_by(3) {
            let valid = |l: &usize| !terms || l % 5 != 3;
            let product = |l: usize| {
                let left = a[if a_transposed { l * m + i } else { i * k + l }];
                let right = b[if b_transposed { j * k + l } else { l * n + j }];
                f64::from(left) * f64::from(right)
            };
            let want = 2.0 * (0..k).filter(valid).map(product).sum::<f64>();
            let error = (f64::from(f32::from_bits(got[i * n + j])) - want).abs();
            let bound = 2e-6 * (k as f64).sqrt() * want.abs().max(1.0);
            assert!(error <= bound, "{i},{j} of {m}x{n}x{k} options {options}: {error:.1e}");
        }
    }
}

/// Sizes that no tile divides, and sizes of whole vectors; each way to transpose, and sums over a
/// sequence with flags, in blocks, up and down.
#[test]
fn all_tiles_give_the_same_bits() {
    let engines = tiles();
    let Some((first, others)) = engines.split_first() else { return };
    let odd = [0, 1, 2, 8, 9].map(|options| ([133, 70, 203], options));
    let whole = [3, 9].map(|options| ([68, 132, 256], options));
    for (shape, options) in odd.into_iter().chain(whole) {
        let want = bits(first, shape, options);
        check(&want, shape, options);
        for (engine, tile) in others.iter().zip(&TILES[1..]) {
            let same = bits(engine, shape, options) == want;
            assert!(same, "{}: {shape:?} options {options}", tile.name);
        }
    }
}

#[test]
fn a_device_is_measured_and_takes_what_was_measured() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let assumed = gpu.tuning();
    let found: Tuning = gpu.tune(Duration::ZERO).unwrap();
    assert_eq!(gpu.tuning(), found);
    // Those of cooperative matrices are there where the device has them.
    assert_eq!(found.tiles.len(), TILES.len() + gpu.cooperative_tiles().len());
    assert!(found.tiles.values().all(|rate| rate.many > 0.0 && rate.one > 0.0));
    // Another engine on the same adapter has it too.
    let again = GpuEngine::open(|all| all.iter().position(|i| i.name == found.device)).unwrap();
    assert_eq!(again.unwrap().tuning(), found);
    // There was time for the first tile alone: the others are estimates, and are told from it.
    assert!(assumed.measured.is_empty());
    assert_eq!(found.measured.iter().collect::<Vec<_>>(), [TILES[0].name]);
    gpu.set_tuning(&assumed).unwrap();
    assert_eq!(gpu.tuning(), assumed);
    let text = serde_json::to_string(&found).unwrap();
    let read: Tuning = serde_json::from_str(&text).unwrap();
    assert_eq!(read, found);
    gpu.set_tuning(&read).unwrap();
    assert_eq!(gpu.tuning(), found);
    gpu.set_tuning(&assumed).unwrap();
    kept_apart(&gpu);
    gpu.set_tuning(&assumed).unwrap();
    for wrong in [
        Tuning { device: "another".into(), ..found.clone() },
        Tuning { driver: "another".into(), ..found.clone() },
        Tuning { tiles: Default::default(), ..found.clone() },
    ] {
        assert!(gpu.set_tuning(&wrong).is_err());
    }
}

/// The file says which rates were measured; what another process measured takes the place of estimates.
fn kept_apart(gpu: &GpuEngine) {
    let folder = tempfile::tempdir().unwrap();
    let cached = gpu.cached_in(folder.path());
    cached.tune(Duration::ZERO).unwrap();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let read = || -> Tuning { serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap() };
    let first = read();
    assert_eq!(first.measured.iter().collect::<Vec<_>>(), [TILES[0].name]);
    assert_eq!(first.tiles.len(), gpu.tuning().tiles.len());
    let mut others = first.clone();
    let other = TILES[1].name.to_string();
    others.tiles.get_mut(&other).unwrap().many = 12345.0;
    others.measured.insert(other.clone());
    std::fs::write(&file, serde_json::to_string(&others).unwrap()).unwrap();
    cached.tune(Duration::ZERO).unwrap();
    assert_eq!(read().tiles[&other].many, 12345.0);
    assert!(read().measured.contains(&other) && read().measured.contains(TILES[0].name));
}
