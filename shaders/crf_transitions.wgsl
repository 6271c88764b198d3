// How often each transition is expected, less how often it is wanted: over the steps of a part that have one before,
//     parts[n,i,j] = factor/total·Σ exp(x_{t−1}(i) + A(i,j) + w_t(j)) − [the target goes from i to j]
// with w in `right`. A workgroup a tile of 16 by 16 transitions of a part, 16 steps at once. SCALED: times the loss
// scale. ACCUMULATE: added to what launches over other steps left there.
#import shared/group_number

struct Params {
    batch: u32,
    first: u32,
    end: u32,
    tags: u32,
    chunk: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale
#endif

const NONE = 0xffffffffu;
const LAST = 0x80000000u;

var<workgroup> from_tile: array<f32, 256>;
var<workgroup> to_tile: array<f32, 256>;
var<workgroup> pairs: array<u32, 16>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let number = group_number(group, groups);
    let tiles = (p.tags + 15u) / 16u;
    let tile = number % (tiles * tiles);
    let start = p.first + number / (tiles * tiles) * p.chunk;
    if start >= p.end {
        return;
    }
    let end = min(start + p.chunk, p.end);
    let first_i = tile / tiles * 16u;
    let first_j = tile % tiles * 16u;
    let i = first_i + local.y;
    let j = first_j + local.x;
    let here = i < p.tags && j < p.tags;
    let own = i * p.tags + j;
    var score = 0.0;
    if here {
        score = scores[own];
    }
    var sum = 0.0;
    for (var from_step = start; from_step < end; from_step += 16u) {
        let step = from_step + local.y;
        var pair = NONE;
        if step < end {
            pair = marks[step];
        }
        // The first step of a row has none before.
        let follows = pair != NONE && (pair & ~LAST) / p.tags < p.tags;
        if local.x == 0u {
            pairs[local.y] = select(NONE, pair & ~LAST, follows);
        }
        var left_value = 0.0;
        var right_value = 0.0;
        if follows && first_i + local.x < p.tags {
            left_value = states[(step - p.batch) * (p.tags + 1u) + first_i + local.x];
        }
        if follows && first_j + local.x < p.tags {
            right_value = right[step * (p.tags + 1u) + first_j + local.x];
        }
        from_tile[local.y * 16u + local.x] = left_value;
        to_tile[local.y * 16u + local.x] = right_value;
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let wanted = pairs[k];
            if wanted != NONE {
                let chance = exp(from_tile[k * 16u + local.y] + score + to_tile[k * 16u + local.x]);
                sum += chance - select(0.0, 1.0, wanted == own);
            }
        }
        workgroupBarrier();
    }
    let count = total[0u];
    var scale = select(0.0, p.factor / count, count > 0.0);
#ifdef SCALED
    scale *= power_of_two(scale_exponent());
#endif
    if here {
        let at = (number / (tiles * tiles)) * p.tags * p.tags + own;
        var value = scale * sum;
#ifdef ACCUMULATE
        value += parts[at];
#endif
        parts[at] = value;
    }
}
