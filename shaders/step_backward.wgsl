// One backward phase of time step t: a product over gradients, fused with an epilogue by unit.
//     CELL       dh(t+1) = d_output[t] + carry_h + Σ_k d_r(later)[k]·U[k,j], where d_r is the gradient
//                of the recurrent product of the step that came after; then the cell's derivative
//                turns dh and carry into the gate gradients of step t (over the activations in
//                gates[t]) and into the carry of the step before
//     CANDIDATE  reset-before GRU: Σ_k dn[k]·U_n[k,j] → dr and the rest of the carry
//     PROJECT    dh as in CELL → d_candidate, the gradient of h's candidate
//     UNPROJECT  Σ_k d_candidate[k]·W_hr[k,j] → the LSTM's derivative
//     RAW        the same sum → d_unprojected, for the norm kernel
//     COLUMNS    Σ_k d_r(later)[k]·U[k,j] → d_columns, the gradient of a convolution's columns: of
//                all gates together, or a part for each whose mask is its own (OF_CANDIDATE: of n)
//     INITIAL    ends the sweep: carry_h + Σ_k d_r(later)[k]·U[k,j] → carry_h
#ifdef MATRICES
enable wgpu_cooperative_matrix;
#endif
#import shared/step
#ifdef HAS_states
#import shared/states
#endif
#ifdef HAS_carry
#import shared/carry
#endif
#ifdef CELL_PHASE
#import shared/activations
#import shared/cell
#endif
#import shared/backward
#ifdef FROM_COLUMNS
#import shared/from_columns
#endif

const PARTS = #{PARTS}u;

#ifdef MATRICES
#import shared/step_matrices

fn source_of(gate: u32, row: u32, k: u32) -> f32 {
    return source(gate, row, k);
}

// Where the weights of the block's units begin, at a term.
fn first_weight(block: Block, gate: u32, k: u32) -> u32 {
    return weight_index(gate, block.first_k + k, block.unit - block.head_unit);
}

fn weight_of(block: Block, gate: u32, column: u32, k: u32) -> f32 {
    return weight(gate, block.first_k + k, block.unit - block.head_unit + column);
}

#else
const TILE = 16u;
const DEPTH = 32u;
// A thread computes every THREAD_ROWS-th row of the tile, of SPAN units that are TILE apart.
const THREAD_ROWS = #{THREAD_ROWS}u;
const SPAN = #{SPAN_COUNT}u;
const WIDE = TILE * SPAN;
const THREADS = TILE * THREAD_ROWS;

#ifndef BY_UNIT
const LINE = DEPTH / 4u;
var<workgroup> d_tile: array<vec4<f32>, TILE * LINE>;    // [row][k / 4]
var<workgroup> w_tile: array<vec4<f32>, LINE * WIDE>;    // [k / 4][unit]
#endif
#endif

#ifndef FROM_COLUMNS
// Term k of gate `gate` of the product's left operand.
fn source(gate: u32, row: u32, k: u32) -> f32 {
#ifdef OF_CANDIDATE
#ifdef HAS_recurrent
    return recurrent[((p.t * p.batch + row) * G_COUNT + 2u) * p.hidden + k];
#else
    return gates[gate_index(p.t, 2u, At(row, k))];
#endif
#else
#ifdef FROM_CANDIDATE
    return d_candidate[p.candidate_offset + row * p.width + k];
#else
#ifdef HAS_recurrent
    return recurrent[((p.later * p.batch + row) * G_COUNT + gate) * p.hidden + k];
#else
    return gates[gate_index(p.later, recurrent_block(gate), At(row, k))];
#endif
#endif
#endif
}
#endif

// A gate's own share of the columns' gradient.
fn set_part(gate: u32, row: u32, unit: u32, share: f32) {
#ifdef PHASE_COLUMNS
    if PARTS > 1u {
        d_columns[(row * PARTS + gate) * p.units + unit] = share;
    }
#endif
}

