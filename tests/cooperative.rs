//! Products of f16 operands in matrices that subgroups multiply together, where a device has them: against
//! sums in float64 of the same numbers, which f16 holds exactly. `tests/coop-in-chroot` runs this on a
//! driver of the CPU that has them.

mod common;

use recurra::engine::{Cooperative, Engine, GpuEngine};
use recurra::kernel::shader::Fault;
use recurra::kernel::{
    COOPERATIVE_TILES, Combine, Control, Matmul, Operand, Rows, SequenceRows, SequenceSide, View,
};
use recurra::layer::Initializer;
use recurra::recording::{Recording, Role};
use recurra::tensor::DType;

/// The GPU engine, where it has such products; else a line says so, and with
/// `RECURRA_REQUIRE_COOPERATIVE=1` the test fails.
fn gpu() -> Option<GpuEngine> {
    if let Some(Engine::Gpu(gpu)) = common::gpu_engine()
        && !gpu.cooperative_tiles().is_empty()
    {
        return Some(gpu);
    }
    let required = std::env::var("RECURRA_REQUIRE_COOPERATIVE").is_ok_and(|v| v == "1");
    assert!(!required, "RECURRA_REQUIRE_COOPERATIVE=1, but no device has cooperative matrices");
    println!("SKIPPED: the device has no cooperative matrices of f16 and f32");
    None
}

/// A product to try.
#[derive(Clone, Copy, Debug, Default)]
struct Case {
    shape: [usize; 3],
    transposed: [bool; 2],
    bias: bool,
    row_sum: bool,
    accumulate: bool,
    /// Rows or terms are those of a sequence with flags, in blocks of 64.
    side: Option<SequenceSide>,
    descending: bool,
    /// Elements between the rows of C: with none, sums over a sequence go block by block.
    apart: usize,
    /// C lies in f16.
    short: bool,
}

/// Numbers of f16 between −1 and 1, of all their eleven bits, so that sums of products round.
fn values(seed: u64, len: usize) -> Vec<f32> {
    let short = |value: f32| match value.abs() < 1e-4 {
        true => 0.0,
        false => f32::from_bits(value.to_bits() & !0x1fff),
    };
    Initializer::new(seed).uniform(len, 1.0).into_iter().map(short).collect()
}

fn valid(row: usize) -> bool {
    row % 5 != 3
}

impl Case {
    /// A, B, what C, the bias and the row sums hold before.
    fn inputs(&self) -> [Vec<f32>; 5] {
        let [m, n, k] = self.shape;
        let lens = [m * k, k * n, m * (n + self.apart), n, m];
        std::array::from_fn(|i| values(i as u64, lens[i]))
    }

    /// C and the row sums as the engine computes them.
    fn run(&self, engine: &Engine) -> [Vec<f32>; 2] {
        let [m, n, k] = self.shape;
        let inputs = self.inputs();
        let mut recording = Recording::new();
        // From the host in f32, from there into a temporary.
        let mut place = |name: &str, number: usize, dtype| {
            let len = inputs[number].len();
            let given = recording.buffer(name, len, DType::F32, Role::Input).unwrap();
            let to = format!("{name} stored");
            let to = recording.buffer(to, len, dtype, Role::Temporary).unwrap();
            let op = Combine::copy([1, len], Rows::new(given, len), Rows::new(to, len));
            recording.launch(op, &[given, to]).unwrap();
            (given, to)
        };
        let (a_in, a) = place("a", 0, DType::F16);
        let (b_in, b) = place("b", 1, DType::F16);
        let (c_in, c) = place("c", 2, if self.short { DType::F16 } else { DType::F32 });
        let (bias_in, bias) = place("bias", 3, DType::F32);
        let (sums_in, sums) = place("sums", 4, DType::F32);
        let operand = |view: View, transposed, [rows, columns]: [usize; 2]| Operand {
            transposed,
            ..Operand::new(view, if transposed { rows } else { columns })
        };
        let left = operand(a, self.transposed[0], [m, k]);
        let right = operand(b, self.transposed[1], [k, n]);
        let mut op = Matmul::new(self.shape, left, right, Operand::new(c, n + self.apart));
        let mut views = vec![a, b, c];
        if self.bias {
            op = op.with_bias(bias);
            views.push(bias);
        }
        if self.row_sum {
            op = op.with_row_sum(sums);
            views.push(sums);
        }
        let flags = self.side.map(|side| {
            let rows = if side == SequenceSide::Terms { k } else { m };
            let flags = recording.buffer("flags", rows, DType::U32, Role::Input).unwrap();
            let (block, descending) = (64, self.descending);
            let rows = SequenceRows { flags: Some(flags), places: 1, first: 0, block, descending };
            op = op.clone().over(side, &rows);
            views.push(flags);
            flags
        });
        recording.launch(op.accumulating(self.accumulate), &views).unwrap();
        let read = [(c, "c out"), (sums, "sums out")].map(|(view, name)| {
            let out = recording.buffer(name, view.len, DType::F32, Role::Output).unwrap();
            let [from, to] = [view, out].map(|view| Rows::new(view, view.len));
            recording.launch(Combine::copy([1, view.len], from, to), &[view, out]).unwrap();
            out.buffer
        });
        let mut program = engine.load(&recording, &engine.store()).unwrap();
        for (view, value) in [a_in, b_in, c_in, bias_in, sums_in].iter().zip(&inputs) {
            program.write(view.buffer, value).unwrap();
        }
        if let Some(flags) = flags {
            let flags_of: Vec<u32> = (0..flags.len).map(|i| u32::from(valid(i))).collect();
            program.write_u32(flags.buffer, &flags_of).unwrap();
        }
        program.set_control(Control::new(1, 1));
        program.run().unwrap();
        read.map(|id| program.read(id).unwrap())
    }

