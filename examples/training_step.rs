//! A training step from its parts: layers, recording, engine, store, program.
//!
//! `cargo run --release --example training_step` teaches a GRU to count to five.

use recurra::{
    CellKind, Embedding, Engine, InitialState, Initializer, Linear, NamedTensors, Optimizer,
    Recorder, Recurrent, cross_entropy,
};

fn main() -> recurra::Result<()> {
    let (time, batch, symbols, hidden) = (16, 4, 5, 32);
    let embedding = Embedding { name: "embedding".to_string(), vocabulary: symbols, width: 8 };
    let gru = Recurrent::new("gru", CellKind::Gru, 8, hidden);
    let linear = Linear::new("linear", hidden, symbols);

    // One training step, recorded once: forward, loss, backward, clipping, optimizer.
    let mut rec = Recorder::training();
    let ids = rec.input_ids("ids", time * batch)?;
    let targets = rec.input_ids("targets", time * batch)?;
    let x = embedding.record(&mut rec, ids)?;
    let h = gru.record(&mut rec, x, [time, batch], &InitialState::Zero)?.output;
    let logits = linear.record(&mut rec, h)?;
    cross_entropy(&mut rec, logits, targets)?;
    rec.backward()?;
    let adam = Optimizer::adam();
    adam.record(&mut rec, Some(1.0))?;
    let recording = rec.finish();

    // Weights on the engine, and the recording made ready.
    let engine = Engine::best()?;
    let store = engine.store();
    let mut weights = NamedTensors::new();
    let mut generator = Initializer::new(1);
    embedding.init(&mut generator, &mut weights);
    gru.init(&mut generator, &mut weights);
    linear.init(&mut generator, &mut weights);
    store.set_all(&weights)?;
    let mut program = engine.load(&recording, &store)?;
    println!(
        "{}: {} launches a step, {} bytes",
        engine.name(),
        program.launches(),
        program.plan().peak_bytes()
    );

    // Row b of the batch counts on from b; sequences lie time-major.
    let at = |t: usize, b: usize| ((t + b) % symbols) as u32;
    let rows = |shift: usize| -> Vec<u32> {
        (0..time).flat_map(|t| (0..batch).map(move |b| at(t + shift, b))).collect()
    };
    program.write_u32(ids.buffer, &rows(0))?;
    program.write_u32(targets.buffer, &rows(1))?;
    let ring = recording.require(recurra::loss::LOSS)?;
    for step in 1..=60 {
        program.set_control(adam.control(step, 1, 0.01));
        program.run()?;
        if step % 20 == 0 {
            let losses = program.read(ring)?;
            println!("step {step}: loss {:.4}", losses[(step as usize - 1) % losses.len()]);
        }
    }
    Ok(())
}
