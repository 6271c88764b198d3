//! What each option of the operator costs: forward and backward of one layer with it, over the same
//! layer without, in turns, medians of the ratios. `cargo bench --bench options [-- DEVICE]`.

use recurra::cell::{Activation, Cell, CellKind};
use recurra::engine::{Engine, Program};
use recurra::kernel::{BufferId, Control, Convolution};
use recurra::layer::{Direction, InitialState, Initializer, Memory, Recurrent, Sequence};
use recurra::loss::{Penalty, penalise};
use recurra::schedule::Recorder;
use std::time::Instant;

const SHAPE: [usize; 4] = [128, 32, 256, 256];
const RUNS: usize = 9;

/// A layer, and which rows take part.
struct Setup {
    name: &'static str,
    stack: Recurrent,
    lengths: Option<fn(usize) -> usize>,
    resets: bool,
    penalties: bool,
    batch: usize,
}

impl Setup {
    fn new(name: &'static str, cell: CellKind) -> Self {
        let [_, batch, input, hidden] = SHAPE;
        let stack = Recurrent::new("rnn", cell, input, hidden);
        Setup { name, stack, lengths: None, resets: false, penalties: false, batch }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn load(&self, engine: &Engine) -> recurra::Result<Program> {
        let time = SHAPE[0];
        let rows = self.batch * self.stack.convolution.map_or(1, |c| c.places());
        let mut rec = Recorder::training();
        let x = rec.input("x", [time * rows, self.stack.input], true)?;
        let mut sequence = Sequence::new(time, rows);
        let mut writes: Vec<(BufferId, Vec<f32>)> = Vec::new();
        let mut generator = Initializer::new(1);
        writes.push((x.view.buffer, generator.uniform(x.view.len, 1.0)));
        let mut lengths = None;
        if let Some(length) = self.lengths {
            let ids = rec.input_ids("lengths", self.batch)?;
            sequence = sequence.with_lengths(ids);
            lengths = Some((ids, (0..self.batch).map(|b| length(b) as u32).collect::<Vec<_>>()));
        }
        if self.resets {
            let resets = rec.input("resets", [time, self.batch], false)?;
            sequence = sequence.with_resets(resets.view);
            let values = (0..time * self.batch).map(|i| f32::from(i % 17 == 0)).collect();
            writes.push((resets.view.buffer, values));
        }
        let y = self.stack.record(&mut rec, x, sequence, &InitialState::Zero)?.output;
        if self.penalties {
            let shape = [time, rows];
            penalise(&mut rec, "ar", Penalty::Activation(2.0), y, shape, None)?;
            penalise(&mut rec, "tar", Penalty::Temporal(1.0), y, shape, None)?;
        }
        let seed = rec.input("seed", [y.rows, y.columns], false)?;
        writes.push((seed.view.buffer, generator.uniform(seed.view.len, 1.0)));
        rec.seed_gradient(y, seed)?;
        rec.backward()?;
        let store = engine.store();
        let mut weights = recurra::NamedTensors::new();
        self.stack.init(&mut generator, &mut weights);
        store.set_all(&weights)?;
        let mut program = engine.load(&rec.finish(), &store)?;
        for (id, values) in writes {
            program.write(id, &values)?;
        }
        if let Some((ids, values)) = lengths {
            program.write_u32(ids.buffer, &values)?;
        }
        program.set_control(Control::new(1, 7));
        Ok(program)
    }
}

fn once(program: &mut Program) -> recurra::Result<f64> {
    let start = Instant::now();
    program.run()?;
    program.wait()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(engine: &Engine, setup: &Setup, plain: &Setup) -> recurra::Result<()> {
    let (mut with, mut without) = (setup.load(engine)?, plain.load(engine)?);
    once(&mut with)?;
    once(&mut without)?;
    let (mut times, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (a, b) = (once(&mut with)?, once(&mut without)?);
        times.push(a);
        ratios.push(a / b);
    }
    println!("| {:<44} | {:8.1} | {:5.2} |", setup.name, median(times), median(ratios));
    Ok(())
}

fn main() -> recurra::Result<()> {
    let device = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let engine = Engine::named(device.as_deref().unwrap_or("cpu"), None)?;
    let (lstm, gru) = (CellKind::Lstm, CellKind::Gru);
    let cell = |name, change: fn(&mut Cell)| {
        Setup::new(name, CellKind::Lstm).with(|s| change(&mut s.stack.cell))
    };
    let stack = |name, change: fn(&mut Recurrent)| {
        Setup::new(name, CellKind::Lstm).with(|s| change(&mut s.stack))
    };
    let setups = vec![
        Setup::new("LSTM again", lstm),
        cell("peepholes", |c| c.peepholes = true),
        cell("coupled gates", |c| c.coupled = true),
        cell("clip", |c| c.clip = Some(3.0)),
        cell("cell clip", |c| c.cell_clip = Some(3.0)),
        cell("projection to 128", |c| c.projection = Some(128)),
        cell("activations softsign, tanh, identity", |c| {
            c.activations =
                Some(vec![Activation::Sigmoid, Activation::Softsign, Activation::Identity]);
        }),
        cell("layer norm", |c| c.layer_norm = Some(1e-5)),
        stack("batch norm of the input", |s| s.batch_norm = Some(1e-5)),
        stack("reverse", |s| s.direction = Direction::Reverse),
        stack("dropout on the input, one mask", |s| s.input_dropout = 0.3),
        stack("recurrent dropout", |s| s.recurrent_dropout = 0.3),
        stack("recurrent dropout for each gate", |s| {
            (s.recurrent_dropout, s.per_gate) = (0.3, true);
        }),
        stack("weight drop", |s| s.weight_drop = 0.3),
        stack("zoneout of h and c", |s| s.zoneout = [0.1, 0.1]),
        stack("4 heads", |s| s.heads = 4),
        stack("IndRNN weights (256 heads)", |s| s.heads = 256),
        stack("learned initial state", |s| s.learned_initial = true),
        Setup::new("lengths, all whole", lstm).with(|s| s.lengths = Some(|_| SHAPE[0])),
        Setup::new("lengths, half of all steps masked", lstm)
            .with(|s| s.lengths = Some(|b| (SHAPE[0] * (2 * b + 1)) / 64)),
        Setup::new("the same, in no order", lstm)
            .with(|s| s.lengths = Some(|b| (SHAPE[0] * (2 * (b * 13 % 32) + 1)) / 64)),
        Setup::new("resets", lstm).with(|s| s.resets = true),
        Setup::new("penalties AR and TAR", lstm).with(|s| s.penalties = true),
        stack("segments of 32 steps, recomputed", |s| s.memory = Memory::Segments(32)),
    ];
    println!(
        "On {}: T{} B{} I{} H{}, forward and backward.\n",
        engine.name(),
        SHAPE[0],
        SHAPE[1],
        SHAPE[2],
        SHAPE[3]
    );
    println!("| {:<44} | {:>8} | ratio |", "LSTM with", "ms");
    println!("|{}|---------:|------:|", "-".repeat(46));
    let plain = Setup::new("plain", lstm);
    for setup in &setups {
        compare(&engine, setup, &plain)?;
    }
    let plain = Setup::new("plain", gru);
    compare(&engine, &Setup::new("GRU reset before, over GRU", CellKind::GruResetBefore), &plain)?;
    compare(&engine, &Setup::new("minGRU, over GRU", CellKind::MinGru), &plain)?;
    let plain = Setup::new("plain", lstm);
    compare(&engine, &Setup::new("sLSTM, over LSTM", CellKind::Slstm), &plain)?;
    compare(&engine, &Setup::new("minLSTM, over LSTM", CellKind::MinLstm), &plain)?;
    // The same units and rows, as maps of 4 x 8 places with 256 channels and one map.
    let convolution = Setup::new("ConvLSTM 1x3 on 32 places, over LSTM", lstm).with(|s| {
        (s.batch, s.stack.convolution) = (1, Some(Convolution { map: [1, 32], kernel: [1, 3] }));
    });
    compare(&engine, &convolution, &plain)
}
