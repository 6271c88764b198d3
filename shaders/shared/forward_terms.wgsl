// What the threads of sequence_forward and grid_forward sum: h, under each mask, times the weights.
const MASK = ROWS * WIDTH;
var<workgroup> h_tile: array<f32, SOURCES * MASK>;      // [mask][row][head, term]

fn tile_term(at: u32, i: u32) -> f32 {
    return h_tile[at + i];
}
#import shared/gates_#{PRODUCTS}
alias Part = Sum;
#import shared/sequence

// The weights of term `k` of the head of a place's unit, none beyond its terms.
fn weights_of(group: vec3<u32>, place: u32, k: u32) -> Sum {
    var value: Sum;
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
