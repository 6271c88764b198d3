// y[b,c] = max over t < length(b) of x[t,b,c], and the first t where it is; 0 and T where there is no step.
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
    if i >= words {
        return;
    }
    var end = p.time;
#ifdef HAS_lengths
    end = min(lengths[i / p.columns], p.time);
#endif
    var largest = 0.0;
    var place = p.time;
    for (var t = 0u; t < end; t++) {
        let value = x[p.x_offset + t * words + i];
        if t == 0u || value > largest {
            largest = value;
            place = t;
        }
    }
    y[p.y_offset + i] = largest;
    places[i] = place;
}
