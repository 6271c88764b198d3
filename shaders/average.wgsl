// a = a + s·(w − a), and w itself where s is 1, with the share s of the newest weights from the control words.
#import shared/control
#import shared/group_number

struct Params {
    count: u32,
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
    let share = bitcast<f32>(control[CONTROL_AVERAGE_SHARE]);
    let w = parameter[i];
    let a = average[i];
    average[i] = select(a + share * (w - a), w, share == 1.0);
}
