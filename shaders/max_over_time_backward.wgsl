// d_x[t,b,c] = d_y[b,c] where t is places[b,c], else 0. ACCUMULATE adds to what d_x holds.
#import shared/group_number

struct Params {
    time: u32,
    batch: u32,
    columns: u32,
    x_offset: u32,
    y_offset: u32,
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
    let words = p.batch * p.columns;
    if i >= p.time * words {
        return;
    }
    let at = i % words;
    let value = d_y[p.y_offset + at];
    let own = select(0.0, value, places[at] == i / words);
#ifdef ACCUMULATE
    d_x[p.x_offset + i] += own;
#else
    d_x[p.x_offset + i] = own;
#endif
}
