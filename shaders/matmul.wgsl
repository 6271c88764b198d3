// C = op(A)·op(B), tiled. A workgroup computes TILE_a×TILE_b of C, DEPTH terms of the sums (a slab) at
// a time; a thread has 4×4 blocks of them in registers. While one slab is multiplied out of workgroup
// memory the next one is on its way from the operands into registers, and goes into the other half of
// the workgroup memory: one barrier a slab. Edges are padded with zeros on loading.
//
// Each element of C is one accumulator over the terms in order, so all tiles give the same bits.
// ACCUMULATE starts the sums with what C holds: a sum over segments, one launch each, has the bits of
// the sum over the whole. DESCENDING takes the terms from the last to the first. BY_BLOCKS sums each
// block of terms from 0 by a workgroup of its own: one block is added to C, several are written one
// after the other, for kernel sum_parts. ACTIVATION is a function of the sum and the bias.
//
// COOPERATIVE: A and B lie in f16, and the sums are f32 in matrices of MATRIX×MATRIX that the threads of
// a subgroup hold together. A subgroup computes BLOCK_M×BLOCK_N of the tile:
//   sum[r,c] += a[r]·b[c] for each MATRIX terms, in order; inside of a matrix the device has its own.
// So all such tiles of one size of matrices give the same bits, others than the tiles of threads. What
// C held is added at the end.
#ifdef COOPERATIVE
enable wgpu_cooperative_matrix;
#endif
#import shared/group_number
#ifdef ACTIVATION
#import shared/activations
#endif

struct Params {
    m: u32,
    n: u32,
    k: u32,
    a_offset: u32,
    a_stride: u32,
    b_offset: u32,
    b_stride: u32,
    c_offset: u32,
    c_stride: u32,
    bias_offset: u32,
    row_sum_offset: u32,
    tiles_m: u32,
    tiles_n: u32,
    block: u32,
    places: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

const TILE_a = #{TILE_a}u;
const TILE_b = #{TILE_b}u;
const DEPTH = #{DEPTH}u;
#ifdef COOPERATIVE
const THREADS = #{THREADS}u;
// Threads of a subgroup.
const LANES = #{LANES}u;
const MATRIX = #{MATRIX}u;
const BLOCK_M = #{BLOCK_M}u;
const BLOCK_N = #{BLOCK_N}u;
#else
// Threads along n and m: a thread's blocks lie as far apart as there are threads, so that neighbours
// read neighbouring vectors.
const THREADS_N = #{THREADS_N}u;
const THREADS_M = #{THREADS_M}u;
const THREADS = THREADS_N * THREADS_M;
#endif
// Vectors of one term of a slab, and of a slab.
const LINE_a = TILE_a / 4u;
const LINE_b = TILE_b / 4u;
#ifdef COOPERATIVE
alias Four = vec4<f16>;

// A slab has each operand as it lies: rows of terms, or terms of rows. What coopLoad and coopStore want:
// - a row (coopLoadT) or column (coopLoad) of a matrix starts at 16 bytes: lines are eight elements apart
//   from whole ones, which also spreads them over the banks of the memory;
// - the stride counts what the pointer points to: ENTRY elements. Vulkan takes vectors, which threads
//   write at once; Metal takes single elements alone.
const ENTRY = #{ENTRY}u;
#for X in a b
#ifdef TERMS_IN_LINE_#{X}
const STRIDE_#{X} = DEPTH + 8u;
const SLAB_#{X} = TILE_#{X} * STRIDE_#{X};
const ROW_STEP_#{X} = STRIDE_#{X};
const TERM_STEP_#{X} = 1u;
#else
const STRIDE_#{X} = TILE_#{X} + 8u;
const SLAB_#{X} = DEPTH * STRIDE_#{X};
const ROW_STEP_#{X} = 1u;
const TERM_STEP_#{X} = STRIDE_#{X};
#endif
#ifdef STAGED_IN_VECTORS
var<workgroup> tile_#{X}: array<vec4<f16>, SLAB_#{X} / 4u>;
#else
var<workgroup> tile_#{X}: array<f16, SLAB_#{X}>;
#endif
#end
// A matrix of sums of each subgroup, on its way to C.
var<workgroup> sums: array<f32, THREADS / LANES * MATRIX * MATRIX>;
#ifdef ROW_SUM

fn staged(at: u32) -> f32 {
#ifdef STAGED_IN_VECTORS
    return f32(tile_a[at / 4u][at % 4u]);
#else
    return f32(tile_a[at]);
#endif
}

// Four rows of a term.
fn rows_a(term: u32, row: u32) -> vec4<f32> {
    let at = row * ROW_STEP_a + term * TERM_STEP_a;
    return vec4<f32>(
        staged(at),
        staged(at + ROW_STEP_a),
        staged(at + 2u * ROW_STEP_a),
        staged(at + 3u * ROW_STEP_a),
    );
}
#endif
#else
alias Four = vec4<f32>;

const SLAB_a = DEPTH * LINE_a;
const SLAB_b = DEPTH * LINE_b;

// [half][term][row / 4], vectors of four rows. Where a load brings four terms of one row, a thread loads those of four
// rows and turns them: whole vectors go into the workgroup memory and come out of it.
#for X in a b
#ifdef TERMS_IN_LINE_#{X}
const ALL_#{X} = SLAB_#{X} / 4u;    // loads of a slab
#endif
var<workgroup> tile_#{X}: array<vec4<f32>, 2u * SLAB_#{X}>;

fn rows_#{X}(i: u32) -> vec4<f32> {
    return tile_#{X}[i];
}
#end
#endif