// What becomes of one row's and unit's sum; `heard`: it is of a step that came after.
fn epilogue(row: u32, unit: u32, product: f32, heard: bool) {
    var sum = all_masked(row, unit, product);
    let at = At(row, unit);
#ifdef PHASE_COLUMNS
    if PARTS == 1u {
        d_columns[row * p.units + unit] = sum;
    }
#endif
#ifdef PHASE_RAW
    d_unprojected[row * p.units + unit] = sum;
#endif
#ifdef HAS_carry
#ifdef CELL_PHASE
    here = unit;
#endif
#ifdef HAS_d_unit
    here_row = row;
#endif
#ifdef COMPLETE_DH
    let total = passed(at, sum, heard);
#endif
#ifdef PHASE_INITIAL
    carry[carry_index(0u, at)] = total;
#endif
#ifdef PHASE_PROJECT
    let d = split(0u, at, total + output_gradient(at));
    d_candidate[p.candidate_offset + row * p.width + unit] = d.candidate;
    set_carry(0u, at, d.old);
#endif
#ifdef PHASE_CELL
    settle(at, total);
#endif
#ifdef PHASE_UNPROJECT
    if has_flag(p.t, row, VALID) {
        backward_cell(at, Split(sum, 0.0));
    } else {
        drop_cell(at, Split(0.0, 0.0));
    }
#endif
#ifdef PHASE_CANDIDATE
    if has_flag(p.t, row, VALID) {
        backward_candidate(at, sum);
    }
#endif
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
#ifdef COMPLETE_DH
    // The last step has no later one to hear from.
    let heard = p.later != NONE;
#else
    let heard = true;
#endif
    if heard {
        multiply(block, subgroup, index);
    }
#for E in #{EACH}
    {
        let at = index + #{E}u * THREADS;
        let row = block.row + at / MATRIX;
        let unit = block.unit + at % MATRIX;
        if at < ROWS * MATRIX && row < p.batch && unit < block.end_unit {
            var sum = 0.0;
#for P in #{PLANES}
            if heard {
                sum += masked(#{P}u, row, unit, total_#{E}[#{P}]);
                set_part(#{P}u, row, unit, total_#{E}[#{P}]);
            }
#end
            epilogue(row, unit, sum, heard);
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
#ifdef COMPLETE_DH
    // The last step has no later one to hear from.
    let products = select(#{PRODUCTS}u, 0u, p.later == NONE);
#else
    let products = #{PRODUCTS}u;
#endif
#ifdef BY_UNIT
    let row = first_row + local.y;
    let unit = group.x * TILE + local.x;
    if row >= p.batch || unit >= p.units {
        return;
    }
    var sum = 0.0;
#ifdef FROM_COLUMNS
    if products > 0u {
        for (var part = 0u; part < PARTS; part++) {
            sum += masked(part, row, unit, from_columns(row, part, unit));
        }
    }
#else
    let head = unit / p.head;
    let first_k = head * p.terms;
    for (var gate = 0u; gate < products; gate++) {
        var share = 0.0;
        for (var k = 0u; k < p.terms; k++) {
            share += source(gate, row, first_k + k) * weight(gate, first_k + k, unit - head * p.head);
        }
        sum += masked(gate, row, unit, share);
        set_part(gate, row, unit, share);
    }
#endif
    epilogue(row, unit, sum, products > 0u);
#else
    let tiles = (p.head + WIDE - 1u) / WIDE;
    let head = group.x / tiles;
    let head_unit = head * p.head;
    let first_unit = head_unit + (group.x % tiles) * WIDE;
    let end_unit = min(head_unit + p.head, p.units);
    // Block-diagonal weights: the terms of this head, its columns counted from 0.
    let first_k = head * p.terms;
#for R in #{ROWS}
#for J in #{SPAN}
    var sum_#{R}_#{J} = 0.0;
#end
#end
    for (var gate = 0u; gate < products; gate++) {
#for R in #{ROWS}
#for J in #{SPAN}
        var share_#{R}_#{J} = 0.0;
#end
#end
        for (var k0 = 0u; k0 < p.terms; k0 += DEPTH) {
            // Whole vectors: WGSL lets a write to one place of a vector touch the others.
            for (var i = index; i < TILE * LINE; i += THREADS) {
                let from_row = first_row + i / LINE;
                let k = k0 + i % LINE * 4u;
                var terms = vec4<f32>();
#for I in 0 1 2 3
                if from_row < p.batch && k + #{I}u < p.terms {
                    terms[#{I}] = source(gate, from_row, first_k + k + #{I}u);
                }
#end
                d_tile[i] = terms;
            }
            for (var i = index; i < LINE * WIDE; i += THREADS) {
                let k = k0 + i / WIDE * 4u;
                let column = first_unit + i % WIDE;
                var weights = vec4<f32>();
#for I in 0 1 2 3
                if k + #{I}u < p.terms && column < end_unit {
                    weights[#{I}] = weight(gate, first_k + k + #{I}u, column - head_unit);
                }
#end
                w_tile[i] = weights;
            }
            workgroupBarrier();
            for (var k = 0u; k < LINE; k++) {
#for J in #{SPAN}
                let weights_#{J} = w_tile[k * WIDE + #{J}u * TILE + local.x];
#end
#for R in #{ROWS}
                let terms_#{R} = d_tile[(local.y + #{R}u * THREAD_ROWS) * LINE + k];
#for J in #{SPAN}
#for I in 0 1 2 3
                share_#{R}_#{J} += terms_#{R}[#{I}] * weights_#{J}[#{I}];
#end
#end
#end
            }
            workgroupBarrier();
        }
#for R in #{ROWS}
#for J in #{SPAN}
        {
            let row = first_row + local.y + #{R}u * THREAD_ROWS;
            let unit = first_unit + local.x + #{J}u * TILE;
            if row < p.batch && unit < end_unit {
                sum_#{R}_#{J} += masked(gate, row, unit, share_#{R}_#{J});
                set_part(gate, row, unit, share_#{R}_#{J});
            }
        }
#end
#end
    }
#ifdef ONE_ROW
    let unit = first_unit + local.x;
    if first_row + local.y < p.batch && unit < end_unit {
        epilogue(first_row + local.y, unit, sum_0_0, products > 0u);
    }
#else
    // The epilogue stands once.
    var sums = array<f32, TILE / THREAD_ROWS * SPAN>();
#for R in #{ROWS}
#for J in #{SPAN}
    sums[#{R}u * SPAN + #{J}u] = sum_#{R}_#{J};
#end
#end
    for (var i = 0u; i < TILE / THREAD_ROWS * SPAN; i++) {
        let row = first_row + local.y + i / SPAN * THREAD_ROWS;
        let unit = first_unit + local.x + i % SPAN * TILE;
        if row < p.batch && unit < end_unit {
            epilogue(row, unit, sums[i], products > 0u);
        }
    }
#endif
#endif
}
#endif
