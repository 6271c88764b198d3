// What step_forward and step_backward share: the parameter block and the tile's size.
struct Params {
    time: u32,
    batch: u32,
    hidden: u32,
    step: u32,
    w_offset: u32,
    b_offset: u32,
    d_output_offset: u32,
    gates_offset: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

// A workgroup computes TILE batch rows by TILE units, DEPTH terms of the product at a time.
const TILE = 16u;
const DEPTH = 32u;
const THREADS = 256u;

// gates [T,B,K·H]: word `block` of unit `unit`.
fn gate_index(t: u32, row: u32, block: u32, unit: u32) -> u32 {
    return p.gates_offset + ((t * p.batch + row) * SAVED + block) * p.hidden + unit;
}

// states [S,T+1,B,H]: the state after `slot` steps.
fn state_index(state: u32, slot: u32, row: u32, unit: u32) -> u32 {
    return ((state * (p.time + 1u) + slot) * p.batch + row) * p.hidden + unit;
}
