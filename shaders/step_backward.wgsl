// One backward step of a recurrent layer, t = step − 1. For each row b and unit j:
//     dh(t+1) = d_output[t] + carry_h + Σ_k d_r(t+1)[k]·R[k,j]
// where d_r is the gradient of the next step's recurrent product; then the cell's derivative turns
// dh(t+1), carry into the gate gradients of step t (written over the activations in gates[t]) and
// the carry of the step before. INITIAL ends the sweep: carry becomes the initial state's gradient.
#import shared/activations
#import cell/#{CELL}
#import shared/step

#ifdef INITIAL
@group(0) @binding(1) var<storage, read> gates: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> gates: array<f32>;
#endif
@group(0) @binding(2) var<storage, read> w_hh: array<f32>;
@group(0) @binding(3) var<storage, read_write> carry: array<f32>;
#ifndef INITIAL
@group(0) @binding(4) var<storage, read> states: array<f32>;
#ifdef D_OUTPUT
@group(0) @binding(5) var<storage, read> d_output: array<f32>;
#endif
#endif

var<workgroup> d_tile: array<f32, TILE * DEPTH>;    // [row][k]
var<workgroup> w_tile: array<f32, DEPTH * TILE>;    // [k][unit]

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_unit = group.x * TILE;
    let first_row = group.y * TILE;
    var dh = 0.0;
    // The last step has no later one to hear from.
    let depth = select(GATES * p.hidden, 0u, p.step == p.time);
    for (var k0 = 0u; k0 < depth; k0 += DEPTH) {
        for (var i = index; i < TILE * DEPTH; i += THREADS) {
            let row = first_row + i / DEPTH;
            let k = k0 + i % DEPTH;
            var value = 0.0;
            if row < p.batch && k < depth {
                let block = recurrent_block(k / p.hidden);
                value = gates[gate_index(p.step, row, block, k % p.hidden)];
            }
            d_tile[i] = value;
        }
        for (var i = index; i < DEPTH * TILE; i += THREADS) {
            let k = k0 + i / TILE;
            let unit = first_unit + i % TILE;
            var value = 0.0;
            if k < depth && unit < p.hidden {
                value = w_hh[p.w_offset + k * p.hidden + unit];
            }
            w_tile[i] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            dh += d_tile[local.y * DEPTH + k] * w_tile[k * TILE + local.x];
        }
        workgroupBarrier();
    }

    let unit = first_unit + local.x;
    let row = first_row + local.y;
    if row >= p.batch || unit >= p.hidden {
        return;
    }
    let here = row * p.hidden + unit;
    dh += carry[here];
#ifdef INITIAL
    carry[here] = dh;
#else
    let t = p.step - 1u;
#ifdef D_OUTPUT
    dh += d_output[p.d_output_offset + (t * p.batch + row) * p.hidden + unit];
#endif
    var saved: array<f32, SAVED>;
    for (var block = 0u; block < SAVED; block++) {
        saved[block] = gates[gate_index(t, row, block, unit)];
    }
    var old: array<f32, STATES>;
    var next: array<f32, STATES>;
    var d_states: array<f32, STATES>;
    for (var state = 0u; state < STATES; state++) {
        old[state] = states[state_index(state, t, row, unit)];
        next[state] = states[state_index(state, t + 1u, row, unit)];
        d_states[state] = carry[state * p.batch * p.hidden + here];
    }
    d_states[0] = dh;
    let out = cell_backward(saved, old, next, d_states);
    for (var block = 0u; block < SAVED; block++) {
        gates[gate_index(t, row, block, unit)] = out.saved[block];
    }
    for (var state = 0u; state < STATES; state++) {
        carry[state * p.batch * p.hidden + here] = out.states[state];
    }
#endif
}
