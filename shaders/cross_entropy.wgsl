// A row a workgroup: losses[n] = log Σ_v exp(x_v − max) + max − x_target, and with GRADIENT
// d_logits[n,v] = scale·(exp(x_v − max)/Σ − [v = target]).
#import shared/group_number
#import shared/tree

struct Params {
    rows: u32,
    classes: u32,
    logits_offset: u32,
    targets_offset: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
#ifdef GRADIENT
@group(0) @binding(4) var<storage, read_write> d_logits: array<f32>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group_number(group, groups);
    // Uniform in the workgroup: the barriers below are reached by all threads or by none.
    if row >= p.rows {
        return;
    }
    let first = p.logits_offset + row * p.classes;
    var most = -3.0e38;
    for (var v = index; v < p.classes; v += 256u) {
        most = max(most, logits[first + v]);
    }
    most = tree_max(index, most);
    var sum = 0.0;
    for (var v = index; v < p.classes; v += 256u) {
        sum += exp(logits[first + v] - most);
    }
    sum = tree_sum(index, sum);
    let label = min(targets[p.targets_offset + row], p.classes - 1u);
    if index == 0u {
        losses[row] = log(sum) + (most - logits[first + label]);
    }
#ifdef GRADIENT
    for (var v = index; v < p.classes; v += 256u) {
        let share = exp(logits[first + v] - most) / sum;
        d_logits[row * p.classes + v] = p.scale * (share - select(0.0, 1.0, v == label));
    }
#endif
}
