// g = clip·∂w + λ·w; v = μ·v + g; w = w − lr·v. NESTEROV: w = w − lr·(g + μ·v) (Sutskever et al. 2013, "On
// the importance of initialization and momentum in deep learning", in the form of PyTorch).
// SCALED: only where clip_scale says so.
#import shared/update

struct Params {
    count: u32,
    gradient_offset: u32,
    momentum: f32,
    weight_decay: f32,
    rate: f32,
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
    if !has_update(i) {
        return;
    }
    let w = parameter[i];
    let g = clipped_gradient(i) + p.weight_decay * w;
    let v = p.momentum * velocity[i] + g;
    velocity[i] = v;
#ifdef NESTEROV
    parameter[i] = w - learning_rate() * (g + p.momentum * v);
#else
    parameter[i] = w - learning_rate() * v;
#endif
}
