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
// Threads along n and m: a thread's blocks lie as far apart as there are threads, so that neighbours
// read neighbouring vectors.
const THREADS_N = #{THREADS_N}u;
const THREADS_M = #{THREADS_M}u;
const THREADS = THREADS_N * THREADS_M;
// Vectors of a slab, and of one term of it.
const LINE_a = TILE_a / 4u;
const LINE_b = TILE_b / 4u;
const SLAB_a = DEPTH * LINE_a;
const SLAB_b = DEPTH * LINE_b;

// [half][term][row / 4], vectors of four rows. Where a load brings four terms of one row, their places are
// written one by one, by threads that must not touch the rest of the vector: it is declared in words.
#for X in a b
#ifdef TERMS_IN_LINE_#{X}
var<workgroup> tile_#{X}: array<f32, 8u * SLAB_#{X}>;

fn rows_#{X}(i: u32) -> vec4<f32> {
    return vec4<f32>(tile_#{X}[4u * i], tile_#{X}[4u * i + 1u], tile_#{X}[4u * i + 2u], tile_#{X}[4u * i + 3u]);
}
#else
var<workgroup> tile_#{X}: array<vec4<f32>, 2u * SLAB_#{X}>;

fn rows_#{X}(i: u32) -> vec4<f32> {
    return tile_#{X}[i];
}
#endif
#end

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
fn load_#{X}(i: u32, r0: u32, rows: u32, k0: u32, terms: u32) -> vec4<f32> {
#ifdef TERMS_IN_LINE_#{X}
    let row = r0 + i / (DEPTH / 4u);
    let k = k0 + i % (DEPTH / 4u) * 4u;
    if row >= rows || k >= terms {
        return vec4<f32>();
    }
    return four_#{X}(p.#{X}_offset + row * p.#{X}_stride + k, terms - k);
#else
    let row = r0 + i % LINE_#{X} * 4u;
    let k = k0 + i / LINE_#{X};
    if row >= rows || k >= terms || !term_valid(k) {
        return vec4<f32>();
    }
    return four_#{X}(p.#{X}_offset + k * p.#{X}_stride + row, rows - row);
#endif
}

fn put_#{X}(half: u32, i: u32, value: vec4<f32>) {
#ifdef TERMS_IN_LINE_#{X}
    let row = i / (DEPTH / 4u);
    let at = (half * DEPTH + i % (DEPTH / 4u) * 4u) * TILE_#{X} + row;
    tile_#{X}[at] = value.x;
    tile_#{X}[at + TILE_#{X}] = value.y;
    tile_#{X}[at + 2u * TILE_#{X}] = value.z;
    tile_#{X}[at + 3u * TILE_#{X}] = value.w;
#else
    tile_#{X}[half * SLAB_#{X} + i] = value;
#endif
}
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
    var value: vec4<f32>;
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
#ifndef BY_BLOCKS
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
#ifdef ACCUMULATE
#ifdef BY_BLOCKS
    value += before(m, n);
#endif
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

@compute @workgroup_size(#{THREADS_N}, #{THREADS_M})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let number = group_number(group, groups);
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
#ifdef ROW_SUM
    // Workgroups of the first column have them: a thread four rows.
    let sums_rows = first_b == 0u && index < LINE_a;
    let sum_row = first_a + index * 4u;
    var totals: vec4<f32>;
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
    for (var slab = 0u; slab <= slabs; slab++) {
#ifdef DESCENDING
        let k0 = first_k + (slabs - 1u - min(slab, slabs - 1u)) * DEPTH;
#else
        let k0 = first_k + slab * DEPTH;
#endif
#for X in a b
#for L in #{LOADS_#{X}}
        var next_#{X}_#{L}: vec4<f32>;
#end
#end
        if slab < slabs {
#for L in #{LOADS_a}
            next_a_#{L} = load_a(index + #{L}u * THREADS, first_a, p.m, k0, end_k);
#end
#for L in #{LOADS_b}
            next_b_#{L} = load_b(index + #{L}u * THREADS, first_b, p.n, k0, end_k);
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
            put_#{X}(slab % 2u, index + #{L}u * THREADS, next_#{X}_#{L});
#end
#end
        }
        workgroupBarrier();
    }

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
