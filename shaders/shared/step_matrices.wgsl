// A step's products in matrices of MATRIX×MATRIX that the threads of a subgroup multiply together, from f16 into f32: for
// ROWS batch rows and MATRIX units of each plane (a gate; all gates together, where their sums add up),
//     sum[plane][row, unit] = Σ_k source[row, k]·U_g[k, unit]
// Each of SLICES subgroups sums a slice of the terms, DEEP matrices of them a round; then the slices are added in order.
// What is multiplied by the weights passes through workgroup memory, where it becomes f16 and padding 0. Weights come from
// where they lie (WHOLE: lines of whole matrices), else they pass through it too.
const MATRIX = #{MATRIX}u;
const LANES = #{LANES}u;
const SLICES = #{SLICES}u;
const ROWS = #{ROW_BLOCK_COUNT}u * MATRIX;
const THREADS = SLICES * LANES;
const ROUND = #{DEEP_COUNT}u * MATRIX;          // terms of a slice in a round
const LINE = SLICES * ROUND + 8u;               // rows begin in other banks of the memory
const PART_LINE = MATRIX + 4u;
const WEIGHTS = MATRIX * MATRIX;
const GATES_A_PASS = #{GATES_A_PASS}u;

var<workgroup> source_tile: array<f16, ROWS * LINE>;                            // [row][slice][term]
#ifndef WHOLE
var<workgroup> weight_tile: array<f16, SLICES * ROUND * GATES_A_PASS * MATRIX>; // [slice][gate][term / MATRIX][…]
#endif
var<workgroup> parts: array<f32, SLICES * ROWS * PART_LINE>;                    // [slice][row][unit]

// What a thread's rows and units sum up to, [which of them][plane].
#for E in #{EACH}
var<private> total_#{E}: array<f32, #{PLANE_COUNT}>;
#end

// What a workgroup computes: rows and units from these on, units of one head, whose terms begin at first_k.
struct Block {
    row: u32,
    unit: u32,
    end_unit: u32,
    head_unit: u32,
    first_k: u32,
    terms: u32,
}

// A plane's sum for one of the workgroup's rows and units.
fn added(at: u32) -> f32 {
    var sum = 0.0;
    for (var slice = 0u; slice < SLICES; slice++) {
        sum += parts[(slice * ROWS + at / MATRIX) * PART_LINE + at % MATRIX];
    }
    return sum;
}

// Should a driver make more subgroups than there are slices, all stay within their arrays.
fn multiply(block: Block, subgroup: u32, index: u32) {
    let slice = subgroup % SLICES;
    let rounds = (block.terms + SLICES * ROUND - 1u) / (SLICES * ROUND);
    let slice_k = slice * rounds * ROUND;
#for R in #{ROW_BLOCKS}
#for P in #{PLANES}
    var sum_#{R}_#{P}: coop_mat#{MATRIX}x#{MATRIX}<f32, C>;
#end
#end
    // One after another the sources: h for all gates, or each gate's own.
#for Q in #{PASSES}
    for (var round = 0u; round < rounds; round++) {
#ifdef WHOLE
        // Under way while the sources are read. Behind the last term those are 0.
#for K in #{DEEP}
        let k_#{K} = min(slice_k + round * ROUND + #{K}u * MATRIX, block.terms - MATRIX);
#for G in #{GATES_#{Q}}
        let w_#{G}_#{K} = #{LOAD_w}<coop_mat#{MATRIX}x#{MATRIX}<f16, B>>(&w[first_weight(block, #{G}u, k_#{K})], p.depth);
#end
#end
#endif
        for (var i = index; i < ROWS * SLICES * ROUND; i += THREADS) {
            let row = i / (SLICES * ROUND);
            let of_slice = i % (SLICES * ROUND) / ROUND;
            let k = (of_slice * rounds + round) * ROUND + i % ROUND;
            var value = 0.0;
            if block.row + row < p.batch && k < block.terms {
                value = source_of(#{Q}u, block.row + row, block.first_k + k);
            }
            source_tile[row * LINE + i % (SLICES * ROUND)] = f16(value);
        }
#ifndef WHOLE
#for G in #{GATES_#{Q}}
        for (var i = index; i < SLICES * ROUND * MATRIX; i += THREADS) {
            let of_slice = i / (ROUND * MATRIX);
            // As they lie, forward the terms of a unit follow one another, backward the units of a term.
#ifdef BACKWARD
            let column = i % MATRIX;
            let term = i % (ROUND * MATRIX) / MATRIX;
            let place = i % (ROUND * MATRIX);
#else
            let column = i % (ROUND * MATRIX) / ROUND;
            let term = i % ROUND;
            let place = term / MATRIX * WEIGHTS + column * MATRIX + term % MATRIX;
#endif
            let k = (of_slice * rounds + round) * ROUND + term;
            var value = 0.0;
            if block.unit + column < block.end_unit && k < block.terms {
                value = weight_of(block, #{G}u, column, k);
            }
            weight_tile[(of_slice * GATES_A_PASS + #{G}u % GATES_A_PASS) * ROUND * MATRIX + place] = f16(value);
        }
#end
#endif
        workgroupBarrier();
#for K in #{DEEP}
#ifndef WHOLE
#for G in #{GATES_#{Q}}
        let w_#{G}_#{K} = #{LOAD_w}<coop_mat#{MATRIX}x#{MATRIX}<f16, B>>(&weight_tile[((slice * GATES_A_PASS + #{G}u % GATES_A_PASS) * #{DEEP_COUNT}u + #{K}u) * WEIGHTS], MATRIX);
#end
#endif
#for R in #{ROW_BLOCKS}
        {
            let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&source_tile[#{R}u * MATRIX * LINE + slice * ROUND + #{K}u * MATRIX], LINE);
#for G in #{GATES_#{Q}}
            sum_#{R}_#{PLANE_#{G}} = coopMultiplyAdd(terms, w_#{G}_#{K}, sum_#{R}_#{PLANE_#{G}});
#end
        }
#end
#end
        workgroupBarrier();
    }
#end
#for P in #{PLANES}
#for R in #{ROW_BLOCKS}
    coopStoreT(sum_#{R}_#{P}, &parts[(slice * ROWS + #{R}u * MATRIX) * PART_LINE], PART_LINE);
#end
    workgroupBarrier();
#for E in #{EACH}
    total_#{E}[#{P}] = added((index + #{E}u * THREADS) % (ROWS * MATRIX));
#end
    workgroupBarrier();
#end
}
