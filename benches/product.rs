//! The matrix product: squares, the shapes of one time step, and the thin ones of weight gradients. On
//! the CPU engine and every GPU adapter; what would take more than a second a run by its rate on the
//! first shape is left out. Criterion prints elements a second: they are floating-point operations.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recurra::engine::{Engine, GpuEngine, Program};
use recurra::kernel::{Matmul, Operand, SequenceRows, SequenceSide};
use recurra::layer::Initializer;
use recurra::recording::{Recording, Role};
use recurra::tensor::DType;
use std::time::{Duration, Instant};

/// What the product is part of.
#[derive(Clone, Copy)]
enum Kind {
    /// C = A·B.
    Square,
    /// C = A·Wᵀ: a step, or the input product.
    Forward,
    /// C = Aᵀ·B over the rows of a sequence.
    Gradient,
}

const SHAPES: [(Kind, [usize; 3]); 11] = [
    (Kind::Square, [256, 256, 256]),
    (Kind::Square, [512, 512, 512]),
    (Kind::Square, [1024, 1024, 1024]),
    (Kind::Square, [2048, 2048, 2048]),
    (Kind::Square, [4096, 4096, 4096]),
    (Kind::Forward, [1, 1024, 256]),
    (Kind::Forward, [32, 1024, 256]),
    (Kind::Forward, [4096, 1024, 256]),
    (Kind::Gradient, [1024, 256, 4096]),
    (Kind::Gradient, [4096, 1024, 4096]),
    (Kind::Gradient, [128, 32, 65_536]),
];

fn program(engine: &Engine, kind: Kind, [m, n, k]: [usize; 3]) -> recurra::Result<Program> {
    let mut recording = Recording::new();
    let a = recording.buffer("a", m * k, DType::F32, Role::Input)?;
    let b = recording.buffer("b", k * n, DType::F32, Role::Input)?;
    let c = recording.buffer("c", m * n, DType::F32, Role::Output)?;
    let (left, right) = match kind {
        Kind::Square => (Operand::new(a, k), Operand::new(b, n)),
        Kind::Forward => (Operand::new(a, k), Operand::transposed(b, k)),
        Kind::Gradient => (Operand::transposed(a, m), Operand::new(b, n)),
    };
    let mut op = Matmul::new([m, n, k], left, right, Operand::new(c, n));
    if let Kind::Gradient = kind {
        // As a layer records it: blocks of 512 rows.
        let rows = SequenceRows { flags: None, places: 1, first: 0, block: 512, descending: true };
        op = op.over(SequenceSide::Terms, &rows);
    }
    recording.launch(op, &[a, b, c])?;
    let mut program = engine.load(&recording, &engine.store())?;
    let mut generator = Initializer::new(1);
    for view in [a, b] {
        program.write(view.buffer, &generator.uniform(view.len, 1.0))?;
    }
    Ok(program)
}

fn run(program: &mut Program) -> Duration {
    let start = Instant::now();
    program.run().expect("the device runs");
    program.wait().expect("the device answers");
    start.elapsed()
}

fn benches(criterion: &mut Criterion) {
    let mut engines = vec![Engine::cpu(None).expect("the CPU engine starts")];
    for name in GpuEngine::devices().into_iter().map(|info| info.name) {
        let open =
            |all: &[_]| all.iter().position(|i: &recurra::engine::DeviceInfo| i.name == name);
        engines.extend(GpuEngine::open(open).expect("the device opens").map(Engine::Gpu));
    }
    for engine in &engines {
        let mut group = criterion.benchmark_group(format!("product on {}", engine.name()));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
        let mut seconds_a_flop = 0.0;
        for (kind, shape @ [m, n, k]) in SHAPES {
            let flops = 2.0 * (m * n * k) as f64;
            if flops * seconds_a_flop > 1.0 {
                continue;
            }
            let mut program = match program(engine, kind, shape) {
                Ok(program) => program,
                Err(error) => {
                    println!("{m}x{n}x{k} is left out: {error}");
                    continue;
                }
            };
            run(&mut program);
            if seconds_a_flop == 0.0 {
                seconds_a_flop = run(&mut program).as_secs_f64() / flops;
            }
            let what = match kind {
                Kind::Square => "square",
                Kind::Forward => "forward",
                Kind::Gradient => "gradient",
            };
            group.throughput(Throughput::Elements(flops as u64));
            group.bench_function(format!("{what} {m}x{n}x{k}"), |bencher| {
                bencher.iter(|| run(&mut program))
            });
        }
        group.finish();
    }
}

criterion_group!(product, benches);
criterion_main!(product);
