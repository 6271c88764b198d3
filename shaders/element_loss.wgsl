// losses[group] is a workgroup's part of the sum of a loss over the elements that take part, EACH predictions x
// an element against a wanted value y; with GRADIENT that of the mean, factor/total·dL/dx. SCALED: times the
// loss scale. What takes no part is not looked at, so that it may hold anything.
#import shared/activations
#import shared/group_number
#import shared/tree

struct Params {
    count: u32,
    width: u32,
    run: u32,
    prediction_offset: u32,
    wanted_offset: u32,
    gradient_offset: u32,
    flags_offset: u32,
    positive_offset: u32,
    factor: f32,
    shape: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale
#endif

const CHUNK = #{CHUNK}u;
const EACH = #{EACH}u;

fn takes_part(element: u32) -> bool {
#ifdef HAS_flags
    return (flags[p.flags_offset + element / p.run] & 1u) != 0u;
#else
    return true;
#endif
}

fn gradient_scale() -> f32 {
    var scale = p.factor;
#ifdef GRADIENT
#ifdef HAS_flags
    let count = total[0u];
    scale = select(0.0, p.factor / count, count > 0.0);
#endif
#ifdef SCALED
    scale *= power_of_two(scale_exponent());
#endif
#endif
    return scale;
}

// The gradient of one prediction.
fn give(place: u32, d: f32) {
#ifdef GRADIENT
    var value = d;
#ifdef ACCUMULATE
    value += gradient[p.gradient_offset + place];
#endif
    gradient[p.gradient_offset + place] = value;
#endif
}

fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log_one_plus(exp(-abs(x)));
}

// log(1 + x), x ≥ 0.
fn log_of_one_plus(x: f32) -> f32 {
    return select(log(1.0 + x), log_one_plus(min(x, 1.0)), x < 1.0);
}

// (g(x), g′(x)) of g(x) = log Γ(x + ½) − log Γ(x) − ½·log x, x ≥ 1, by which log Γ's difference needs no
// Γ: with z = x + 4 and Γ(x + 1) = x·Γ(x),
//     g(x) = g(z) + ½·log(z/x) − Σ_{j<4} log(1 + ½/(x + j)),
// and Stirling's series has g(z) = −1/(8z) + 1/(192z³) − 1/(640z⁵) + 17/(14336z⁷) − …
fn gamma_step(x: f32) -> vec2<f32> {
    let z = x + 4.0;
    let i = 1.0 / z;
    let s = i * i;
    let series = i * (-1.0 / 8.0 + s * (1.0 / 192.0 + s * (-1.0 / 640.0 + s * (17.0 / 14336.0))));
    let slope = s * (1.0 / 8.0 + s * (-3.0 / 192.0 + s * (5.0 / 640.0 + s * (-119.0 / 14336.0))));
    var value = series + 0.5 * log_of_one_plus(4.0 / x);
    var d = slope - 2.0 / (x * z);
    for (var j = 0u; j < 4u; j++) {
        let y = x + f32(j);
        value -= log_one_plus(0.5 / y);
        d += 0.5 / (y * (y + 0.5));
    }
    return vec2<f32>(value, d);
}

// One level τ of the pinball loss (Koenker and Bassett 1978): max(τ·u, (τ − 1)·u), u = y − x.
fn pinball(element: u32, place: u32, level: f32, y: f32, scale: f32) -> f32 {
    let u = y - prediction[p.prediction_offset + element * EACH + place];
    let slope = select(select(0.0, 1.0 - level, u < 0.0), -level, u > 0.0);
    give(element * EACH + place, scale * slope);
    return max(level * u, (level - 1.0) * u);
}

