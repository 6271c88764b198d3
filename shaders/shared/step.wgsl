// What step_forward, step_backward and the norm kernels share: the parameter block, where things
// lie, and the states' machinery: reset, zoneout, mask (docs/operator.md, "A step").
#ifdef ZONEOUT_DRAW
#import shared/control
#import shared/threefry
#endif

struct Params {
    time: u32,
    batch: u32,
    hidden: u32,
    width: u32,
    t: u32,
    old_slot: u32,
    new_slot: u32,
    later: u32,
    w_offset: u32,
    b_offset: u32,
    d_output_offset: u32,
    gates_offset: u32,
    candidate_offset: u32,
    units: u32,
    terms: u32,
    depth: u32,
    head: u32,
    places: u32,
    stream: u32,
    zoneout_h: f32,
    zoneout_c: f32,
    map_height: u32,
    map_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    epsilon: f32,
    first: u32,
    count: u32,
}

#ifdef SEQUENCE
@group(0) @binding(0) var<uniform> given: Params;
// The step at hand of those that were given.
var<private> p: Params;
#else
@group(0) @binding(0) var<uniform> p: Params;
#endif

#bindings

// `later` at the last step: no step comes after.
const NONE = 0xffffffffu;
const VALID = 1u;
const RESET = 2u;

const G_COUNT = #{G_COUNT}u;
const SAVED = #{SAVED}u;
const STATES = #{STATES}u;

// A hidden unit of a batch row.
struct At {
    row: u32,
    unit: u32,
}

// gates [T,B,K·H]: word `block` of a unit.
fn gate_index(t: u32, block: u32, at: At) -> u32 {
    return p.gates_offset + ((t * p.batch + at.row) * SAVED + block) * p.hidden + at.unit;
}

// states: h [T+1,B,P], then the others [S−1,T+1,B,H]. Slot t lies before step t, slot t + 1 behind.
fn state_index(state: u32, slot: u32, at: At) -> u32 {
    if state == 0u {
        return (slot * p.batch + at.row) * p.width + at.unit;
    }
    let others = (p.time + 1u) * p.batch * p.width;
    return others + (((state - 1u) * (p.time + 1u) + slot) * p.batch + at.row) * p.hidden + at.unit;
}

// carry: h's [B,P], then the others' [S−1,B,H].
fn carry_index(state: u32, at: At) -> u32 {
    if state == 0u {
        return at.row * p.width + at.unit;
    }
    return p.batch * p.width + ((state - 1u) * p.batch + at.row) * p.hidden + at.unit;
}

fn flags_of(t: u32, row: u32) -> u32 {
#ifdef HAS_flags
    return flags[(p.first + t) * (p.batch / p.places) + row / p.places];
#else
    return VALID;
#endif
}

// Of a sequence forward, where they are at hand, those of a thread's own row at the step at hand alone.
#ifdef HELD_FLAGS
var<private> held_flags: u32;
#endif
fn has_flag(t: u32, row: u32, flag: u32) -> bool {
#ifdef HELD_FLAGS
    return (held_flags & flag) != 0u;
#else
    return (flags_of(t, row) & flag) != 0u;
#endif
}

// z of the zoneout: how much of the old state stays.
fn zone(t: u32, state: u32, at: At) -> f32 {
#ifdef ZONEOUT_EXPECT
    return select(p.zoneout_c, p.zoneout_h, state == 0u);
#endif
#ifdef ZONEOUT_DRAW
    // One call serves h (word x) and the other states (word y).
    let width = select(p.hidden, p.width, state == 0u);
    let element = ((p.first + t) * p.batch + at.row) * width + at.unit;
    let key = vec2<u32>(control[CONTROL_SEED_LOW], control[CONTROL_SEED_HIGH] ^ p.stream);
    let words = threefry2x32(key, vec2<u32>(element, control[CONTROL_STEP]));
    let word = select(words.y, words.x, state == 0u);
    let rate = select(p.zoneout_c, p.zoneout_h, state == 0u);
    return select(0.0, 1.0, f32(word >> 8u) * (1.0 / 16777216.0) < rate);
#endif
#ifndef ZONEOUT_EXPECT
#ifndef ZONEOUT_DRAW
    return 0.0;
#endif
#endif
}
