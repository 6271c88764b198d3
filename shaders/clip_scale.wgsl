// norm = share·√Σ partials; clip = [share·min(1, max_norm / (norm + 1e-6)), norm].
//
// SCALED: the gradients are times the loss scale S, so that norm = √Σ / S and the factor holds 1/S too.
// clip goes on with [1 where the update is to be made, Adam's corrections 1/(1 − βⁿ) of update n]. Where
// Σ is not finite, the update is left out and S is halved; after GROWTH updates in a row it is doubled
// (Micikevicius 2018, "Mixed precision training", section 3.2).
#import shared/tree

struct Params {
    count: u32,
    max_norm: f32,
    beta_1: f32,
    beta_2: f32,
    share: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale

const GROWTH = #{GROWTH}.0;
const LAST_EXPONENT = #{LAST_EXPONENT};

// 1 − βⁿ from 1 − βⁿ⁻¹, which starts at 0.
fn next_correction(place: u32, beta: f32) -> f32 {
    return loss_scale[place] * beta + (1.0 - beta);
}

fn update_scale(finite: bool) {
    let exponent = scale_exponent();
    var next = exponent;
    var streak = 0.0;
    if finite {
        streak = loss_scale[SCALE_STREAK] + 1.0;
        if streak >= GROWTH {
            next = min(exponent + 1, LAST_EXPONENT);
            streak = 0.0;
        }
        loss_scale[SCALE_CORRECTION_1] = next_correction(SCALE_CORRECTION_1, p.beta_1);
        loss_scale[SCALE_CORRECTION_2] = next_correction(SCALE_CORRECTION_2, p.beta_2);
    } else {
        next = max(exponent - 1, 0);
        loss_scale[SCALE_SKIPPED] += 1.0;
    }
    loss_scale[SCALE_STREAK] = streak;
    loss_scale[SCALE_EXPONENT] = f32(next - #{FIRST_EXPONENT});
}
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    var sum = 0.0;
    for (var i = index; i < p.count; i += 256u) {
        sum += partials[i];
    }
    sum = tree_sum(index, sum);
    if index == 0u {
#ifdef SCALED
        let inverse = power_of_two(-scale_exponent());
        // By its bits: a compiler may take for granted that there are no infinities.
        let finite = (bitcast<u32>(sum) & 0x7f800000u) != 0x7f800000u;
        let share = p.share * inverse;
#else
        let share = p.share;
#endif
        let norm = sqrt(sum) * share;
        let factor = p.max_norm / (norm + 1e-6);
        // Written so that a NaN norm gives a NaN factor.
        clip[0] = share * select(factor, 1.0, factor > 1.0);
        clip[1] = norm;
#ifdef SCALED
        clip[2] = select(0.0, 1.0, finite);
        update_scale(finite);
        clip[3] = 1.0 / loss_scale[SCALE_CORRECTION_1];
        clip[4] = 1.0 / loss_scale[SCALE_CORRECTION_2];
#endif
    }
}
