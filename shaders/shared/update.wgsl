// What the updates of parameters have in common; p has count, gradient_offset and rate.
#import shared/control
#import shared/group_number

// Not past the end; SCALED: and not where clip_scale leaves the update out.
fn has_update(i: u32) -> bool {
#ifdef SCALED
    if clip[2] == 0.0 {
        return false;
    }
#endif
    return i < p.count;
}

// The step's learning rate, times the factor of the parameter's group.
fn learning_rate() -> f32 {
    return bitcast<f32>(control[CONTROL_LEARNING_RATE]) * p.rate;
}

// clip·∂w
fn clipped_gradient(i: u32) -> f32 {
    var g = gradient[p.gradient_offset + i];
#ifdef CLIP
    g *= clip[0];
#endif
    return g;
}
