// dv = (dv̂ − Σdv̂/n − v̂⊙Σ(dv̂⊙v̂)/n)·scale with dv̂ = d⊙γ, over each row; d lies in `gates`, v̂ in `normal`,
// which dv replaces.
#import shared/group_number
#import shared/normalise
#import shared/tree

#bindings

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group_number(group, groups);
    if row >= p.rows {
        return;
    }
    let first = (p.first + row) * p.columns;
    var sum = vec2<f32>();
    for (var c = index; c < p.columns; c += 256u) {
        let d = gates[p.gates_offset + row * p.gates_stride + c] * gain[p.gain_offset + c];
        sum += vec2<f32>(d, d * normal[first + c]);
    }
    sum = vec2<f32>(tree_sum(index, sum.x), tree_sum(index, sum.y)) / f32(p.columns);
    let scale = scales[p.first + row];
    for (var c = index; c < p.columns; c += 256u) {
        let d = gates[p.gates_offset + row * p.gates_stride + c] * gain[p.gain_offset + c];
        normal[first + c] = (d - sum.x - normal[first + c] * sum.y) * scale;
    }
}
