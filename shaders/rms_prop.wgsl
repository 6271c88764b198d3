// RMSProp (Tieleman and Hinton 2012, "Lecture 6.5"), in the form of PyTorch:
//     g = clip·∂w + λ·w   s = α·s + (1−α)·g²   w = w − lr·g / (√s + ε)
// CENTERED (Graves 2013, "Generating sequences with recurrent neural networks", equations 38 to 41): s is
// the variance of g, E g² − (E g)². With m the mean and d = g − m before this step,
//     m = m + (1−α)·d   s = α·(s + (1−α)·d²)
// is the same without a difference of near numbers, and never negative.
// MOMENTUM: v = μ·v + g / (√s + ε)   w = w − lr·v.
// SCALED: only where clip_scale says so.
#import shared/update

struct Params {
    count: u32,
    gradient_offset: u32,
    alpha: f32,
    rest: f32,
    epsilon: f32,
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
#ifdef CENTERED
    let d = g - mean[i];
    mean[i] += p.rest * d;
    let s = p.alpha * (second[i] + p.rest * d * d);
#else
    let s = p.alpha * second[i] + p.rest * g * g;
#endif
    second[i] = s;
    var v = g / (sqrt(s) + p.epsilon);
#ifdef MOMENTUM
    v += p.momentum * velocity[i];
    velocity[i] = v;
#endif
    parameter[i] = w - learning_rate() * v;
}
