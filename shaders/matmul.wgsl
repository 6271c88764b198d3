// C = op(A)·op(B), tiled: a workgroup computes 64×64 of C, each thread 4×4 of them, 16 terms of
// the sums at a time through workgroup memory. Edges are padded with zeros on loading.
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
    return (flags[k / p.places] & 1u) != 0u;
#else
    return true;
#endif
}

fn row_valid(m: u32) -> bool {
#ifdef ROW_FLAGS
    return (flags[m / p.places] & 1u) != 0u;
#else
    return true;
#endif
}

fn load_a(m: u32, k: u32) -> f32 {
    if m >= p.m || k >= p.k || !term_valid(k) {
        return 0.0;
    }
#ifdef A_TRANSPOSED
    return a[p.a_offset + k * p.a_stride + m];
#else
    return a[p.a_offset + m * p.a_stride + k];
#endif
}

fn load_b(k: u32, n: u32) -> f32 {
    if k >= p.k || n >= p.n || !term_valid(k) {
        return 0.0;
    }
#ifdef B_TRANSPOSED
    return b[p.b_offset + n * p.b_stride + k];
#else
    return b[p.b_offset + k * p.b_stride + n];
#endif
}

fn store(m: u32, n: u32, sum: f32) {
    if n >= p.n {
        return;
    }
    var value = sum;
#ifdef BIAS
    value += bias[p.bias_offset + n];
#endif
    value = select(0.0, value, row_valid(m));
    let at = p.c_offset + m * p.c_stride + n;
#ifdef ACCUMULATE
    value += c[at];
#endif
    c[at] = value;
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
fn store_sum(m: u32, sum: f32) {
    if m >= p.m {
        return;
    }
    var value = sum;
#ifdef ACCUMULATE
    value += row_sum[p.row_sum_offset + m];
#endif
    row_sum[p.row_sum_offset + m] = value;
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
    var sum_0: vec4<f32>;
    var sum_1: vec4<f32>;
    var sum_2: vec4<f32>;
    var sum_3: vec4<f32>;
#ifdef ROW_SUM
    var row: vec4<f32>;
#endif
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        // Neighbouring threads read neighbouring words of the operand as it is stored.
        for (var i = index; i < TILE * DEPTH; i += THREADS) {
#ifdef A_TRANSPOSED
            let m = i % TILE;
            let k = i / TILE;
#else
            let m = i / DEPTH;
            let k = i % DEPTH;
#endif
            a_tile[k * TILE + m] = load_a(first_m + m, k0 + k);
        }
        for (var i = index; i < TILE * DEPTH; i += THREADS) {
#ifdef B_TRANSPOSED
            let n = i / DEPTH;
            let k = i % DEPTH;
#else
            let n = i % TILE;
            let k = i / TILE;
#endif
            b_tile[k * TILE + n] = load_b(k0 + k, first_n + n);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let m = k * TILE + local.y * 4u;
            let n = k * TILE + local.x * 4u;
            let left = vec4<f32>(a_tile[m], a_tile[m + 1u], a_tile[m + 2u], a_tile[m + 3u]);
            let right = vec4<f32>(b_tile[n], b_tile[n + 1u], b_tile[n + 2u], b_tile[n + 3u]);
            sum_0 += left.x * right;
            sum_1 += left.y * right;
            sum_2 += left.z * right;
            sum_3 += left.w * right;
#ifdef ROW_SUM
            row += left;
#endif
        }
        workgroupBarrier();
    }

    let m = first_m + local.y * 4u;
    let n = first_n + local.x * 4u;
    store_row(m, n, sum_0);
    store_row(m + 1u, n, sum_1);
    store_row(m + 2u, n, sum_2);
    store_row(m + 3u, n, sum_3);
#ifdef ROW_SUM
    if n == 0u {
        store_sum(m, row.x);
        store_sum(m + 1u, row.y);
        store_sum(m + 2u, row.z);
        store_sum(m + 3u, row.w);
    }
#endif
}
