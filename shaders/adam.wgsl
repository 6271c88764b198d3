// Adam (Kingma and Ba 2015); DECOUPLED: AdamW (Loshchilov and Hutter 2019).
//     g = clip·∂w (+ λ·w)   m = β₁·m + (1−β₁)·g   v = β₂·v + (1−β₂)·g²
//     w = w·(1 − lr·λ) − lr·m·c₁ / (√(v·c₂) + ε)
// SCALED: only where clip_scale says so, and with its c₁ and c₂, which count updates instead of steps.
#import shared/update

struct Params {
    count: u32,
    gradient_offset: u32,
    beta_1: f32,
    beta_2: f32,
    rest_1: f32,
    rest_2: f32,
    epsilon: f32,
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
    let rate = learning_rate();
    var w = parameter[i];
    var g = clipped_gradient(i);
#ifdef DECOUPLED
    w -= rate * p.weight_decay * w;
#else
    g += p.weight_decay * w;
#endif
    let m = p.beta_1 * first[i] + p.rest_1 * g;
    let v = p.beta_2 * second[i] + p.rest_2 * g * g;
    first[i] = m;
    second[i] = v;
#ifdef SCALED
    let corrections = vec2<f32>(clip[3], clip[4]);
#else
    let corrections = vec2<f32>(
        bitcast<f32>(control[CONTROL_CORRECTION_1]),
        bitcast<f32>(control[CONTROL_CORRECTION_2]),
    );
#endif
    let m_hat = m * corrections.x;
    let v_hat = v * corrections.y;
    parameter[i] = w - rate * m_hat / (sqrt(v_hat) + p.epsilon);
}