    /// The same in float64.
    fn want(&self) -> [Vec<f64>; 2] {
        let [m, n, k] = self.shape;
        let [a, b, c, bias, sums] = self.inputs();
        let wide = |list: &[f32]| list.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let left = |i: usize, l: usize| {
            f64::from(if self.transposed[0] { a[l * m + i] } else { a[i * k + l] })
        };
        let right = |l: usize, j: usize| {
            f64::from(if self.transposed[1] { b[j * k + l] } else { b[l * n + j] })
        };
        let takes_part = |l: &usize| self.side != Some(SequenceSide::Terms) || valid(*l);
        let (mut want, mut want_sums) = (wide(&c), wide(&sums));
        for i in 0..m {
            let terms = || (0..k).filter(takes_part);
            let start = |before: f64| if self.accumulate { before } else { 0.0 };
            if self.row_sum {
                want_sums[i] = start(want_sums[i]) + terms().map(|l| left(i, l)).sum::<f64>();
            }
            let none = self.side == Some(SequenceSide::Rows) && !valid(i);
            for j in 0..n {
                let mut sum =
                    if none { 0.0 } else { terms().map(|l| left(i, l) * right(l, j)).sum() };
                if self.bias && !none {
                    sum += f64::from(bias[j]);
                }
                let value = &mut want[i * (n + self.apart) + j];
                *value = start(*value) + sum;
            }
        }
        [want, want_sums]
    }

    /// The largest error of C and of the row sums, over what they may have.
    fn excess(&self, got: &[Vec<f32>; 2]) -> f64 {
        let rounding = 2e-6 * (self.shape[2] as f64).sqrt();
        let bounds = [if self.short { 2e-3 } else { rounding }, rounding];
        let errors = self.want().into_iter().zip(got).zip(bounds).map(|((want, got), bound)| {
            common::normwise_error(&format!("{self:?}"), got, &want) / bound
        });
        errors.fold(0.0, f64::max)
    }
}

/// Sizes that nothing divides and sizes of whole vectors, smaller and larger than a tile, with each way to
/// transpose and every option.
fn cases() -> Vec<Case> {
    let mut list = Vec::new();
    for bits in 0..8u32 {
        let flag = |i: u32| bits >> i & 1 == 1;
        list.push(Case {
            shape: if flag(2) { [68, 132, 128] } else { [133, 70, 203] },
            transposed: [flag(0), flag(1)],
            bias: flag(0) != flag(2),
            row_sum: flag(1) != flag(2),
            accumulate: flag(0) == flag(1),
            short: flag(1),
            ..Case::default()
        });
    }
    for shape in [[1, 1, 1], [5, 3, 9]] {
        list.push(Case { shape, bias: true, row_sum: true, ..Case::default() });
    }
    // Block by block, and in one sum where the rows of C lie apart.
    for bits in 0..4u32 {
        let flag = |i: u32| bits >> i & 1 == 1;
        let vectors = flag(0) != flag(1);
        list.push(Case {
            shape: if vectors { [36, 72, 200] } else { [33, 66, 203] },
            transposed: [true, false],
            row_sum: true,
            accumulate: flag(0),
            side: Some(SequenceSide::Terms),
            descending: vectors,
            apart: if flag(1) { 4 } else { 0 },
            ..Case::default()
        });
    }
    for accumulate in [false, true] {
        list.push(Case {
            shape: [70, 36, 24],
            bias: true,
            accumulate,
            side: Some(SequenceSide::Rows),
            short: accumulate,
            ..Case::default()
        });
    }
    list
}

