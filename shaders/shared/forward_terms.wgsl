// What the threads of sequence_forward and grid_forward sum: h, under each mask, times the weights.
#ifdef PER_GATE
fn tile_term(at: u32, i: u32) -> f32 {
#ifdef PAIRS_OF_TERMS
    return f32(h_tile[(at + i) / 2u][(at + i) % 2u]);
#else
    return f32(h_tile[at + i]);
#endif
}
#endif
#import shared/gates_#{PRODUCTS}
alias Part = Sum;
#import shared/sequence

const MASK = ROWS * WIDTH;
#ifdef GRID
#ifdef SHORT_STATES
#import shared/handed_short
#else
#import shared/handed_whole
#endif
#endif
const TILE = SOURCES * MASK;
#ifdef MATRICES
#ifdef GRID
var<workgroup> h_tile: array<vec2<f16>, ROOM / 2u>;  // [mask][row][term / 2]

fn put_term(mask: u32, tile: u32, pair: vec2<f32>) {
    h_tile[(mask * MASK + tile) / 2u] = vec2<f16>(pair);
}
#else
var<workgroup> h_tile: array<f16, ROOM>;     // [mask][row][term]

fn put_term(mask: u32, tile: u32, value: f32) {
    h_tile[mask * MASK + tile] = f16(value);
}
#endif
#else
var<workgroup> h_tile: array<f32, TILE>;     // [mask][row][head, term]

fn put_term(mask: u32, tile: u32, value: f32) {
    h_tile[mask * MASK + tile] = value;
}
#endif

#ifndef MATRICES
// The weights of term `k` of the head of a place's unit, none beyond its terms.
fn weights_of(group: vec3<u32>, place: u32, k: u32) -> Sum {
    var value = Sum();
    if is_unit(group, place) && k < p.head {
        value = weights(unit_of(group, place), k);
    }
    return value;
}

#ifdef PER_GATE
fn term_of(at: u32, k: u32) -> Sum {
    return tile_sources(at, k);
}
#else
fn term_of(at: u32, k: u32) -> f32 {
    return h_tile[at + k];
}
#endif

fn part_of(sum: Sum) -> Part {
    return sum;
}
#else
// The weight of a gate for term `k` of the head of a place's unit, none beyond its terms.
fn weight_of(group: vec3<u32>, gate: u32, place: u32, k: u32) -> f32 {
    if is_unit(group, place) && k < p.head {
        return weight(gate, unit_of(group, place), k);
    }
    return 0.0;
}

#import shared/matrices

fn added(row: u32, place: u32) -> Part {
    let at = row * PARTS_LINE + place;
    var sum = Sum(#{ADDED});
    for (var slice = 1u; slice < SLICES; slice++) {
        let at = at + slice * PLANES * PLANE;
        sum += Sum(#{ADDED});
    }
    return sum;
}
#endif
