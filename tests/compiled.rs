//! What a GPU's compiler makes of the kernels: registers, spills, instructions. Mesa's compilers for NVIDIA (NAK) and AMD
//! (ACO) work without the GPU, behind a shim that plays its kernel driver, and tell what they made;
//! `tests/compiled-in-chroot` runs this so. Nothing is executed.

mod common;

use common::card::CARD;
use recurra::cell::CellKind;
use recurra::conformance::{RecurrentCase, record_case};
use recurra::engine::{Cooperative, Engine, GpuEngine, Strategy};
use recurra::kernel::{COOPERATIVE_TILES, GroupLimits, Matmul, Operand, TILES};
use recurra::layer::Recurrent;
use recurra::recording::{Recording, Role};
use recurra::tensor::{DType, Precision};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Before the line that says which kernel is compiled next.
const MARK: &str = "=== kernel: ";

/// What a compiler says of a kernel.
#[derive(Clone, Debug, Default)]
struct Account {
    kernel: String,
    registers: usize,
    spills: usize,
    instructions: usize,
    /// Of the code taken once from its beginning to its end.
    cycles: usize,
}

/// Of a chip, words of a kernel's name and what it spills at most, where not 0: what compilers made of these in December 2026
/// (NAK's words a thread, ACO's bytes). A fall is welcome.
const MOST_SPILLS: [(&str, &str, usize); 22] = [
    ("NVK", "Grid F16 Lstm H768 B16 | grid_backward", 160),
    ("NVK", "Grid F16 Lstm H768 B64 | grid_backward", 150),
    ("NVK", "Grid F16 Lstm H1024 B16 | grid_backward", 1100),
    ("NVK", "Grid F32 Lstm H512 B16 | grid_backward", 90),
    ("NVK", "Grid F32 Gru H768 B16 | grid_forward", 20),
    ("NVK", "Grid F32 Gru H768 B16 | grid_backward", 110),
    ("NVK", "Sequence F16 Lstm H128 B256 | sequence_backward", 102),
    ("NVK", "Sequence F32 Lstm H128 B256 | sequence_backward", 102),
    ("NVK", "Sequence F16 Lstm H256 B256 | sequence_backward", 111),
    ("NVK", "Sequence F32 Lstm H256 B256 | sequence_backward", 111),
    ("NVK", "Sequence F16 Gru H128 B16 | sequence_forward", 186),
    ("NVK", "Sequence F16 Gru H128 B16 | sequence_backward", 40),
    // Where each thread keeps a whole row of a matrix of weights, a subgroup of 64 four times all of it.
    ("NAVI3", "Grid F16 Lstm H768 B16 | grid_forward", 13_000),
    ("NAVI3", "Grid F16 Lstm H768 B16 | grid_backward", 18_000),
    ("NAVI3", "Grid F16 Lstm H768 B64 | grid_forward", 13_000),
    ("NAVI3", "Grid F16 Lstm H768 B64 | grid_backward", 18_000),
    ("NAVI3", "Grid F16 Lstm H1024 B16 | grid", 34_000),
    ("NAVI3", "Grid F16 Gru H768 B16 | grid_backward", 2000),
    ("NAVI3", "Sequence F16 Lstm H128 B16 | sequence_backward", 45_000),
    ("NAVI3", "Sequence F16 Gru H128 B16 | sequence", 24_000),
    ("NAVI2", "", 3200),
    // None today.
    ("RADV", "", 128),
];

/// An engine, what runs on it, and the recording.
type Job = (String, GpuEngine, Recording);

fn product(shape: [usize; 3], transposed: [bool; 2], dtype: DType) -> Recording {
    let [m, n, k] = shape;
    let mut recording = Recording::new();
    let mut buffer = |name: &str, len, role| recording.buffer(name, len, dtype, role).unwrap();
    let (a, b) = (buffer("a", m * k, Role::Temporary), buffer("b", k * n, Role::Temporary));
    let c = buffer("c", m * n, Role::Temporary);
    let operand = |view, rows: usize, columns: usize, transposed: bool| match transposed {
        true => Operand::transposed(view, rows),
        false => Operand::new(view, columns),
    };
    let (of_a, of_b) = (operand(a, m, k, transposed[0]), operand(b, k, n, transposed[1]));
    recording.launch(Matmul::new(shape, of_a, of_b, Operand::new(c, n)), &[a, b, c]).unwrap();
    recording
}

