// g = min(max(g, −b), b) in place; what is no number stays so.
// SCALED: the gradients are times the loss scale, and so is b; infinities stay for clip_scale to see.
#import shared/group_number

struct Params {
    count: u32,
    offset: u32,
    bound: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = group_number(group, groups) * 256u + index;
    if i >= p.count {
        return;
    }
    var bound = p.bound;
#ifdef SCALED
    bound *= power_of_two(scale_exponent());
    const FIRST_TO_STAY = 0x7f800000u;
#else
    const FIRST_TO_STAY = 0x7f800001u;
#endif
    let g = gradient[p.offset + i];
    // By its bits: a compiler may take for granted that there are no infinities and no NaN.
    let stays = (bitcast<u32>(g) & 0x7fffffffu) >= FIRST_TO_STAY;
    gradient[p.offset + i] = select(clamp(g, -bound, bound), g, stays);
}
