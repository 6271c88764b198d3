// How a sequence kernel is cut. A workgroup owns ROWS batch rows of the units of HEADS heads, UNITS with
// the padding, for all steps. A thread sums PLACES terms, one of SLICES, of one unit's products, for
// every row; the weights of the first PINNED terms stay in registers, the others are read again at every
// step. Then the slices are added in order, and the thread of slice i settles the unit of row i.
#import shared/held

const HEADS = #{HEADS}u;
const UNITS = #{UNITS}u;
const SLICES = #{SLICES}u;
const ROWS = #{ROWS_COUNT}u;
const PLACES = #{PLACES}u;
const PINNED = #{PINNED}u;
const THREADS = UNITS * SLICES;
const LINE = SLICES * PLACES;       // terms of a head with the padding
const WIDTH = HEADS * LINE;         // those of all heads, a row

// A thread's place: the unit that it sums, the slice of the terms, and of which row it settles the unit.
struct Place {
    unit: u32,
    slice: u32,
    row: u32,
    // The unit is one, and this thread settles it.
    is_unit: bool,
    owns: bool,
    // Where the terms of the unit's head begin in a row of the tile, and where its own is.
    terms: u32,
    own: u32,
}

fn place_of(group: vec3<u32>, index: u32) -> Place {
    let place = index % UNITS;
    let slice = index / UNITS;
    let unit = group.x * HEADS * p.head + place;
    let row = group.y * ROWS + slice;
    let is_unit = place < HEADS * p.head && unit < p.units;
    // An idle thread reads along with the last head.
    let terms = min(place / p.head, HEADS - 1u) * LINE;
    let own = slice * WIDTH + terms + place % p.head;
    return Place(unit, slice, row, is_unit, is_unit && slice < ROWS && row < p.batch, terms, own);
}

var<workgroup> parts: array<Sum, ROWS * SLICES * UNITS>;

// The products of the unit of row `row` of the workgroup, of `place` of its units.
fn added(row: u32, place: u32) -> Sum {
    let first = row * SLICES * UNITS + place;
    var sum = parts[first];
    for (var slice = 1u; slice < SLICES; slice++) {
        sum += parts[first + slice * UNITS];
    }
    return sum;
}
