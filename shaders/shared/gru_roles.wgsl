// A GRU's roles, and 1 − z.
const ROLE_R = 0u;
const ROLE_Z = 1u;
const ROLE_N = 2u;

// 1 − z with z = act(ROLE_Z, a); where that is σ, a small one keeps its digits: 1 − σ(a) = σ(−a).
fn rest_of_z(a: f32, z: f32) -> f32 {
#ifdef Z_SIGMOID
    return sigmoid(-clip_gate(a));
#else
    return 1.0 - z;
#endif
}
