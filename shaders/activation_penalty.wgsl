// Penalties on outputs h [T·B,W] (Merity, Keskar and Socher 2017, section 4.8), the means over the
// elements that take part:
//     rate·mean h²                     d h = 2·rate/n·h
//     TEMPORAL: rate·mean (h(t+1)−h(t))² over steps that both take part
// losses[group] is a workgroup's part of the value. SCALED: the gradient is times the loss scale.
#import shared/group_number
#import shared/tree

struct Params {
    rows: u32,
    batch: u32,
    width: u32,
    h_offset: u32,
    gradient_offset: u32,
    places: u32,
    rate: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale
#endif

const CHUNK = #{CHUNK}u;

fn valid(row: u32) -> bool {
#ifdef HAS_flags
    return (flags[row / p.places] & 1u) != 0u;
#else
    return true;
#endif
}

// Whether the term that starts at this row counts.
fn counts(row: u32) -> bool {
#ifdef TEMPORAL
    if row + p.batch >= p.rows {
        return false;
    }
    return valid(row) && valid(row + p.batch);
#else
    return valid(row);
#endif
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let number = group_number(group, groups);
    let count = p.rows * p.width;
    if number * CHUNK >= count {
        return;
    }
    var terms = 0.0;
    for (var row = index; row < p.rows; row += 256u) {
        terms += select(0.0, 1.0, counts(row));
    }
    terms = tree_sum(index, terms) * f32(p.width);
    let scale = select(0.0, p.rate / terms, terms > 0.0);
    var sum = 0.0;
    let end = min((number + 1u) * CHUNK, count);
    for (var i = number * CHUNK + index; i < end; i += 256u) {
        let row = i / p.width;
        let here = h[p.h_offset + i];
        var slope = 0.0;
#ifdef TEMPORAL
        let step = p.batch * p.width;
        if counts(row) {
            let change = h[p.h_offset + i + step] - here;
            sum += change * change;
            slope -= change;
        }
        if row >= p.batch && counts(row - p.batch) {
            slope += here - h[p.h_offset + i - step];
        }
#else
        if counts(row) {
            sum += here * here;
            slope = here;
        }
#endif
#ifdef HAS_gradient
        var d = 2.0 * scale * slope;
#ifdef SCALED
        d *= power_of_two(scale_exponent());
#endif
#ifdef ACCUMULATE
        d += gradient[p.gradient_offset + i];
#endif
        gradient[p.gradient_offset + i] = d;
#endif
    }
    sum = tree_sum(index, sum);
    if index == 0u {
        losses[number] = sum * scale;
    }
}
