// One forward phase of a time step: a product over the old hidden state (or what an earlier phase
// left), fused with an epilogue by unit. For each row b and unit j, r_g = Σ_k source[b,k]·U_g[j,k]:
//     CELL       h(t+1), … = cell(gates[t] (the input product), r + b′, h(t), …); gates[t] keeps
//                what backward needs
//     CANDIDATE  reset-before GRU: n from the product with r⊙h, then the new state
//     PROJECT    h(t+1) = r, from the LSTM's unprojected output
//     PRODUCT    recurrent[t] = r, for the norm kernels (reset-before GRU: twice, from FIRST_GATE on)
#ifdef MATRICES
enable wgpu_cooperative_matrix;
#endif
#import shared/activations
#import shared/step
#ifndef PHASE_PRODUCT
#import shared/states
#endif
#ifdef CELL_PHASE
#import shared/cell
#endif
#import shared/forward

#ifdef MATRICES
#import shared/step_matrices

fn source_of(number: u32, row: u32, k: u32) -> f32 {
    return source(row, k, number);
}

// Where the weights of the block's units begin, at a term.
fn first_weight(block: Block, gate: u32, k: u32) -> u32 {
    return weight_index(gate, block.unit, k);
}

fn weight_of(block: Block, gate: u32, column: u32, k: u32) -> f32 {
    return weight(gate, block.unit + column, k);
}

#else
// A workgroup computes TILE batch rows by TILE units, DEPTH terms of the product at a time; a thread one
// unit of every THREAD_ROWS-th row.
const TILE = 16u;
const DEPTH = 32u;
const THREAD_ROWS = #{THREAD_ROWS}u;
const THREADS = TILE * THREAD_ROWS;

#ifndef DIRECT
const LINE = DEPTH / 4u;
const MASK = TILE * LINE;
var<workgroup> h_tile: array<vec4<f32>, SOURCES * MASK>;    // [mask][row][k / 4]
// Neighbouring threads write neighbouring terms of a unit: lines apart, so that those lie in other banks of the memory. Of
// four tiles of h there is no room for it.
#ifdef PER_GATE
const LINE_w = TILE;
#else
const LINE_w = TILE + 1u;
#endif
var<workgroup> w_tile: array<Sum, DEPTH * LINE_w>;          // [k][unit]

// Term i of a vector of the tile.
fn tile_term(at: u32, i: u32) -> f32 {
    return h_tile[at][i];
}
#import shared/gates_#{PRODUCTS}
#endif
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

// What becomes of the sums of one row and unit.
fn epilogue(row: u32, unit: u32, products: array<f32, PRODUCTS>) {
    let r = products;
#ifdef CELL_PHASE
    here = unit;
#endif
    let at = At(row, unit);
    let valid = has_flag(p.t, row, VALID);
#ifdef PHASE_CELL
    settle(at, r);
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

#ifdef MATRICES
@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(local_invocation_index) index: u32,
) {
#paste shared/step_block
    multiply(block, subgroup, index);
#for E in #{EACH}
    {
        let at = index + #{E}u * THREADS;
        let row = block.row + at / MATRIX;
        let unit = block.unit + at % MATRIX;
        if at < ROWS * MATRIX && row < p.batch && unit < block.end_unit {
            epilogue(row, unit, total_#{E});
        }
    }
#end
}
#else
@compute @workgroup_size(16, #{THREAD_ROWS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * TILE;
#ifdef DIRECT
    // Heads of few units (one: IndRNN): each thread sums its own few terms.
    let row = first_row + local.y;
    let unit = group.x * TILE + local.x;
    if row >= p.batch || unit >= p.units {
        return;
    }
    let first_k = (unit / p.head) * p.depth;
    var r = array<f32, PRODUCTS>();
    for (var gate = 0u; gate < PRODUCTS; gate++) {
        for (var k = 0u; k < p.depth; k++) {
            r[gate] += source(row, first_k + k, min(gate, SOURCES - 1u)) * weight(gate, unit, k);
        }
    }
    epilogue(row, unit, r);
#else
    // Units of one head: of all of them, where there is one.
    let tiles = (p.head + TILE - 1u) / TILE;
    let head = group.x / tiles;
    let first_k = head * p.depth;
    let first_unit = head * p.head + (group.x % tiles) * TILE;
    let end_unit = min((head + 1u) * p.head, p.units);
#for R in #{ROWS}
    var sum_#{R} = Sum();
#end
    for (var k0 = 0u; k0 < p.depth; k0 += DEPTH) {
        // Whole vectors: WGSL lets a write to one place of a vector touch the others.
        for (var i = index; i < SOURCES * MASK; i += THREADS) {
            let from_row = first_row + (i / LINE) % TILE;
            let k = k0 + i % LINE * 4u;
            var terms = vec4<f32>();
#for I in 0 1 2 3
            if from_row < p.batch && k + #{I}u < p.depth {
                terms[#{I}] = source(from_row, first_k + k + #{I}u, i / MASK);
            }
#end
            h_tile[i] = terms;
        }
        for (var i = index; i < DEPTH * TILE; i += THREADS) {
            let unit = first_unit + i / DEPTH;
            let k = k0 + i % DEPTH;
            var value = Sum();
            if unit < end_unit && k < p.depth {
                value = weights(unit, k);
            }
            w_tile[i % DEPTH * LINE_w + i / DEPTH] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < LINE; k++) {
            let column = k * 4u * LINE_w + local.x;
#for I in 0 1 2 3
            let weights_#{I} = w_tile[column + #{I}u * LINE_w];
#end
#for R in #{ROWS}
            {
                let at = (local.y + #{R}u * THREAD_ROWS) * LINE + k;
#ifdef PER_GATE
#for I in 0 1 2 3
                sum_#{R} += tile_sources(at, #{I}u) * weights_#{I};
#end
#else
                let terms = h_tile[at];
#for I in 0 1 2 3
                sum_#{R} += terms[#{I}] * weights_#{I};
#end
#endif
            }
#end
        }
        workgroupBarrier();
    }
    let unit = first_unit + local.x;
    if unit >= end_unit {
        return;
    }
#ifdef ONE_ROW
    if first_row + local.y < p.batch {
        epilogue(first_row + local.y, unit, spread_gates(sum_0));
    }
#else
    // The epilogue stands once.
    var sums = array<Sum, TILE / THREAD_ROWS>();
#for R in #{ROWS}
    sums[#{R}] = sum_#{R};
#end
    for (var i = 0u; i < TILE / THREAD_ROWS; i++) {
        let row = first_row + local.y + i * THREAD_ROWS;
        if row < p.batch {
            epilogue(row, unit, spread_gates(sums[i]));
        }
    }
#endif
#endif
}
#endif
