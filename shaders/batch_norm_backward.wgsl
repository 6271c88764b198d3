// dv = γ·scale·(d − Σd/n − v̂⊙Σ(d⊙v̂)/n) over each column's n valid rows; d lies in `gates`, v̂ in
// `normal`, which dv replaces.
#import shared/normalise
#import shared/column_tree

#bindings

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let column = min(group.x * 16u + local.x, p.columns - 1u);
    let inside = group.x * 16u + local.x < p.columns;
    var sum = vec2<f32>();
    var count = 0.0;
    for (var row = local.y; row < p.rows; row += 16u) {
        if is_valid(row) {
            let d = gates[p.gates_offset + row * p.gates_stride + column];
            sum += vec2<f32>(d, d * normal[row * p.columns + column]);
            count += 1.0;
        }
    }
    let n = max(column_total(local, count), 1.0);
    let mean = vec2<f32>(column_total(local, sum.x), column_total(local, sum.y)) / n;
    if !inside {
        return;
    }
    let scale = gain[p.gain_offset + column] * scales[column];
    for (var row = local.y; row < p.rows; row += 16u) {
        var value = 0.0;
        if is_valid(row) {
            let d = gates[p.gates_offset + row * p.gates_stride + column];
            value = (d - mean.x - normal[row * p.columns + column] * mean.y) * scale;
        }
        normal[row * p.columns + column] = value;
    }
}
