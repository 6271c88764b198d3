// How a sequence kernel is cut. A workgroup owns ROWS batch rows of the units of HEADS heads, UNITS with
// the padding, for all steps. A thread sums PLACES terms, one of SLICES, of the products of SPAN units, LANES
// apart, for every row: what it reads of the tile serves all of them. The weights of the first PINNED terms
// stay in registers, the others are read again at every step. Then the slices are added in order, and the
// thread that is i times UNITS in settles its unit of row i. MATRICES: see shared/matrices.
#import shared/held

const HEADS = #{HEADS}u;
const UNITS = #{UNITS}u;
const SLICES = #{SLICES}u;
const ROWS = #{ROWS_COUNT}u;
const PLACES = #{PLACES}u;
const PINNED = #{PINNED}u;
const THREADS = #{THREADS}u;
const LINE = SLICES * PLACES;       // terms of a head with the padding
#ifdef MATRICES
const WIDTH = LINE + 8u;            // a row: lines begin in other banks of the memory, and at 16 bytes
#ifdef GRID
const TERM_0 = vec2<f16>();
#else
const TERM_0 = 0.0h;
#endif
#else
const SPAN = #{SPAN_COUNT}u;
const LANES = UNITS / SPAN;
const WIDTH = HEADS * LINE;         // terms of all heads, a row
const TERM_0 = #{TERM_0};

// What a thread sums: of the units that are LANES apart from this one, the slice of the terms.
struct Share {
    lane: u32,
    slice: u32,
    // Where the slice begins in a head, and in a row of the tile.
    first_k: u32,
    from_k: u32,
}

fn share_of(index: u32) -> Share {
    let lane = index % LANES;
    let slice = index / LANES;
    // An idle thread reads along with the last head; heads side by side have a SPAN of 1.
    let head = min(lane / p.head, HEADS - 1u);
    return Share(lane, slice, slice * PLACES, head * LINE + slice * PLACES);
}
#endif

// Whether a place of the workgroup is a unit, and which.
#ifdef GRID
fn is_unit(group: vec3<u32>, place: u32) -> bool {
    return unit_of(group, place) < p.units;
}

fn unit_of(group: vec3<u32>, place: u32) -> u32 {
    return group.x * UNITS + place;
}
#else
fn is_unit(group: vec3<u32>, place: u32) -> bool {
    return place < HEADS * p.head && unit_of(group, place) < p.units;
}

fn unit_of(group: vec3<u32>, place: u32) -> u32 {
    return group.x * HEADS * p.head + place;
}
#endif

// Which row and unit a thread settles, if any, and where they lie in the tile. SEVERAL: a thread has more than
// one, THREADS places apart.
struct Own {
    at: At,
    there: bool,
    row: u32,
    place: u32,
    tile: u32,
}

fn own_of(group: vec3<u32>, index: u32) -> Own {
    let place = index % UNITS;
    let row = index / UNITS;
    let at = At(group.y * ROWS + row, unit_of(group, place));
    let there = is_unit(group, place) && row < ROWS && at.row < p.batch;
    return Own(at, there, row, place, row * WIDTH + place / p.head * LINE + place % p.head);
}
#ifndef MATRICES

var<workgroup> parts: array<Part, ROWS * SLICES * UNITS>;

// The products of the unit of row `row` of the workgroup, of `place` of its units.
fn added(row: u32, place: u32) -> Part {
    let first = row * SLICES * UNITS + place;
    var sum = parts[first];
    for (var slice = 1u; slice < SLICES; slice++) {
        sum += parts[first + slice * UNITS];
    }
    return sum;
}
#endif
