//! The engine in a host program's device: its buffers in, its buffers out, its command encoder.

mod common;

use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::layer::{InitialState, Initializer, Recurrent};
use recurra::recording::Recording;
use recurra::schedule::Recorder;
use recurra::tensor::NamedTensors;

const SHAPE: [usize; 2] = [5, 3];

fn layer() -> Recurrent {
    Recurrent { layers: 2, ..Recurrent::new("gru", CellKind::Gru, 4, 6) }
}

fn recording() -> Recording {
    let mut rec = Recorder::inference();
    let x = rec.input("x", [SHAPE[0] * SHAPE[1], 4], false).unwrap();
    let y = layer().record(&mut rec, x, SHAPE, &InitialState::Zero).unwrap().output;
    rec.output("y", y).unwrap();
    rec.finish()
}

fn weights() -> NamedTensors {
    let mut weights = NamedTensors::new();
    layer().init(&mut Initializer::new(3), &mut weights);
    weights
}

fn set(engine: &Engine) -> recurra::engine::Store {
    let store = engine.store();
    for (name, tensor) in weights() {
        store.set(&name, tensor.as_slice().unwrap()).unwrap();
    }
    store
}

#[test]
fn runs_in_the_hosts_device_buffers_and_encoder() {
    if common::gpu_engine().is_none() {
        return;
    }
    let recording = recording();
    let (x_id, y_id) = (recording.require("x").unwrap(), recording.require("y").unwrap());
    let x: Vec<f32> = (0..SHAPE[0] * SHAPE[1] * 4).map(|i| (i as f32 * 0.37).sin()).collect();

    let cpu = Engine::cpu(Some(1)).unwrap();
    let mut program = cpu.load(&recording, &set(&cpu)).unwrap();
    program.write(x_id, &x).unwrap();
    program.run().unwrap();
    let want = program.read(y_id).unwrap();

    // The host's own device, with no more than WebGPU's default limits.
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters.into_iter().next().unwrap();
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).unwrap();
    let usage =
        wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = |words: usize, usage| {
        let size = words as u64 * 4;
        let descriptor =
            wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        device.create_buffer(&descriptor)
    };
    let (x_buffer, y_buffer) = (buffer(x.len(), usage), buffer(want.len(), usage));
    queue.write_buffer(&x_buffer, 0, bytemuck::cast_slice(&x));

    let engine = Engine::from_wgpu(&adapter, device.clone(), queue.clone());
    let store = set(&engine);
    let external = [(x_id, x_buffer), (y_id, y_buffer.clone())];
    let program = engine.load_with(&recording, &store, &external).unwrap();
    let staging = buffer(want.len(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let mut encoder = device.create_command_encoder(&Default::default());
    program.gpu().unwrap().encode(&mut encoder);
    encoder.copy_buffer_to_buffer(&y_buffer, 0, &staging, 0, want.len() as u64 * 4);
    queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let got: Vec<f32> = bytemuck::pod_collect_to_vec(&staging.get_mapped_range(..).unwrap());
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() < 1e-6, "{got} and {want}");
    }
    assert!(want.iter().any(|x| x.abs() > 0.1));

    // What the engine keeps itself is in the host's reach too: its weights and its outputs.
    let (name, weight) = weights().into_iter().next().unwrap();
    let words = weight.len() as u64 * 4;
    let weight_back =
        buffer(weight.len(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let y_back = buffer(want.len(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let own = engine.load_with(&recording, &store, &external[..1]).unwrap();
    let mut encoder = device.create_command_encoder(&Default::default());
    own.gpu().unwrap().encode(&mut encoder);
    let kept = own.gpu().unwrap().buffer(y_id).unwrap();
    encoder.copy_buffer_to_buffer(kept, 0, &y_back, 0, want.len() as u64 * 4);
    encoder.copy_buffer_to_buffer(&store.wgpu_buffer(&name).unwrap(), 0, &weight_back, 0, words);
    queue.submit([encoder.finish()]);
    let read = |buffer: &wgpu::Buffer| -> Vec<f32> {
        buffer.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        bytemuck::pod_collect_to_vec(&buffer.get_mapped_range(..).unwrap())
    };
    assert_eq!(read(&y_back), got);
    assert_eq!(read(&weight_back), weight.as_slice().unwrap());
    assert!(store.wgpu_buffer("no such").is_none());
    assert!(set(&cpu).wgpu_buffer(&name).is_none());

    // Wrong buffers are named.
    let small = buffer(3, usage);
    let message = engine.load_with(&recording, &store, &[(x_id, small)]).err().unwrap();
    assert!(message.to_string().contains("'x' has 12 bytes"), "{message}");
    let unusable = buffer(x.len(), wgpu::BufferUsages::COPY_DST);
    let message = engine.load_with(&recording, &store, &[(x_id, unusable)]).err().unwrap();
    assert!(message.to_string().contains("STORAGE"), "{message}");
    let any = buffer(x.len(), usage);
    assert!(cpu.load_with(&recording, &set(&cpu), &[(x_id, any)]).is_err());
    assert!(engine.load(&recording, &cpu.store()).is_err());
}