fn jobs(gpu: &GpuEngine) -> Vec<Job> {
    let mut jobs = Vec::new();
    let ways = [("NN", [false, false]), ("NT", [false, true]), ("TN", [true, false])];
    for (way, transposed) in ways {
        for (i, tile) in TILES.iter().enumerate() {
            let recording = product([1024; 3], transposed, DType::F32);
            jobs.push((format!("{} {way}", tile.name), gpu.with_tile(i), recording));
        }
        for i in gpu.cooperative_tiles() {
            let engine = gpu.with_cooperative(Cooperative::Tile(i));
            let recording = product([1024; 3], transposed, DType::F16);
            jobs.push((format!("{} {way}", COOPERATIVE_TILES[i].name), engine, recording));
        }
    }
    let limits = GroupLimits { bytes: gpu.group_limits().bytes, matrix: 0, lanes: 0, ..CARD };
    let mut recurrent = |strategy, precision, cell, hidden, batch| {
        let stack = Recurrent::new("rnn", cell, 64, hidden);
        let case = RecurrentCase { precision, ..RecurrentCase::new(stack, 8, batch) };
        let gpu = gpu.with_measuring(false).with_group_limits(limits);
        let gpu = match gpu.cooperative_tiles().first() {
            Some(&tile) => gpu.with_cooperative(Cooperative::Tile(tile)),
            None => gpu,
        };
        let Engine::Gpu(gpu) = Engine::Gpu(gpu).with_strategy(strategy).unwrap() else { return };
        let what = format!("{strategy:?} {precision:?} {cell:?} H{hidden} B{batch}");
        jobs.push((what, gpu, record_case(&case).unwrap()));
    };
    use CellKind::{Gru, Lstm, RnnTanh};
    let half = Precision::F16;
    for (cell, hidden, batch) in [
        (Lstm, 512, 16),
        (Lstm, 768, 16),
        (Lstm, 768, 64),
        (Lstm, 1024, 16),
        (Gru, 768, 16),
        (RnnTanh, 1024, 16),
    ] {
        recurrent(Strategy::Grid, half, cell, hidden, batch);
    }
    for (cell, hidden) in [(Lstm, 512), (Gru, 768)] {
        recurrent(Strategy::Grid, Precision::F32, cell, hidden, 16);
    }
    for (cell, hidden) in [(Lstm, 64), (Lstm, 128), (Lstm, 256), (Gru, 128)] {
        for batch in [16, 256] {
            recurrent(Strategy::Sequence, half, cell, hidden, batch);
            recurrent(Strategy::Sequence, Precision::F32, cell, hidden, batch);
        }
    }
    for precision in [half, Precision::F32] {
        recurrent(Strategy::Step, precision, Lstm, 2048, 16);
        recurrent(Strategy::Step, precision, Gru, 2816, 32);
    }
    jobs
}

/// Compiles everything, with a line on standard error before each kernel: the compiler writes there too.
#[test]
#[ignore = "its output is for the test that starts it"]
fn compile_for_the_parent() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    // Where subgroups may have several sizes, running a kernel would tell which: AMD's driver takes the largest.
    let [smallest, largest] = gpu.info().subgroup_sizes;
    let gpu = if smallest < largest { gpu.with_lanes(largest as usize) } else { gpu };
    assert!(!required() || !gpu.cooperative_tiles().is_empty(), "there are no matrices");
    let only = std::env::var("RECURRA_ONLY").unwrap_or_default();
    for (what, gpu, recording) in jobs(&gpu).iter().filter(|job| job.0.contains(&only)) {
        let compiled = gpu.compile_one_by_one(recording, |op, _| {
            let defines = op.kernel().defines();
            let defines = defines.iter().map(|(name, value)| match value.is_empty() {
                true => name.to_string(),
                false => format!("{name}={value}"),
            });
            let defines = defines.collect::<Vec<_>>().join(" ");
            eprintln!("{MARK}{what} | {} {defines}", op.kernel().name());
        });
        compiled.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    eprintln!("{MARK}end");
}

