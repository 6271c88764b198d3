// v̂ = (v − mean v)/√(var v + ε) over each row, gates = γ⊙v̂ + b (Ba 2016), a workgroup a row. scales
// keeps the inverse deviations.
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
    var sum = 0.0;
    for (var c = index; c < p.columns; c += 256u) {
        sum += normal[first + c];
    }
    let mean = tree_sum(index, sum) / f32(p.columns);
    sum = 0.0;
    for (var c = index; c < p.columns; c += 256u) {
        let d = normal[first + c] - mean;
        sum += d * d;
    }
    let scale = 1.0 / sqrt(tree_sum(index, sum) / f32(p.columns) + p.epsilon);
    if index == 0u {
        scales[p.first + row] = scale;
    }
    for (var c = index; c < p.columns; c += 256u) {
        let value = (normal[first + c] - mean) * scale;
        normal[first + c] = value;
        gates[p.gates_offset + row * p.gates_stride + c] =
            gain[p.gain_offset + c] * value + bias[p.bias_offset + c];
    }
}
