// destination[e] = value.
#import shared/group_number

struct Params {
    count: u32,
    offset: u32,
    value: f32,
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
    if i < p.count {
        destination[p.offset + i] = p.value;
    }
}