/// What the compiler said, in a process of its own.
fn accounts() -> Vec<Account> {
    let mut child = Command::new(std::env::args().next().unwrap())
        .args(["--ignored", "--exact", "compile_for_the_parent", "--nocapture"])
        .envs([("NAK_DEBUG", "print"), ("RADV_DEBUG", "shaderstats,nocache")])
        .env("MESA_SHADER_CACHE_DISABLE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut accounts: Vec<Account> = Vec::new();
    let mut ended = false;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(kernel) = line.strip_prefix(MARK) {
            ended = kernel == "end";
            accounts.push(Account { kernel: kernel.into(), ..Account::default() });
        }
        let Some((what, value)) = line.split_once(": ") else { continue };
        let (Some(account), Ok(value)) = (accounts.last_mut(), value.trim().parse()) else {
            continue;
        };
        match what {
            "Num GPRs" | "VGPRs" => account.registers = value,
            "Spills to mem" | "SLM size" | "Spilled VGPRs" | "Scratch size" => {
                account.spills += value
            }
            "Instruction count" | "Instructions" => account.instructions = value,
            "Static cycle count" | "Latency" => account.cycles = value,
            _ => {}
        }
    }
    let last = accounts.pop();
    assert!(child.wait().unwrap().success() && ended, "it ended at {last:?}");
    accounts
}

/// Whether RECURRA_REQUIRE_COOPERATIVE asks for kernels of matrices.
fn required() -> bool {
    std::env::var("RECURRA_REQUIRE_COOPERATIVE").is_ok_and(|v| v == "1")
}

/// What of a kernel's name and defines makes most of its code.
fn alike(kernel: &str) -> String {
    let words = kernel.split(" | ").nth(1).unwrap_or_default().split(' ');
    let most =
        ["COOPERATIVE", "MATRICES", "REST", "CELL=", "TILE_", "UNITS=", "THREADS=", "PINNED="];
    let most = |(i, word): &(usize, &str)| *i == 0 || most.iter().any(|of| word.starts_with(of));
    words.enumerate().filter(most).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

#[test]
fn kernels_fit_a_gpus_registers() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let (name, driver) = (&gpu.info().name, &gpu.info().driver);
    if !["NVK", "radv"].iter().any(|known| driver.contains(known)) {
        assert!(!required(), "the driver '{driver}' does not tell what it makes of kernels");
        println!("SKIPPED: the driver '{driver}' does not tell what it makes of kernels");
        return;
    }
    println!("registers, words spilled, instructions, cycles");
    let (mut complaints, mut seen, mut silent) = (Vec::new(), BTreeSet::new(), 0);
    let accounts = accounts();
    assert!(!accounts.is_empty(), "there is no such job");
    for account in accounts {
        let Account { kernel, registers, spills, instructions, cycles } = &account;
        let kernel = kernel.split(" CELL=").next().unwrap_or_default();
        let kernel = kernel.chars().take(90).collect::<String>();
        println!("{registers:4} {spills:5} {instructions:6} {cycles:9}  {kernel}");
        // A compiler that gave up says nothing; nor does NAK where it made the same of a kernel like it before.
        let like = alike(&account.kernel);
        let known = driver.contains("NVK") && seen.contains(&like);
        silent += usize::from(account.instructions == 0);
        if account.instructions > 0 {
            seen.insert(like);
        }
        let here = |chip: &str| driver.contains(chip) || name.contains(chip);
        let most = MOST_SPILLS.iter().find(|(chip, part, _)| here(chip) && kernel.contains(part));
        let most = most.map_or(0, |(_, _, most)| *most);
        if account.instructions == 0 && !known || *spills > most {
            complaints.push(format!("{account:?}"));
        }
    }
    println!("{silent} of them made before");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
