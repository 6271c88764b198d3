// gradient[e] = gradient[e]·f′(a), with the slope of the activation f from its value f(a) = values[e].
#import shared/activations
#import shared/group_number

struct Params {
    count: u32,
    values_offset: u32,
    gradient_offset: u32,
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
    let slope = slope_#{ACTIVATION}(values[p.values_offset + i], #{ALPHA}, #{BETA});
    gradient[p.gradient_offset + i] *= slope;
}