// ROW_FLAGS: only the rows of C that are valid are computed, the others are 0. TERM_FLAGS: only the
// terms (rows of both stored operands) that are valid enter the sums.
fn term_valid(k: u32) -> bool {
#ifdef TERM_FLAGS
    return (flags[(p.first + k) / p.places] & 1u) != 0u;
#else
    return true;
#endif
}

fn row_valid(m: u32) -> bool {
#ifdef ROW_FLAGS
    return (flags[(p.first + m) / p.places] & 1u) != 0u;
#else
    return true;
#endif
}

// Both operands alike: a matrix of `rows` by terms (B by its columns), of which four elements are read
// at once as they lie: TERMS_IN_LINE of one row, else of one term.
#for X in a b
#ifdef VECTOR_#{X}
fn four_#{X}(at: u32, count: u32) -> vec4<f32> {
    return #{X}[at / 4u];
}
#else
fn four_#{X}(at: u32, count: u32) -> vec4<f32> {
    let i = min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(count - 1u));
    let all = vec4<f32>(#{X}[at], #{X}[at + i.y], #{X}[at + i.z], #{X}[at + i.w]);
    return select(vec4<f32>(), all, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count));
}
#endif

// Load number `i` of a slab that starts with term k0 and row r0.
#ifdef COOPERATIVE
fn load_#{X}(i: u32, r0: u32, rows: u32, k0: u32, terms: u32) -> Four {
#else
fn load_#{X}(i: u32, line: u32, r0: u32, rows: u32, k0: u32, terms: u32) -> Four {
#endif
#ifdef TERMS_IN_LINE_#{X}
#ifdef COOPERATIVE
    let row = r0 + i / (DEPTH / 4u);
#else
    if i >= ALL_#{X} {
        return Four();
    }
    let row = r0 + i / (DEPTH / 4u) * 4u + line;
#endif
    let k = k0 + i % (DEPTH / 4u) * 4u;
    if row >= rows || k >= terms {
        return Four();
    }
    return Four(four_#{X}(p.#{X}_offset + row * p.#{X}_stride + k, terms - k));
#else
    let row = r0 + i % LINE_#{X} * 4u;
    let k = k0 + i / LINE_#{X};
    if row >= rows || k >= terms || !term_valid(k) {
        return Four();
    }
    return Four(four_#{X}(p.#{X}_offset + k * p.#{X}_stride + row, rows - row));
#endif
}

#ifdef COOPERATIVE
fn put_#{X}(i: u32, value: Four) {
#ifdef TERMS_IN_LINE_#{X}
    let at = i / (DEPTH / 4u) * STRIDE_#{X} + i % (DEPTH / 4u) * 4u;
#else
    let at = i / LINE_#{X} * STRIDE_#{X} + i % LINE_#{X} * 4u;
#endif
#ifdef STAGED_IN_VECTORS
    tile_#{X}[at / 4u] = value;
#else
#for I in 0 1 2 3
    tile_#{X}[at + #{I}u] = value[#{I}u];
#end
#endif
}
#else
#ifdef TERMS_IN_LINE_#{X}
fn put_#{X}(half: u32, i: u32, value_0: Four, value_1: Four, value_2: Four, value_3: Four) {
    let at = half * SLAB_#{X} + i % (DEPTH / 4u) * 4u * LINE_#{X} + i / (DEPTH / 4u);
    if i < ALL_#{X} {
