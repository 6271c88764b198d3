// The cell's activations f (gates), g (candidate) and h (cell state), and their slopes from the
// value. CLIP clamps what goes into f and g; there the slope is 0.

#ifdef CLIP
// Whether y is the value at a border, up to the rounding of two evaluations.
fn clipped(y: f32, high: f32, low: f32) -> bool {
    return abs(y - high) <= 5e-7 * abs(high) || abs(y - low) <= 5e-7 * abs(low);
}
#endif

fn act_f_unclipped(a: f32) -> f32 {
    return act_#{F}(a, #{F_ALPHA}, #{F_BETA});
}

#ifdef CLIP
fn act_f(a: f32) -> f32 {
    return act_f_unclipped(clamp(a, -#{CLIP}, #{CLIP}));
}

fn slope_f(y: f32) -> f32 {
    let slope = slope_#{F}(y, #{F_ALPHA}, #{F_BETA});
    return select(slope, 0.0, clipped(y, act_f_unclipped(#{CLIP}), act_f_unclipped(-#{CLIP})));
}
#else
fn act_f(a: f32) -> f32 {
    return act_f_unclipped(a);
}

fn slope_f(y: f32) -> f32 {
    return slope_#{F}(y, #{F_ALPHA}, #{F_BETA});
}
#endif

fn act_g_unclipped(a: f32) -> f32 {
    return act_#{G}(a, #{G_ALPHA}, #{G_BETA});
}

#ifdef CLIP
fn act_g(a: f32) -> f32 {
    return act_g_unclipped(clamp(a, -#{CLIP}, #{CLIP}));
}

fn slope_g(y: f32) -> f32 {
    let slope = slope_#{G}(y, #{G_ALPHA}, #{G_BETA});
    return select(slope, 0.0, clipped(y, act_g_unclipped(#{CLIP}), act_g_unclipped(-#{CLIP})));
}
#else
fn act_g(a: f32) -> f32 {
    return act_g_unclipped(a);
}

fn slope_g(y: f32) -> f32 {
    return slope_#{G}(y, #{G_ALPHA}, #{G_BETA});
}
#endif

fn act_h_unclipped(a: f32) -> f32 {
    return act_#{H}(a, #{H_ALPHA}, #{H_BETA});
}

fn act_h(a: f32) -> f32 {
    return act_#{H}(a, #{H_ALPHA}, #{H_BETA});
}

fn slope_h(y: f32) -> f32 {
    return slope_#{H}(y, #{H_ALPHA}, #{H_BETA});
}
