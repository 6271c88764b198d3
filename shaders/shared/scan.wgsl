// What the scans share. A workgroup has 16 units of a row and 16 stretches of the steps; a thread
// sums its stretch up to one pair (a, c), h_end = a·h_start + c, the pairs are put together in their
// order, and then each thread goes through its stretch once more with the right start.
#import shared/activations
#import shared/step
#import cell/#{CELL}
#import shared/group_number

const STRETCHES = 16u;
const UNITS = 16u;
var<workgroup> pairs: array<vec2<f32>, STRETCHES * UNITS>;

// A thread's unit of a row, and its steps. Past the edge it goes along with the last unit, as all
// threads of a workgroup meet at the barrier.
struct Thread {
    at: At,
    inside: bool,
    first: u32,
    end: u32,
}

fn thread_of(number: u32, local: vec3<u32>) -> Thread {
    let tiles = (p.hidden + UNITS - 1u) / UNITS;
    let row = number / tiles;
    let unit = (number % tiles) * UNITS + local.x;
    let length = (p.time + STRETCHES - 1u) / STRETCHES;
    let first = min(local.y * length, p.time);
    return Thread(
        At(min(row, p.batch - 1u), min(unit, p.hidden - 1u)),
        row < p.batch && unit < p.hidden,
        first,
        min(first + length, p.time),
    );
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

// The time index of step s in the direction's order, and the slots before and after it.
fn time_of(s: u32) -> u32 {
#ifdef REVERSE
    return p.time - 1u - s;
#else
    return s;
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
    var x: array<f32, G_COUNT>;
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
