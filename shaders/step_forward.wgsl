// One forward phase of a time step: a product over the old hidden state (or what an earlier phase
// left), fused with an epilogue by unit. For each row b and unit j, r_g = Σ_k source[b,k]·U_g[j,k]:
//     CELL       h(t+1), … = cell(gates[t] (the input product), r + b′, h(t), …); gates[t] keeps
//                what backward needs
//     CANDIDATE  reset-before GRU: n from the product with r⊙h, then the new state
//     PROJECT    h(t+1) = r, from the LSTM's unprojected output
//     PRODUCT    recurrent[t] = r, for the norm kernels (reset-before GRU: twice, from FIRST_GATE on)
#import shared/activations
#import shared/step
#ifndef PHASE_PRODUCT
#import shared/states
#endif
#ifdef CELL_PHASE
#import shared/cell
#endif

const PRODUCTS = #{PRODUCTS}u;   // gates of this phase
// A workgroup computes TILE batch rows by TILE units, DEPTH terms of the product at a time.
const TILE = 16u;
const DEPTH = 32u;
const THREADS = 256u;
// Left operands: one for all gates, or h under each gate's own mask.
const SOURCES = #{SOURCES}u;

#ifndef DIRECT
const LINE = DEPTH / 4u;
const MASK = TILE * LINE;
var<workgroup> h_tile: array<vec4<f32>, SOURCES * MASK>;    // [mask][row][k / 4]
var<workgroup> w_tile: array<Sum, DEPTH * TILE>;            // [k][unit]
#import shared/gates_#{PRODUCTS}
#endif

// Term k of the product's left operand.
fn source(row: u32, k: u32, mask: u32) -> f32 {
#ifdef HAS_columns
    return columns[(row * SOURCES + mask) * p.depth * (p.units / p.head) + k];
#else
#ifdef SOURCE_BLOCK
    return gates[gate_index(p.t, #{SOURCE_BLOCK}u, At(row, k))];
#else
    if has_flag(p.t, row, RESET) {
        return 0.0;
    }
    var value = states[state_index(0u, p.old_slot, At(row, k))];
#ifdef HAS_hidden_mask
    value *= hidden_mask[(mask * p.batch + row) * p.width + k];
#endif
    return value;
#endif
#endif
}

fn weight(gate: u32, unit: u32, k: u32) -> f32 {
    return w[p.w_offset + (gate * p.hidden + unit) * p.depth + k];
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * TILE;
    let row = first_row + local.y;
#ifdef DIRECT
    // Heads of few units (one: IndRNN): each thread sums its own few terms.
    let unit = group.x * TILE + local.x;
    if row >= p.batch || unit >= p.units {
        return;
    }
    let first_k = (unit / p.head) * p.depth;
    var r: array<f32, PRODUCTS>;
    for (var gate = 0u; gate < PRODUCTS; gate++) {
        for (var k = 0u; k < p.depth; k++) {
            r[gate] += source(row, first_k + k, min(gate, SOURCES - 1u)) * weight(gate, unit, k);
        }
    }
#else
    // Units of one head: of all of them, where there is one.
    let tiles = (p.head + TILE - 1u) / TILE;
    let head = group.x / tiles;
    let first_k = head * p.depth;
    let first_unit = head * p.head + (group.x % tiles) * TILE;
    let end_unit = min((head + 1u) * p.head, p.units);
    var sum: Sum;
    for (var k0 = 0u; k0 < p.depth; k0 += DEPTH) {
        for (var i = index; i < SOURCES * TILE * DEPTH; i += THREADS) {
            let from_row = first_row + (i / DEPTH) % TILE;
            let k = k0 + i % DEPTH;
            var value = 0.0;
            if from_row < p.batch && k < p.depth {
                value = source(from_row, first_k + k, i / (TILE * DEPTH));
            }
            h_tile[i / 4u][i % 4u] = value;
        }
        for (var i = index; i < DEPTH * TILE; i += THREADS) {
            let unit = first_unit + i / DEPTH;
            let k = k0 + i % DEPTH;
            var value: Sum;
            if unit < end_unit && k < p.depth {
                value = weights(unit, k);
            }
            w_tile[i % DEPTH * TILE + i / DEPTH] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < LINE; k++) {
            let at = local.y * LINE + k;
            let column = k * 4u * TILE + local.x;
#ifdef PER_GATE
#for I in 0 1 2 3
            sum += tile_sources(at, #{I}u) * w_tile[column + #{I}u * TILE];
#end
#else
            let terms = h_tile[at];
#for I in 0 1 2 3
            sum += terms[#{I}] * w_tile[column + #{I}u * TILE];
#end
#endif
        }
        workgroupBarrier();
    }
    let unit = first_unit + local.x;
    if row >= p.batch || unit >= end_unit {
        return;
    }
    var r = spread_gates(sum);
#endif

#ifdef CELL_PHASE
    here = unit;
#endif
    let at = At(row, unit);
    let valid = has_flag(p.t, row, VALID);
#ifdef PHASE_CELL
    if valid {
        for (var gate = 0u; gate < PRODUCTS; gate++) {
            r[gate] += b[p.b_offset + gate * p.hidden + unit];
        }
        forward_cell(at, r);
    } else {
        keep_cell(at);
    }
#endif
#ifdef PHASE_CANDIDATE
    if valid {
        forward_candidate(at, r[0] + b[p.b_offset + 2u * p.hidden + unit]);
    } else {
        keep_state(0u, at);
    }
#endif
#ifdef PHASE_PROJECT
    if valid {
        set_state(0u, at, r[0]);
    } else {
        keep_state(0u, at);
    }
#endif
#ifdef PHASE_PRODUCT
    for (var gate = 0u; gate < PRODUCTS; gate++) {
        let block = (p.t * p.batch + row) * G_COUNT + #{FIRST_GATE}u + gate;
        recurrent[block * p.hidden + unit] = r[gate];
    }
#endif
}