#for K in 0 1 2 3
        tile_#{X}[at + #{K}u * LINE_#{X}] = Four(value_0[#{K}], value_1[#{K}], value_2[#{K}], value_3[#{K}]);
#end
    }
}
#else
fn put_#{X}(half: u32, i: u32, value: Four) {
    tile_#{X}[half * SLAB_#{X} + i] = value;
}
#endif
#endif
#end

// What C holds, at row m and columns n … n+3; m < p.m.
fn before(m: u32, n: u32) -> vec4<f32> {
    let at = p.c_offset + m * p.c_stride + n;
#ifdef VECTOR_c
    if n < p.n {
        return c[at / 4u];
    }
    return vec4<f32>();
#else
    var value = vec4<f32>();
#for I in 0 1 2 3
    if n + #{I}u < p.n {
        value[#{I}u] = c[at + #{I}u];
    }
#end
    return value;
#endif
}

// What a sum starts with.
fn start(m: u32, n: u32) -> vec4<f32> {
#ifdef ACCUMULATE
#ifndef ADD_AT_END
    if m < p.m {
        return before(m, n);
    }
#endif
#endif
    return vec4<f32>();
}

fn store(m: u32, n: u32, part: u32, sum: vec4<f32>) {
    if m >= p.m || n >= p.n {
        return;
    }
    var value = sum;
#ifdef ADD_AT_END
    value += before(m, n);
#endif
#ifdef BIAS
    let last = p.n - 1u;
    value += vec4<f32>(
        bias[p.bias_offset + n],
        bias[p.bias_offset + min(n + 1u, last)],
        bias[p.bias_offset + min(n + 2u, last)],
        bias[p.bias_offset + min(n + 3u, last)],
    );
#endif
#ifdef ACTIVATION
#for I in 0 1 2 3
    value[#{I}] = act_#{ACTIVATION}(value[#{I}], #{ALPHA}, #{BETA});
#end
#endif
#ifdef ROW_FLAGS
    if !row_valid(m) {
#ifdef ACCUMULATE
        return;
#else
        value = vec4<f32>();
#endif
    }
#endif
    let at = p.c_offset + (part * p.m + m) * p.c_stride + n;
#ifdef VECTOR_c
    c[at / 4u] = value;
#else
#for I in 0 1 2 3
    if n + #{I}u < p.n {
        c[at + #{I}u] = value[#{I}u];
    }
#end
#endif
}

// The first term of a slab.
fn slab_term(slab: u32, slabs: u32, first_k: u32) -> u32 {
#ifdef DESCENDING
    return first_k + (slabs - 1u - slab) * DEPTH;
#else
    return first_k + slab * DEPTH;
#endif
}

// Cooperative matrices need whole subgroups along x.
#ifdef COOPERATIVE
@compute @workgroup_size(#{THREADS})
#else
@compute @workgroup_size(#{THREADS_N}, #{THREADS_M})
#endif
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
#ifdef COOPERATIVE
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#else
    @builtin(local_invocation_id) local: vec3<u32>,
#endif
    @builtin(local_invocation_index) index: u32,
) {
#ifdef COOPERATIVE
    // group_number, whose result naga does not see to be uniform.
    let number = group.x + group.y * groups.x;
#else
    let number = group_number(group, groups);
#endif
    let tile = number % (p.tiles_m * p.tiles_n);
    let part = number / (p.tiles_m * p.tiles_n);
    let first_k = part * p.block;
    // Past the last tile, where the spread over x and y is not exact. Uniform in the workgroup.
    if first_k >= p.k {
        return;
    }
    let end_k = min(first_k + p.block, p.k);
    let first_a = (tile / p.tiles_n) * TILE_a;
    let first_b = (tile % p.tiles_n) * TILE_b;

#ifdef COOPERATIVE
    // The subgroup's block in the tile. Should a driver make more subgroups than there are blocks, all
    // stay within their arrays. The sums too are named one by one.
    let team = subgroup % (THREADS / LANES);
    let block_m = team / (TILE_b / BLOCK_N) * BLOCK_M;
    let block_n = team % (TILE_b / BLOCK_N) * BLOCK_N;
#for R in #{ROWS}
#for C in #{COLUMNS}
    var sum_#{R}_#{C}: coop_mat#{MATRIX}x#{MATRIX}<f32, C>;
#end
#end
#else
    // Where not all threads have a load of A, the last ones have those of B.
    let lane_a = index;
    let lane_b = THREADS - 1u - index;
    // Rows and columns of this thread's blocks. The sums are named one by one, so that they stay in
    // registers.
    let m = first_a + local.y * 4u;
    let n = first_b + local.x * 4u;
#for R in #{ROWS}
#for I in 0 1 2 3
#for C in #{COLUMNS}
    var sum_#{R}_#{I}_#{C} = start(m + #{R}u * THREADS_M * 4u + #{I}u, n + #{C}u * THREADS_N * 4u);
#end
#end
#end
#endif
#ifdef ROW_SUM
    // Workgroups of the first column have them: a thread four rows.
    let sums_rows = first_b == 0u && index < LINE_a;
    let sum_row = first_a + index * 4u;
    var totals = vec4<f32>();
#ifdef ACCUMULATE
#ifndef BY_BLOCKS
#for I in 0 1 2 3
    if sums_rows && sum_row + #{I}u < p.m {
        totals[#{I}u] = row_sum[p.row_sum_offset + sum_row + #{I}u];
    }
#end
#endif
#endif
#endif

    let slabs = (end_k - first_k + DEPTH - 1u) / DEPTH;
    let rows_of_a = p.m;
    let rows_of_b = p.n;
#ifdef COOPERATIVE
    // What is on its way to the workgroup memory, of which there is one half here: that leaves more of it
    // for larger slabs.
    let first_slab = slab_term(0u, slabs, first_k);
#for X in a b
#for L in #{LOADS_#{X}}
    var next_#{X}_#{L} =
        load_#{X}(index + #{L}u * THREADS, first_#{X}, rows_of_#{X}, first_slab, end_k);
#end
#end
    for (var slab = 0u; slab < slabs; slab++) {
        workgroupBarrier();
#for X in a b
#for L in #{LOADS_#{X}}
        put_#{X}(index + #{L}u * THREADS, next_#{X}_#{L});
#end
#end
        workgroupBarrier();
        if slab + 1u < slabs {
            let k0 = slab_term(slab + 1u, slabs, first_k);
#for X in a b
#for L in #{LOADS_#{X}}
            next_#{X}_#{L} =
                load_#{X}(index + #{L}u * THREADS, first_#{X}, rows_of_#{X}, k0, end_k);
#end
#end
        }
        for (var k = 0u; k < DEPTH; k += MATRIX) {
#ifdef DESCENDING
            let term = DEPTH - MATRIX - k;
#else
            let term = k;
#endif
#for C in #{COLUMNS}
            let b_#{C} = #{LOAD_b}<coop_mat#{MATRIX}x#{MATRIX}<f16, B>>(
                &tile_b[((block_n + #{C}u * MATRIX) * ROW_STEP_b + term * TERM_STEP_b) / ENTRY],
                STRIDE_b / ENTRY,
            );
#end
#for R in #{ROWS}
            let a_#{R} = #{LOAD_a}<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(
                &tile_a[((block_m + #{R}u * MATRIX) * ROW_STEP_a + term * TERM_STEP_a) / ENTRY],
                STRIDE_a / ENTRY,
            );
#for C in #{COLUMNS}
            sum_#{R}_#{C} = coopMultiplyAdd(a_#{R}, b_#{C}, sum_#{R}_#{C});
#end
#end
        }
#ifdef ROW_SUM
        if sums_rows {
            for (var k = 0u; k < DEPTH; k++) {
#ifdef DESCENDING
                totals += rows_a(DEPTH - 1u - k, index * 4u);
#else
                totals += rows_a(k, index * 4u);
#endif
            }
        }
#endif
    }
#else
    for (var slab = 0u; slab <= slabs; slab++) {
        let k0 = slab_term(min(slab, slabs - 1u), slabs, first_k);
#for X in a b
#for L in #{LOADS_#{X}}
#for J in #{LINES_#{X}}
        var next_#{X}_#{L}_#{J} = Four();
#end
#end
#end
        if slab < slabs {
#for X in a b
#for L in #{LOADS_#{X}}
#for J in #{LINES_#{X}}
            next_#{X}_#{L}_#{J} =
                load_#{X}(lane_#{X} + #{L}u * THREADS, #{J}u, first_#{X}, rows_of_#{X}, k0, end_k);
#end
#end
#end
        }
        if slab > 0u {
            let half = (slab - 1u) % 2u;
            let at_a = half * SLAB_a + local.y;
            let at_b = half * SLAB_b + local.x;
            for (var term = 0u; term < DEPTH; term += 4u) {
#for K in 0 1 2 3
                {
#ifdef DESCENDING
                    let k = DEPTH - 1u - #{K}u - term;
#else
                    let k = term + #{K}u;
#endif
#for C in #{COLUMNS}
                    let b_#{C} = rows_b(at_b + k * LINE_b + #{C}u * THREADS_N);
#end
#for R in #{ROWS}
                    let a_#{R} = rows_a(at_a + k * LINE_a + #{R}u * THREADS_M);
#for C in #{COLUMNS}
#for I in 0 1 2 3
                    sum_#{R}_#{I}_#{C} = fma(vec4<f32>(a_#{R}[#{I}]), b_#{C}, sum_#{R}_#{I}_#{C});
#end
#end
#end
                }
#end
            }
#ifdef ROW_SUM
            if sums_rows {
                for (var i = 0u; i < DEPTH; i++) {
#ifdef DESCENDING
                    totals += rows_a(half * SLAB_a + (DEPTH - 1u - i) * LINE_a + index);
#else
                    totals += rows_a(half * SLAB_a + i * LINE_a + index);
#endif
                }
            }
#endif
        }
        if slab < slabs {
#for X in a b
#for L in #{LOADS_#{X}}
            put_#{X}(
                slab % 2u,
                lane_#{X} + #{L}u * THREADS,
#for J in #{LINES_#{X}}
                next_#{X}_#{L}_#{J},
#end
            );
#end
#end
        }
        workgroupBarrier();
    }
#endif

#ifdef COOPERATIVE
    // A matrix after the other through the subgroup's part of the workgroup memory, from where its threads
    // take vectors of rows.
#for R in #{ROWS}
#for C in #{COLUMNS}
    coopStoreT(sum_#{R}_#{C}, &sums[team * MATRIX * MATRIX], MATRIX);
    workgroupBarrier();
    for (var i = lane * 4u; i < MATRIX * MATRIX; i += LANES * 4u) {
        let at = team * MATRIX * MATRIX + i;
        store(
            first_a + block_m + #{R}u * MATRIX + i / MATRIX,
            first_b + block_n + #{C}u * MATRIX + i % MATRIX,
            part,
            vec4<f32>(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]),
        );
    }
    workgroupBarrier();
#end
#end
#else
#for R in #{ROWS}
#for I in 0 1 2 3
#for C in #{COLUMNS}
    store(
        m + #{R}u * THREADS_M * 4u + #{I}u,
        n + #{C}u * THREADS_N * 4u,
        part,
        sum_#{R}_#{I}_#{C},
    );
#end
#end
#end
#endif
#ifdef ROW_SUM
#for I in 0 1 2 3
    if sums_rows && sum_row + #{I}u < p.m {
        let at = p.row_sum_offset + part * p.m + sum_row + #{I}u;
#ifdef BY_BLOCKS
#ifdef ACCUMULATE
        totals[#{I}u] += row_sum[at];
#endif
#endif
        row_sum[at] = totals[#{I}u];
    }
#end
#endif
}
