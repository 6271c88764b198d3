// v̂ = (v − μ)/√(var + ε) over each column's valid rows, gates = γ⊙v̂ + b (Laurent 2016). scales keeps
// the inverse deviations, running [2, columns] the averages of μ and of the unbiased variance less 1
// (zeros are a fresh start); they stand for μ and var where INFERENCE is defined. A variance of no rows is 1, a mean 0.
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
#ifdef INFERENCE
    let mean = running[column];
    let variance = 1.0 + running[p.columns + column];
#else
    var sum = 0.0;
    var count = 0.0;
    for (var row = local.y; row < p.rows; row += 16u) {
        if is_valid(row) {
            sum += normal[row * p.columns + column];
            count += 1.0;
        }
    }
    let n = column_total(local, count);
    let mean = column_total(local, sum) / max(n, 1.0);
    sum = 0.0;
    for (var row = local.y; row < p.rows; row += 16u) {
        if is_valid(row) {
            let d = normal[row * p.columns + column] - mean;
            sum += d * d;
        }
    }
    let squares = column_total(local, sum);
    let variance = select(1.0, squares / max(n, 1.0), n > 0.0);
    if local.y == 0u && inside && n > 1.0 {
        running[column] += p.momentum * (mean - running[column]);
        let at = p.columns + column;
        running[at] += p.momentum * (squares / (n - 1.0) - 1.0 - running[at]);
    }
#endif
    let scale = 1.0 / sqrt(variance + p.epsilon);
    if !inside {
        return;
    }
    if local.y == 0u {
        scales[column] = scale;
    }
    for (var row = local.y; row < p.rows; row += 16u) {
        var value = 0.0;
        if is_valid(row) {
            value = (normal[row * p.columns + column] - mean) * scale;
        }
        normal[row * p.columns + column] = value;
        gates[p.gates_offset + row * p.gates_stride + column] =
            gain[p.gain_offset + column] * value + bias[p.bias_offset + column];
    }
}