fn term(element: u32, scale: f32) -> f32 {
    let at = p.prediction_offset + element * EACH;
    let first = element * EACH;
    let y = wanted[p.wanted_offset + element];
#ifdef BINARY
    // w·y·softplus(−x) + (1 − y)·softplus(x);  d = (1 − y)·σ(x) − w·y·σ(−x): nothing cancels.
    let x = prediction[at];
    var own = y;
#ifdef HAS_positive
    own *= positive[p.positive_offset + element % p.width];
#endif
    give(first, scale * ((1.0 - y) * sigmoid(x) - own * sigmoid(-x)));
    return own * softplus(-x) + (1.0 - y) * softplus(x);
#endif
#ifdef SQUARED
    // r²;  d = 2r.
    let r = prediction[at] - y;
    give(first, scale * 2.0 * r);
    return r * r;
#endif
#ifdef ABSOLUTE
    // |r|;  d = sign r.
    let r = prediction[at] - y;
    give(first, scale * sign(r));
    return abs(r);
#endif
#ifdef HUBER
    // r²/2 to |r| = δ, then δ·(|r| − δ/2) (Huber 1964);  d = r cut to ±δ.
    let r = prediction[at] - y;
    let size = abs(r);
    give(first, scale * clamp(r, -p.shape, p.shape));
    return select(p.shape * (size - 0.5 * p.shape), 0.5 * r * r, size <= p.shape);
#endif
#ifdef QUANTILE
    var sum = 0.0;
    var place = 0u;
#for LEVEL in #{LEVELS}
    sum += pinball(element, place, #{LEVEL}, y, scale);
    place++;
#end
    return sum;
#endif
#ifdef GAUSSIAN
    // σ = least + softplus(s), z = (y − μ)/σ;  log σ + z²/2 + log(2π)/2;
    // dμ = −z/σ, ds = (1 − z²)/σ·σ(s).
    let s = prediction[at + 1u];
    let deviation = p.shape + softplus(s);
    let z = (y - prediction[at]) / deviation;
    give(first, -scale * (z / deviation));
    give(first + 1u, scale * ((1.0 - z * z) / deviation * sigmoid(s)));
    return log(deviation) + 0.5 * z * z + 0.918938533;
#endif
#ifdef STUDENT_T
    // σ = least + softplus(s), ν = 2 + softplus(r), z = (y − μ)/σ, q = z²/ν:
    //     log σ + (ν + 1)/2·log(1 + q) − g(ν/2) + log(2π)/2
    // dμ = −(ν + 1)/ν·z/(1 + q)/σ, ds = (1 − (ν + 1)·q/(1 + q))/σ·σ(s),
    // dr = ½·(log(1 + q) − (ν + 1)/ν·q/(1 + q) − g′(ν/2))·σ(r).
    let s = prediction[at + 1u];
    let r = prediction[at + 2u];
    let deviation = p.shape + softplus(s);
    let freedom = 2.0 + softplus(r);
    let z = (y - prediction[at]) / deviation;
    let q = z * (z / freedom);
    let bent = 1.0 / (1.0 + q);
    let part = (freedom + 1.0) / freedom;
    let tail = log_of_one_plus(q);
    let step = gamma_step(0.5 * freedom);
    give(first, -scale * (part * z * bent / deviation));
    give(first + 1u, scale * ((1.0 - (freedom + 1.0) * (q * bent)) / deviation * sigmoid(s)));
    give(first + 2u, scale * (0.5 * (tail - part * (q * bent) - step.y) * sigmoid(r)));
    return log(deviation) + 0.5 * (freedom + 1.0) * tail - step.x + 0.918938533;
#endif
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let number = group_number(group, groups);
    if number * CHUNK >= p.count {
        return;
    }
    let scale = gradient_scale();
    var sum = 0.0;
    let end = min((number + 1u) * CHUNK, p.count);
    for (var element = number * CHUNK + index; element < end; element += 256u) {
        if takes_part(element) {
            sum += term(element, scale);
        } else {
            for (var place = 0u; place < EACH; place++) {
                give(element * EACH + place, 0.0);
            }
        }
    }
    sum = tree_sum(index, sum);
    if index == 0u {
        losses[number] = sum;
    }
}
