// Marginals of a linear-chain CRF at every step, LANES threads each: of the states forward x and backward y, which
// both have the emission e,
//     q(j) = x(j) + y(j) − e(j),   L = log Σ_j exp q(j),   p(j) = exp(q(j) − L)
// and the gradient p(j) − [j = target], at the target written as minus the others' share, which keeps its digits
// (times factor/total, SCALED: and the loss scale). The states backward become y(j) − L − M, so that
// exp(x_{t−1}(i) + A(i,j) + that) is the probability of a transition.
#import shared/group_number
#import shared/tree

struct Params {
    time: u32,
    batch: u32,
    tags: u32,
    emissions_offset: u32,
    gradient_offset: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale
#endif

const NONE = 0xffffffffu;
const LAST = 0x80000000u;

fn gradient_scale() -> f32 {
    let count = total[0u];
    var scale = select(0.0, p.factor / count, count > 0.0);
#ifdef SCALED
    scale *= power_of_two(scale_exponent());
#endif
    return scale;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let step = group_number(group, groups) * (256u / LANES) + index / LANES;
    let lane = index % LANES;
    let steps = p.time * p.batch;
    // Threads past the last step go along to the barriers.
    let present = step < steps;
    let mark = marks[min(step, steps - 1u)];
    let counts = present && mark != NONE;
    let pair = mark & ~LAST;
    let label = select(0u, pair % p.tags, counts);
    let first = step * (p.tags + 1u);
    let emission = p.emissions_offset + step * p.tags;
    let end = select(0u, p.tags, counts);
    var most = -3.0e38;
    for (var j = lane; j < end; j += LANES) {
        most = max(most, states[first + j] + right[first + j] - emissions[emission + j]);
    }
    most = tree_max(index, most);
    // Before the barriers below: behind them each lane changes its tags.
    var own = 0.0;
    if counts {
        own = states[first + label] + right[first + label] - emissions[emission + label];
        own = exp(own - most);
    }
    var others = 0.0;
    for (var j = lane; j < end; j += LANES) {
        let q = states[first + j] + right[first + j] - emissions[emission + j];
        others += select(exp(q - most), 0.0, j == label);
    }
    others = tree_sum(index, others);
    // Each lane has read the label's score by now.
    storageBarrier();
    if !present {
        return;
    }
    let sum = others + own;
    let scale = gradient_scale();
    let shift = most + log(sum) + states[first + p.tags];
    for (var j = lane; j < p.tags; j += LANES) {
        var d = 0.0;
        if counts {
            let q = states[first + j] + right[first + j] - emissions[emission + j];
            right[first + j] -= shift;
            d = scale * (select(exp(q - most), -others, j == label) / sum);
            let at = (step % p.batch) * p.tags + j;
            if pair / p.tags == p.tags {
                ends[at] = d;
            }
            if (mark & LAST) != 0u {
                ends[p.batch * p.tags + at] = d;
            }
        }
#ifdef GRADIENT
        let at = p.gradient_offset + step * p.tags + j;
#ifdef ACCUMULATE
        d += d_emissions[at];
#endif
        d_emissions[at] = d;
#endif
    }
}