#[test]
fn cooperative_products_are_right_and_have_the_same_bits_in_all_tiles() {
    let Some(gpu) = gpu() else { return };
    let mut worst = [0.0, 0.0];
    let mut differ = 0;
    // A driver that computes on the CPU compiles each for seconds, a large tile for ten.
    let software = gpu.info().software;
    for (number, case) in cases().into_iter().enumerate() {
        // Half of them, in which each way to transpose still comes with each size.
        if software && number.count_ones() % 2 == 1 {
            continue;
        }
        let few = software && number % 6 > 0;
        let all = gpu.cooperative_tiles();
        let tiles = if few { &all[1..] } else { &all };
        let plain = case.run(&Engine::Gpu(gpu.with_cooperative(Cooperative::Never)));
        worst[0] = case.excess(&plain).max(worst[0]);
        let mut first: Option<[Vec<f32>; 2]> = None;
        for &tile in tiles {
            let name = COOPERATIVE_TILES[tile].name;
            let got = case.run(&Engine::Gpu(gpu.with_cooperative(Cooperative::Tile(tile))));
            let excess = case.excess(&got);
            assert!(excess <= 1.0, "{name}: {excess:.2} times the bound, {case:?}");
            worst[1] = excess.max(worst[1]);
            differ += usize::from(got != plain);
            let same = first.get_or_insert_with(|| got.clone()) == &got;
            assert!(same, "{name}: other bits, {case:?}");
        }
    }
    let [plain, cooperative] = worst;
    println!(
        "errors over their bounds: {cooperative:.3}, of threads {plain:.3}; {differ} differ in bits"
    );
    assert!(plain <= 1.0);
}

/// Faults of the shader's cooperative part are noticed, and only there.
#[test]
fn the_tests_run_the_cooperative_part() {
    let Some(gpu) = gpu() else { return };
    let case = cases()[0];
    for (old, new) in [
        ("coopMultiplyAdd(a_#{R}, b_#{C}, sum_#{R}_#{C})", "sum_#{R}_#{C}"),
        ("if slab + 1u < slabs {", "if slab + 2u < slabs {"),
    ] {
        let fault = Fault { stem: "matmul", old, new };
        let of = |how| Engine::Gpu(gpu.with_cooperative(how).with_fault(fault.clone()));
        assert!(case.excess(&case.run(&of(Cooperative::Never))) <= 1.0, "{old}");
        let tile = *gpu.cooperative_tiles().last().expect("there is one");
        assert!(case.excess(&case.run(&of(Cooperative::Tile(tile)))) > 1.0, "{old}");
    }
}

/// Measuring a device measures these tiles too, and what was found can be handed back, also without them.
#[test]
fn cooperative_tiles_are_measured() {
    let Some(gpu) = gpu() else { return };
    let names = || gpu.cooperative_tiles().into_iter().map(|tile| COOPERATIVE_TILES[tile].name);
    let assumed = gpu.tuning();
    assert!(names().all(|name| assumed.tiles.contains_key(name)));
    let found = gpu.tune(std::time::Duration::from_secs(60)).unwrap();
    for name in names() {
        println!("{name}: {:?}", found.tiles[name]);
        assert!(found.tiles[name].many > 0.0 && found.tiles[name] != assumed.tiles[name]);
    }
    let mut without = found.clone();
    for name in names() {
        without.tiles.remove(name);
    }
    gpu.set_tuning(&without).unwrap();
    assert!(names().all(|name| gpu.tuning().tiles[name].many > 0.0));
    gpu.set_tuning(&assumed).unwrap();
    assert_eq!(gpu.tuning(), assumed);
    // A driver that multiplies wrongly is fast at best: its tiles are not taken.
    let (old, new) = ("coopMultiplyAdd(a_#{R}, b_#{C}, sum_#{R}_#{C})", "sum_#{R}_#{C}");
    let wrong = gpu.with_fault(Fault { stem: "matmul", old, new });
    let found = wrong.tune(std::time::Duration::from_secs(60)).unwrap();
    assert!(names().all(|name| found.tiles[name].many < 1e-20), "{:?}", found.tiles);
    gpu.set_tuning(&assumed).unwrap();
}

/// Where a device may give a kernel subgroups of several sizes, the one that it gives is found by a product, which comes
/// out wrong with every other.
#[test]
fn subgroups_are_counted() {
    let Some(gpu) = gpu() else { return };
    let [smallest, largest] = gpu.info().subgroup_sizes.map(|size| size as usize);
    let (counted, tiles) = gpu.find_lanes(smallest, largest);
    println!("subgroups of {smallest} to {largest} threads: {counted}");
    assert!((smallest..=largest).contains(&counted) && counted == gpu.lanes());
    assert_eq!(tiles, gpu.cooperative_tiles());
    assert_eq!(gpu.find_lanes(counted / 2, counted * 2), (counted, tiles));
    for wrong in [counted / 2, counted * 2] {
        assert_eq!(gpu.find_lanes(wrong, wrong), (0, Vec::new()));
    }
    // A driver that multiplies wrongly has none.
    let (old, new) = ("coopMultiplyAdd(a_#{R}, b_#{C}, sum_#{R}_#{C})", "sum_#{R}_#{C}");
    let wrong = gpu.with_fault(Fault { stem: "matmul", old, new });
    assert_eq!(wrong.find_lanes(smallest, largest).0, 0);
    // Without the size there are no such products.
    assert!(gpu.with_lanes(0).cooperative_tiles().is_empty());
}
