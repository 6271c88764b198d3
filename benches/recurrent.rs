//! A recurrent layer, forward and forward+backward, on the CPU engine and on a real GPU where there
//! is one. `recurra bench` measures any shape; these few are for seeing what a change did.

use criterion::{Criterion, criterion_group, criterion_main};
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::layer::Memory;
use recurra::measure::RecurrentShape;
use recurra::tensor::Precision;
use std::time::Duration;

fn benches(criterion: &mut Criterion) {
    let best = Engine::best().expect("the best device opens");
    let cpu = Engine::cpu(None).expect("the CPU engine starts");
    let mut engines = vec![cpu];
    if best.kind() == "gpu" {
        engines.push(best);
    }
    for engine in &engines {
        let mut group = criterion.benchmark_group(engine.kind());
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        for cell in [CellKind::Lstm, CellKind::Gru, CellKind::RnnTanh] {
            for (time, batch) in [(64, 32), (64, 1)] {
                let shape = RecurrentShape {
                    cell,
                    time,
                    batch,
                    input: 256,
                    hidden: 256,
                    layers: 1,
                    heads: 1,
                    bidirectional: false,
                    shortest: time,
                    memory: Memory::Keep,
                    precision: Precision::F32,
                };
                for (training, what) in [(false, "forward"), (true, "forward+backward")] {
                    let mut program = shape.load(engine, training).expect("the layer fits");
                    let name = format!("{}-T{time}-B{batch}/{what}", cell.name());
                    group.bench_function(name, |bencher| {
                        bencher.iter(|| {
                            program.run().expect("the device runs");
                            program.wait().expect("the device answers");
                        })
                    });
                }
            }
        }
        group.finish();
    }
}

criterion_group!(recurrent, benches);
criterion_main!(recurrent);
