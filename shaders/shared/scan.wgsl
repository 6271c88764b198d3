// What the scans share. Time goes block by block. A workgroup has 16 units of a row and 16 stretches of
// a block's steps; a thread sums its stretch up to one pair (a, c), h_end = a·h_start + c, the pairs
// are put together in their order, and then each thread goes through its stretch once more with the
// right start.
#import shared/activations
#import shared/step
#import cell/#{CELL}
#import shared/group_number

const STRETCHES = 16u;
const UNITS = 16u;
var<workgroup> pairs: array<vec2<f32>, STRETCHES * UNITS>;

const BLOCK = #{BLOCK}u;

// A thread's unit of a row. Past the edge it goes along with the last unit, as all threads of a workgroup
// meet at the barriers.
struct Thread {
    at: At,
    inside: bool,
}

fn thread_of(number: u32, local: vec3<u32>) -> Thread {
    let tiles = (p.hidden + UNITS - 1u) / UNITS;
    let row = number / tiles;
    let unit = (number % tiles) * UNITS + local.x;
    let at = At(min(row, p.batch - 1u), min(unit, p.hidden - 1u));
    return Thread(at, row < p.batch && unit < p.hidden);
}

// What a thread's stretch starts from, given what the first one does.
fn after_stretches(start: f32, local: vec3<u32>) -> f32 {
    var value = start;
    for (var stretch = 0u; stretch < local.y; stretch++) {
        let pair = pairs[stretch * UNITS + local.x];
        value = pair.x * value + pair.y;
    }
    return value;
}

fn block_count() -> u32 {
    return (p.time + BLOCK - 1u) / BLOCK;
}

struct Block {
    first: u32,
    steps: u32,
}

// Block number `i` of the direction's order.
fn block_of(i: u32) -> Block {
#ifdef REVERSE
    let first = (block_count() - 1u - i) * BLOCK;
#else
    let first = i * BLOCK;
#endif
    return Block(first, min(BLOCK, p.time - first));
}

// A thread's steps of a block, from the first to before the second.
fn stretch_of(block: Block, number: u32) -> vec2<u32> {
    let length = (block.steps + STRETCHES - 1u) / STRETCHES;
    let first = min(number * length, block.steps);
    return vec2<u32>(first, min(first + length, block.steps));
}

// The time index of step s of a block, in the direction's order.
fn time_of(block: Block, s: u32) -> u32 {
#ifdef REVERSE
    return block.first + block.steps - 1u - s;
#else
    return block.first + s;
#endif
}

fn old_slot(t: u32) -> u32 {
#ifdef REVERSE
    return t + 1u;
#else
    return t;
#endif
}

fn new_slot(t: u32) -> u32 {
    return 2u * t + 1u - old_slot(t);
}

fn inputs(t: u32, at: At) -> array<f32, G_COUNT> {
    var x = array<f32, G_COUNT>();
    for (var gate = 0u; gate < G_COUNT; gate++) {
        x[gate] = gates[gate_index(t, gate, at)];
    }
    return x;
}

// (a, c) of a step with its mask, zoneout and reset: new = a·old + c.
fn step_pair(t: u32, at: At) -> vec2<f32> {
    var pair = vec2<f32>(1.0, 0.0);
    if has_flag(t, at.row, VALID) {
        let z = zone(t, 0u, at);
        pair = coefficients(inputs(t, at));
        pair = vec2<f32>(z + (1.0 - z) * pair.x, (1.0 - z) * pair.y);
    }
    return vec2<f32>(select(pair.x, 0.0, has_flag(t, at.row, RESET)), pair.y);
}
