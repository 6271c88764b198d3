// The cell's activations by role, and their slopes from the value. A role is a gate's number in the
// order of the weights without options; ROLE_H is an LSTM's function of the cell state. CLIP clamps
// what goes into a gate; there the slope is 0.
const ROLE_H = 4u;

fn act_unclipped(role: u32, a: f32) -> f32 {
    switch role {
        case 0u: {
            return act_#{ACT_0}(a, #{ACT_0_ALPHA}, #{ACT_0_BETA});
        }
        case 1u: {
            return act_#{ACT_1}(a, #{ACT_1_ALPHA}, #{ACT_1_BETA});
        }
        case 2u: {
            return act_#{ACT_2}(a, #{ACT_2_ALPHA}, #{ACT_2_BETA});
        }
        case 3u: {
            return act_#{ACT_3}(a, #{ACT_3_ALPHA}, #{ACT_3_BETA});
        }
        default: {
            return act_#{ACT_4}(a, #{ACT_4_ALPHA}, #{ACT_4_BETA});
        }
    }
}

fn slope_unclipped(role: u32, y: f32) -> f32 {
    switch role {
        case 0u: {
            return slope_#{ACT_0}(y, #{ACT_0_ALPHA}, #{ACT_0_BETA});
        }
        case 1u: {
            return slope_#{ACT_1}(y, #{ACT_1_ALPHA}, #{ACT_1_BETA});
        }
        case 2u: {
            return slope_#{ACT_2}(y, #{ACT_2_ALPHA}, #{ACT_2_BETA});
        }
        case 3u: {
            return slope_#{ACT_3}(y, #{ACT_3_ALPHA}, #{ACT_3_BETA});
        }
        default: {
            return slope_#{ACT_4}(y, #{ACT_4_ALPHA}, #{ACT_4_BETA});
        }
    }
}

fn clip_gate(a: f32) -> f32 {
#ifdef CLIP
    return clamp(a, -#{CLIP}, #{CLIP});
#else
    return a;
#endif
}

fn act(role: u32, a: f32) -> f32 {
    return act_unclipped(role, select(clip_gate(a), a, role == ROLE_H));
}

#ifdef CLIP
#ifdef SHORT_GATES
// Half a unit of f16, as which y was stored.
const ROUNDING = 4.9e-4;
#else
const ROUNDING = 5e-7;
#endif

// Whether y is the value at a border, up to the rounding of two evaluations.
fn clipped(role: u32, y: f32) -> bool {
    let high = act_unclipped(role, #{CLIP});
    let low = act_unclipped(role, -#{CLIP});
    return abs(y - high) <= ROUNDING * abs(high) || abs(y - low) <= ROUNDING * abs(low);
}
#endif

fn slope(role: u32, y: f32) -> f32 {
    let value = slope_unclipped(role, y);
#ifdef CLIP
    return select(value, 0.0, role != ROLE_H && clipped(role, y));
#else
    return value;
#endif
}
