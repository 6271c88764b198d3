// output[e] = input[e]·m[e], m[e] = 1/keep where u < keep, else 0; u are the upper 24 bits of
// word e mod 2 of threefry2x32(key = (seed, seed ^ stream), counter = (e / 2, step)). `first`: elements
// before these.
#import shared/control
#import shared/group_number
#import shared/threefry

struct Params {
    count: u32,
    input_offset: u32,
    output_offset: u32,
    first: u32,
    stream: u32,
    keep: f32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

fn apply(e: u32, word: u32) {
    if e >= p.count {
        return;
    }
    let u = f32(word >> 8u) * (1.0 / 16777216.0);
    var value = 0.0;
    if u < p.keep {
        value = input[p.input_offset + e] * p.scale;
    }
#ifdef ACCUMULATE
    value += output[p.output_offset + e];
#endif
    output[p.output_offset + e] = value;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let pair = group_number(group, groups) * 256u + index;
    let key = vec2<u32>(control[CONTROL_SEED_LOW], control[CONTROL_SEED_HIGH] ^ p.stream);
    let words = threefry2x32(key, vec2<u32>(p.first / 2u + pair, control[CONTROL_STEP]));
    apply(2u * pair, words.x);
    apply(2u * pair + 1u, words.y);
}
