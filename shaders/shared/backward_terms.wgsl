// What the threads of sequence_backward and grid_backward sum: the gate gradients of the later step times the
// weights. INITIAL: what is left after all steps is the initial states' gradient.
const PRODUCTS = #{PRODUCTS}u;
#import shared/gates_#{PRODUCTS}
#ifdef GATES_APART
alias Part = Sum;
#else
alias Part = f32;
#endif
#import shared/sequence

#ifdef INITIAL
const TAIL = 1u;
#else
const TAIL = 0u;
#endif
const MASK = ROWS * WIDTH;
#ifdef GRID
#ifdef SHORT_GATES
#import shared/handed_short
#else
#import shared/handed_whole
#endif
#endif
#ifdef MATRICES
#ifdef BY_GATE
const TILE = MASK;
#else
const TILE = PRODUCTS * MASK;
#endif
#ifdef GRID
var<workgroup> d_tile: array<vec2<f16>, ROOM / 2u>;  // [gate][row][term / 2]
#else
var<workgroup> d_tile: array<f16, ROOM>;     // [gate][row][term]
#endif
#else
const TILE = MASK;
var<workgroup> d_tile: array<Sum, TILE>;        // [row][head, term], the gates side by side
#endif

#ifndef BY_GATE
#ifdef MATRICES
#ifdef GRID
// Of two neighbouring units.
fn put_terms(tile: u32, left: Sum, next: Sum) {
    let shares = spread_gates(left);
    let next_shares = spread_gates(next);
    for (var gate = 0u; gate < PRODUCTS; gate++) {
        let pair = vec2<f32>(shares[gate], next_shares[gate]);
        d_tile[(gate * MASK + tile) / 2u] = vec2<f16>(pair);
    }
}
#else
fn put_terms(tile: u32, left: Sum) {
    let shares = spread_gates(left);
    for (var gate = 0u; gate < PRODUCTS; gate++) {
        d_tile[gate * MASK + tile] = f16(shares[gate]);
    }
}
#endif
#else
fn put_terms(tile: u32, left: Sum) {
    d_tile[tile] = left;
}
#endif
#endif

#ifndef MATRICES
// The weights with which the gate gradients of unit `k` of a head reach a place's unit.
fn weights_of(group: vec3<u32>, place: u32, k: u32) -> Sum {
    var value = Sum();
    if is_unit(group, place) && k < p.head {
        let unit = unit_of(group, place);
        value = weights(unit - unit % p.head + k, unit % p.head);
    }
    return value;
}

fn term_of(at: u32, k: u32) -> Sum {
    return d_tile[at + k];
}
#else
// The weight with which the gradient of a gate of unit `k` of a head reaches a place's unit.
fn weight_of(group: vec3<u32>, gate: u32, place: u32, k: u32) -> f32 {
    if is_unit(group, place) && k < p.head {
        let unit = unit_of(group, place);
        return weight(gate, unit - unit % p.head + k, unit % p.head);
    }
    return 0.0;
}

#import shared/matrices

// What a slice gave, at its first plane.
fn part_at_plane(at: u32) -> Part {
#ifdef BY_GATE
    return parts[at];
#else
    return part_of(Sum(#{ADDED}));
#endif
}

fn added(row: u32, place: u32) -> Part {
    let at = row * PARTS_LINE + place;
    var sum = part_at_plane(at);
    for (var slice = 1u; slice < SLICES; slice++) {
        sum += part_at_plane(at + slice * PLANES * PLANE);
    }
    return sum;
}
#endif

#ifndef BY_GATE
fn part_of(sum: Sum) -> Part {
#ifdef GATES_APART
    return sum;
#else
    let shares = spread_gates(sum);
    var part = shares[0];
    for (var gate = 1u; gate < PRODUCTS; gate++) {
        part += shares[gate];
    }
    return part;
#endif
}
#endif
