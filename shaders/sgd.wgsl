// g = clip·∂w + λ·w; v = μ·v + g; w = w − lr·v. SCALED: only where clip_scale says so.
#import shared/control
#import shared/group_number

struct Params {
    count: u32,
    gradient_offset: u32,
    momentum: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

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
#ifdef SCALED
    if clip[2] == 0.0 {
        return;
    }
#endif
    let w = parameter[i];
    var g = gradient[p.gradient_offset + i];
#ifdef CLIP
    g *= clip[0];
#endif
    g += p.weight_decay * w;
    let v = p.momentum * velocity[i] + g;
    velocity[i] = v;
    parameter[i] = w - bitcast<f32>(control[CONTROL_LEARNING_RATE]) * v;
}
