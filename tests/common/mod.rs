//! What the integration tests share: engines, golden files, outside data, comparing.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod card;
pub mod command;
pub mod golden;
pub mod outside;
pub mod random;
pub mod reference;
pub mod seeded;
pub mod stack;

use recurra::engine::{Engine, GpuEngine};
use std::path::{Path, PathBuf};

/// The GPU engine, or none on a machine without any adapter: then a line says so, and with
/// `RECURRA_REQUIRE_GPU=1` the test fails.
pub fn gpu_engine() -> Option<Engine> {
    if !GpuEngine::devices().is_empty() {
        return Some(Engine::gpu().expect("there is an adapter, and it opens"));
    }
    let required = std::env::var("RECURRA_REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(!required, "RECURRA_REQUIRE_GPU=1, but no adapter was found");
    println!("SKIPPED: no GPU adapter was found, the GPU engine is not tested");
    None
}

/// The CPU engine, and the GPU engine where there is an adapter.
pub fn engines() -> Vec<Engine> {
    let cpu = Engine::cpu(None).expect("the CPU engine starts");
    std::iter::once(cpu).chain(gpu_engine()).collect()
}

/// A folder of the outside data: in `$RECURRA_DATA`, or beside the repository. Where it is absent
/// a line says that the caller is skipped.
pub fn data_folder(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let root = std::env::var_os("RECURRA_DATA").map_or_else(beside, PathBuf::from);
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: the data '{name}' is absent; set RECURRA_DATA to the folder that has it");
    None
}

/// The largest difference; infinite where there is a NaN.
pub fn apart<'a>(
    a: impl IntoIterator<Item = &'a f32>,
    b: impl IntoIterator<Item = &'a f32>,
) -> f32 {
    let (a, b): (Vec<_>, Vec<_>) = (a.into_iter().collect(), b.into_iter().collect());
    assert_eq!(a.len(), b.len());
    let each = a.iter().zip(b).map(|(a, b)| (*a - b).abs());
    each.fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}

/// max|got − want| / max|want|. Infinite where a value is not finite, or where only zeros are
/// wanted and others came.
pub fn normwise_error(name: &str, got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "{name}: another number of elements");
    assert!(want.iter().all(|w| w.is_finite()), "{name}: what is wanted isn't finite");
    let largest = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
    if got.iter().any(|g| !g.is_finite()) {
        return f64::INFINITY;
    }
    let pairs = got.iter().zip(want);
    let apart = pairs.fold(0.0, |m: f64, (g, w)| m.max((f64::from(*g) - w).abs()));
    if apart == 0.0 { 0.0 } else { apart / largest }
}

/// The largest error seen, and where.
#[derive(Default)]
pub struct Worst {
    pub error: f64,
    pub name: String,
}

impl Worst {
    /// Takes in one tensor's error.
    pub fn see(&mut self, name: &str, got: &[f32], want: &[f64]) {
        let error = normwise_error(name, got, want);
        if error >= self.error {
            *self = Worst { error, name: name.to_string() };
        }
    }

    /// Fails where the largest error is beyond `tolerance`; says it otherwise.
    pub fn check(&self, what: &str, tolerance: f64) {
        let Worst { error, name } = self;
        assert!(*error <= tolerance, "{what}: {name} is off by {error:.1e} of its largest element");
        println!("{what}: largest error {error:.1e} ({name})");
    }
}
