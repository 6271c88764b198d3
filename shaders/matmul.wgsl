// C = op(A)·op(B), tiled: a workgroup computes 64×64 of C, each thread 4×4 of them, 16 terms of
// the sums at a time through workgroup memory. Edges are padded with zeros on loading. ACCUMULATE
// starts the sums with what C holds: a sum over segments, one launch each, has the bits of the sum
// over the whole. DESCENDING takes the terms from the last to the first.
#import shared/group_number

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
    tiles_n: u32,
    places: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

const TILE = 64u;
const DEPTH = 16u;
const THREADS = 256u;

var<workgroup> a_tile: array<f32, DEPTH * TILE>;    // [k][m]
var<workgroup> b_tile: array<f32, DEPTH * TILE>;    // [k][n]

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

// The term that comes as number `i`; past the end where there is none.
fn term(i: u32) -> u32 {
#ifdef DESCENDING
    return p.k - 1u - i;
#else
    return i;
#endif
}

fn load_a(m: u32, i: u32) -> f32 {
    let k = term(i);
    if m >= p.m || k >= p.k || !term_valid(k) {
        return 0.0;
    }
#ifdef A_TRANSPOSED
    return a[p.a_offset + k * p.a_stride + m];
#else
    return a[p.a_offset + m * p.a_stride + k];
#endif
}

fn load_b(i: u32, n: u32) -> f32 {
    let k = term(i);
    if k >= p.k || n >= p.n || !term_valid(k) {
        return 0.0;
    }
#ifdef B_TRANSPOSED
    return b[p.b_offset + n * p.b_stride + k];
#else
    return b[p.b_offset + k * p.b_stride + n];
#endif
}

// What C holds before the sums.
fn before(m: u32, n: u32) -> f32 {
#ifdef ACCUMULATE
    if m < p.m && n < p.n {
        return c[p.c_offset + m * p.c_stride + n];
    }
#endif
    return 0.0;
}

fn before_row(m: u32, n: u32) -> vec4<f32> {
    return vec4<f32>(before(m, n), before(m, n + 1u), before(m, n + 2u), before(m, n + 3u));
}

fn store(m: u32, n: u32, sum: f32) {
    if n >= p.n {
        return;
    }
    var value = sum;
#ifdef BIAS
    value += bias[p.bias_offset + n];
#endif
    c[p.c_offset + m * p.c_stride + n] = select(before(m, n), value, row_valid(m));
}

fn store_row(m: u32, n: u32, sum: vec4<f32>) {
    if m >= p.m {
        return;
    }
    store(m, n, sum.x);
    store(m, n + 1u, sum.y);
    store(m, n + 2u, sum.z);
    store(m, n + 3u, sum.w);
}

#ifdef ROW_SUM
fn sum_before(m: u32) -> f32 {
#ifdef ACCUMULATE
    if m < p.m {
        return row_sum[p.row_sum_offset + m];
    }
#endif
    return 0.0;
}

fn store_sum(m: u32, sum: f32) {
    if m < p.m {
        row_sum[p.row_sum_offset + m] = sum;
    }
}
#endif

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let tile = group_number(group, groups);
    let first_m = (tile / p.tiles_n) * TILE;
    let first_n = (tile % p.tiles_n) * TILE;
    // Past the last tile, where the spread over x and y is not exact. Uniform in the workgroup.
    if first_m >= p.m {
        return;
    }
    // Rows 4·local.y + 0…3 of the tile, columns 4·local.x + 0…3: in registers, not in an array that
    // is indexed in a loop.
    let m = first_m + local.y * 4u;
    let n = first_n + local.x * 4u;
    var sum_0 = before_row(m, n);
    var sum_1 = before_row(m + 1u, n);
    var sum_2 = before_row(m + 2u, n);
    var sum_3 = before_row(m + 3u, n);
#ifdef ROW_SUM
    var totals: vec4<f32>;
    if n == 0u {
        totals = vec4<f32>(sum_before(m), sum_before(m + 1u), sum_before(m + 2u), sum_before(m + 3u));
    }
#endif
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        // Neighbouring threads read neighbouring words of the operand as it is stored.
        for (var i = index; i < TILE * DEPTH; i += THREADS) {
#ifdef A_TRANSPOSED
            let row = i % TILE;
            let k = i / TILE;
#else
            let row = i / DEPTH;
            let k = i % DEPTH;
#endif
            a_tile[k * TILE + row] = load_a(first_m + row, k0 + k);
        }
        for (var i = index; i < TILE * DEPTH; i += THREADS) {
#ifdef B_TRANSPOSED
            let column = i / DEPTH;
            let k = i % DEPTH;
#else
            let column = i % TILE;
            let k = i / TILE;
#endif
            b_tile[k * TILE + column] = load_b(k0 + k, first_n + column);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let i = k * TILE + local.y * 4u;
            let j = k * TILE + local.x * 4u;
            let left = vec4<f32>(a_tile[i], a_tile[i + 1u], a_tile[i + 2u], a_tile[i + 3u]);
            let right = vec4<f32>(b_tile[j], b_tile[j + 1u], b_tile[j + 2u], b_tile[j + 3u]);
            sum_0 += left.x * right;
            sum_1 += left.y * right;
            sum_2 += left.z * right;
            sum_3 += left.w * right;
#ifdef ROW_SUM
            totals += left;
#endif
        }
        workgroupBarrier();
    }

    store_row(m, n, sum_0);
    store_row(m + 1u, n, sum_1);
    store_row(m + 2u, n, sum_2);
    store_row(m + 3u, n, sum_3);
#ifdef ROW_SUM
    if n == 0u {
        store_sum(m, totals.x);
        store_sum(m + 1u, totals.y);
        store_sum(m + 2u, totals.z);
        store_sum(m + 3u, totals.w);
    }
#endif
}
