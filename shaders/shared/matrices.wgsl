// The products of a sequence kernel in matrices of MATRIX×MATRIX that the threads of a subgroup multiply together,
// from f16 into f32. A column is MATRIX units of one gate; a subgroup sums COLUMN_COUNT of them over one of SLICES of
// the terms:
//   sum[c] += terms[k]·w[c][k] for each MATRIX terms, in order; inside of a matrix the device has its own.
// BY_GATE: the columns of a subgroup are of one gate each, in their order, and go into one sum.
// The weights pass through workgroup memory, where they become f16 and padding 0: once, into matrices that stay in
// registers, or at every step (STREAMED). Before the first step the tile's places serve for that.
const MATRIX = #{MATRIX}u;
const LANES = #{LANES}u;
const COLUMN_COUNT = #{COLUMN_COUNT}u;
const UNIT_COLUMNS = UNITS / MATRIX;            // of a gate
const TEAMS = PRODUCTS * UNIT_COLUMNS / COLUMN_COUNT;   // subgroups of a slice
const PARTS_LINE = UNITS + #{APART}u;   // of the sums of a row, which begin in other banks of the memory
const PLANE = ROWS * PARTS_LINE;
#ifdef BY_GATE
const PLANES = 1u;                              // of sums
#else
const PLANES = PRODUCTS;
#endif
const STAGE = TEAMS * SLICES * MATRIX * MATRIX;
// Terms in an element of the tile: those of a grid come in pairs.
#ifdef GRID
const ENTRY = 2u;
#else
const ENTRY = 1u;
#endif
#ifdef STREAMED
const STAGE_FROM = TILE;
const ROOM = TILE + STAGE;
#else
const STAGE_FROM = 0u;
const ROOM = max(TILE, STAGE);
#endif

// [slice][plane][row][unit]
var<workgroup> parts: array<f32, SLICES * PLANES * PLANE>;

// What a subgroup sums, and where its weights are staged.
struct Share {
    lane: u32,
    column: u32,
    first_k: u32,
    stage: u32,
    parts: u32,
}

// Should a driver make more subgroups than there are shares, all stay within their arrays.
fn share_of(number: u32, lane: u32) -> Share {
    let subgroup = number % (TEAMS * SLICES);
#ifdef BY_GATE
    let column = subgroup % TEAMS;
#else
    let column = subgroup % TEAMS * COLUMN_COUNT;
#endif
    let slice = subgroup / TEAMS;
    let stage = STAGE_FROM + subgroup * MATRIX * MATRIX;
    return Share(lane, column, slice * PLACES, stage, slice * PLANES * PLANE);
}

// A subgroup's column of that number.
fn column_of(share: Share, number: u32) -> u32 {
#ifdef BY_GATE
    return share.column + number * UNIT_COLUMNS;
#else
    return share.column + number;
#endif
}

// Weights of MATRIX units of a gate, as they lie: forward the terms of a unit follow one another, backward the units.
fn stage(group: vec3<u32>, share: Share, column: u32, k0: u32) {
    let gate = column / UNIT_COLUMNS;
    let first = column % UNIT_COLUMNS * MATRIX;
    for (var i = share.lane * ENTRY; i < MATRIX * MATRIX; i += LANES * ENTRY) {
#ifdef BACKWARD
        let value = weight_of(group, gate, first + i % MATRIX, k0 + i / MATRIX);
#ifdef GRID
        let next = weight_of(group, gate, first + i % MATRIX + 1u, k0 + i / MATRIX);
#endif
#else
        let value = weight_of(group, gate, first + i / MATRIX, k0 + i % MATRIX);
#ifdef GRID
        let next = weight_of(group, gate, first + i / MATRIX, k0 + i % MATRIX + 1u);
#endif
#endif
#ifdef GRID
        #{TILE_NAME}[(share.stage + i) / 2u] = vec2<f16>(vec2<f32>(value, next));
#else
        #{TILE_NAME}[share.stage + i] = f16(value);
#endif
    }
}

// Where the terms of a column begin in the tile.
fn terms_from(column: u32) -> u32 {
#ifdef BACKWARD
    return column / UNIT_COLUMNS * MASK;
#else
#ifdef PER_GATE
    return column / UNIT_COLUMNS * MASK;
#else
    return 0u;
#endif
#endif
}

// Where the sums of a column go.
fn part_at(share: Share, column: u32) -> u32 {
    return share.parts + column / UNIT_COLUMNS * PLANE + column % UNIT_COLUMNS * MATRIX;
}
