// A row for LANES threads: losses[n] = log Σ_v exp(x_v − max) + max − x_target (log(1 + others) where the
// target is the largest, so that a small loss keeps its digits), and with GRADIENT
// d_logits[n,v] = scale·(exp(x_v − max)/Σ − [v = target]); at the target this is written as minus
// the others' share, which keeps its digits where the target's share is near 1. SCALED: times the loss
// scale.
//
// OPTIONS: weights w of the classes, label smoothing ε (Szegedy 2016), rows that take no part. The loss is
//     (1 − ε)·w(target)·(the one above) + ε/V·Σ_v w_v·(log Σ + max − x_v),
// its gradient scale·((1 − ε)·w(target)·(the one above) + ε/V·(W·softmax_v − w_v)), W = Σ_v w_v. COUNTED: the scale
// is divided by the total of the w(target) that take part.
#import shared/group_number
#import shared/tree

struct Params {
    rows: u32,
    classes: u32,
    logits_offset: u32,
    targets_offset: u32,
    scale: f32,
    ignored: u32,
    run: u32,
    flags_offset: u32,
    weights_offset: u32,
    smoothing: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale
#endif

// log(1 + x), x ≥ 0, without losing a small x: 2·artanh(x / (2 + x)) as a series under 1/2.
fn log_of_one_plus(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z / 11.0))));
    return select(log(1.0 + x), 2.0 * s * series, x < 0.5);
}

fn class_weight(v: u32) -> f32 {
#ifdef WEIGHTED
    return class_weights[p.weights_offset + v];
#else
    return 1.0;
#endif
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group_number(group, groups) * (256u / LANES) + index / LANES;
    let lane = index % LANES;
    // Threads past the last row go along to the barriers.
    let present = row < p.rows;
    let first = p.logits_offset + row * p.classes;
    let end = select(0u, p.classes, present);
    var most = -3.0e38;
    for (var v = lane; v < end; v += LANES) {
        most = max(most, logits[first + v]);
    }
    most = tree_max(index, most);
    let wanted = targets[p.targets_offset + min(row, p.rows - 1u)];
    let label = min(wanted, p.classes - 1u);
    var others = 0.0;
    for (var v = lane; v < end; v += LANES) {
        others += select(exp(logits[first + v] - most), 0.0, v == label);
    }
    others = tree_sum(index, others);
#ifdef SMOOTHING
    var weights = 0.0;
    var gaps = 0.0;
    for (var v = lane; v < end; v += LANES) {
        weights += class_weight(v);
        gaps += class_weight(v) * (most - logits[first + v]);
    }
    weights = tree_sum(index, weights);
    gaps = tree_sum(index, gaps);
#endif
    if !present {
        return;
    }
    let own = logits[first + label];
    let sum = others + exp(own - most);
#ifdef OPTIONS
    var takes_part = true;
#ifdef HAS_flags
    takes_part = (flags[p.flags_offset + row / p.run] & 1u) != 0u;
#endif
#ifdef IGNORING
    takes_part = takes_part && wanted != p.ignored;
#endif
    if !takes_part {
        if lane == 0u {
            losses[row] = 0.0;
        }
#ifdef GRADIENT
        for (var v = lane; v < p.classes; v += LANES) {
            d_logits[row * p.classes + v] = 0.0;
        }
#endif
        return;
    }
    let sharp = class_weight(label) * (1.0 - p.smoothing);
#endif
    if lane == 0u {
        let gap = most - own;
        var loss = select(log(sum) + gap, log_of_one_plus(others), gap == 0.0);
#ifdef OPTIONS
        loss *= sharp;
#endif
#ifdef SMOOTHING
        loss += p.smoothing / f32(p.classes) * (weights * log(sum) + gaps);
#endif
        losses[row] = loss;
    }
#ifdef GRADIENT
#ifdef SCALED
    let scale = p.scale * power_of_two(scale_exponent());
#else
    let scale = p.scale;
#endif
#ifdef COUNTED
    let count = total[0u];
    let rate = select(0.0, scale / count, count > 0.0);
#else
    let rate = scale;
#endif
    for (var v = lane; v < p.classes; v += LANES) {
        let part = select(exp(logits[first + v] - most), -others, v == label);
#ifdef OPTIONS
        var d = sharp * (part / sum);
#ifdef SMOOTHING
        let share_of = exp(logits[first + v] - most) / sum;
        d += p.smoothing / f32(p.classes) * (weights * share_of - class_weight(v));
#endif
        d_logits[row * p.classes + v] = rate * d;
#else
        d_logits[row * p.classes + v] = scale * (part / sum);
#endif
    }
#endif
}
