// One forward step of a recurrent layer. For each row b and unit j, with r_g = h(t)·R_gᵀ + b′_g:
//     h(t+1), … = cell(gates[t] (the input product), r, h(t), …)
// and gates[t] keeps what backward needs. One launch a step: product and gates are fused.
#import shared/activations
#import cell/#{CELL}
#import shared/step

@group(0) @binding(1) var<storage, read_write> gates: array<f32>;
@group(0) @binding(2) var<storage, read> w_hh: array<f32>;
@group(0) @binding(3) var<storage, read> b_hh: array<f32>;
@group(0) @binding(4) var<storage, read_write> states: array<f32>;

var<workgroup> h_tile: array<f32, TILE * DEPTH>;            // [row][k]
var<workgroup> w_tile: array<f32, DEPTH * GATES * TILE>;    // [k][gate][unit]

#import shared/gates_#{GATES}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_unit = group.x * TILE;
    let first_row = group.y * TILE;
    let t = p.step;
    var sum: Sum;
    for (var k0 = 0u; k0 < p.hidden; k0 += DEPTH) {
        for (var i = index; i < TILE * DEPTH; i += THREADS) {
            let row = first_row + i / DEPTH;
            let k = k0 + i % DEPTH;
            var value = 0.0;
            if row < p.batch && k < p.hidden {
                value = states[state_index(0u, t, row, k)];
            }
            h_tile[i] = value;
        }
        for (var i = index; i < DEPTH * GATES * TILE; i += THREADS) {
            let column = i / DEPTH;
            let unit = first_unit + column % TILE;
            let k = k0 + i % DEPTH;
            var value = 0.0;
            if unit < p.hidden && k < p.hidden {
                value = w_hh[p.w_offset + ((column / TILE) * p.hidden + unit) * p.hidden + k];
            }
            w_tile[(i % DEPTH) * GATES * TILE + column] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            sum += h_tile[local.y * DEPTH + k] * tile_gates(k * GATES * TILE + local.x);
        }
        workgroupBarrier();
    }

    let unit = first_unit + local.x;
    let row = first_row + local.y;
    if row >= p.batch || unit >= p.hidden {
        return;
    }
    var x: array<f32, GATES>;
    var r = spread_gates(sum);
    for (var gate = 0u; gate < GATES; gate++) {
        x[gate] = gates[gate_index(t, row, gate, unit)];
        r[gate] += b_hh[p.b_offset + gate * p.hidden + unit];
    }
    var old: array<f32, STATES>;
    for (var state = 0u; state < STATES; state++) {
        old[state] = states[state_index(state, t, row, unit)];
    }
    let out = cell_forward(x, r, old);
    for (var block = 0u; block < SAVED; block++) {
        gates[gate_index(t, row, block, unit)] = out.saved[block];
    }
    for (var state = 0u; state < STATES; state++) {
        states[state_index(state, t + 1u, row, unit)] = out.states[state];
    }
}
