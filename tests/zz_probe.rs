//! Probe.
mod common;
use recurra::conformance::kernel_reports;
use recurra::engine::Engine;
use recurra::tensor::Precision;
#[test]
fn probe() {
    let engines = match std::env::var("WHO").as_deref() {
        Ok("cpu") => vec![Engine::cpu(Some(2)).unwrap()],
        Ok("gpu") => vec![common::gpu_engine().unwrap()],
        _ => common::engines(),
    };
    for engine in engines {
        for precision in [Precision::F32, Precision::F16] {
            if !engine.supports(precision) {
                continue;
            }
            for kernel in ["element_loss", "cross_entropy", "crf"] {
                if std::env::var("KERNEL").is_ok_and(|k| k != kernel) {
                    continue;
                }
                let start = std::time::Instant::now();
                kernel_reports(&engine, precision, Some(kernel), &mut |r| {
                    println!(
                        "{} {} {:22} {:60} {:9.1} ulp {:9.2e} of {:.1e} {}",
                        if r.pass { "ok  " } else { "FAIL" },
                        engine.name(),
                        r.kernel,
                        r.case,
                        r.max_ulp,
                        r.max_rel,
                        r.tolerance,
                        r.tensor
                    );
                })
                .unwrap();
                println!("{kernel} {:?}", start.elapsed());
            }
        }
    }
}
