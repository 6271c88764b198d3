// GRU (Cho 2014) with the reset after the product (cuDNN, PyTorch), gate order r, z, n:
//     r = σ(x_r + r_r)   z = σ(x_z + r_z)   n = tanh(x_n + r⊙r_n)   h' = (1−z)⊙n + z⊙h
// Saved: r, z, n and r_n, the recurrent product of n with its bias. Backward leaves the gradients
// of x_r, x_z, x_n and, in the fourth place, of r_n.
#import shared/roles
#import shared/gru_roles

#ifndef BACKWARD
fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    let reset = act(ROLE_R, x[0] + r[0]);
    let a_z = x[1] + r[1];
    let z = act(ROLE_Z, a_z);
    let n = act(ROLE_N, x[2] + reset * r[2]);
    var out = CellOut();
    out.saved = array<f32, SAVED>(reset, z, n, r[2]);
    out.states[0] = rest_of_z(a_z, z) * n + z * old[0];
    return out;
}
#else
//     dn = dh'⊙(1−z)⊙n'   dz = dh'⊙(h−n)⊙z'   dr = dn⊙r_n⊙r'   d(r_n) = dn⊙r
//     to h, past the product: dh'⊙z
fn cell_backward(
    saved: array<f32, SAVED>,
    old: array<f32, STATES>,
    d_new: array<f32, STATES>,
) -> CellOut {
    let reset = saved[0];
    let z = saved[1];
    let n = saved[2];
    let dh = d_new[0];
    let dn = dh * (1.0 - z) * slope(ROLE_N, n);
    var out = CellOut();
    out.saved = array<f32, SAVED>(
        dn * saved[3] * slope(ROLE_R, reset),
        dh * (old[0] - n) * slope(ROLE_Z, z),
        dn,
        dn * reset,
    );
    out.states[0] = dh * z;
    return out;
}
#endif
