// GRU with the reset before the product (Cho 2014), gate order r, z, n, in two phases:
//     r = σ(x_r + r_r)   a_z = x_z + r_z   s = r⊙h̃                      (CELL)
//     z = σ(a_z)   n = tanh(x_n + s·U_nᵀ + b′_n)   h' = (1−z)⊙n + z⊙h   (CANDIDATE)
// h̃ is h under the mask of the recurrent dropout. Saved: r, z, n, s; backward leaves the gradients
// of the three pre-activations, and s stays for the gradient of U_n.
#import shared/roles
#import shared/gru_roles

const S_BLOCK = 3u;

// The mask of h in n's product.
fn candidate_mask(at: At) -> f32 {
#ifdef HAS_hidden_mask
    return hidden_mask[(select(0u, 2u, #{MASKS}u == 3u) * p.batch + at.row) * p.width + at.unit];
#else
    return 1.0;
#endif
}

#ifndef BACKWARD
#ifdef PHASE_CELL
fn forward_cell(at: At, products: array<f32, PRODUCTS>) {
    let r = act(ROLE_R, gates[gate_index(p.t, 0u, at)] + products[0]);
    gates[gate_index(p.t, 0u, at)] = r;
    gates[gate_index(p.t, 1u, at)] += products[1];
    gates[gate_index(p.t, S_BLOCK, at)] = r * (old_state(0u, at) * candidate_mask(at));
}

// The second phase keeps the state; the product of s must still be of numbers.
fn keep_cell(at: At) {
    gates[gate_index(p.t, S_BLOCK, at)] = 0.0;
}
#else
fn forward_candidate(at: At, product: f32) {
    let n = act(ROLE_N, gates[gate_index(p.t, 2u, at)] + product);
    let a_z = gates[gate_index(p.t, 1u, at)];
    let z = act(ROLE_Z, a_z);
    gates[gate_index(p.t, 1u, at)] = z;
    gates[gate_index(p.t, 2u, at)] = n;
    set_state(0u, at, rest_of_z(a_z, z) * n + z * old_state(0u, at));
}
#endif
#else
#ifdef PHASE_CELL
//     dn = dh'⊙(1−z)⊙n'   dz = dh'⊙(h−n)⊙z'   to h: dh'⊙z
fn backward_cell(at: At, d: Split) {
    let z = gates[gate_index(p.t, 1u, at)];
    let n = gates[gate_index(p.t, 2u, at)];
    gates[gate_index(p.t, 1u, at)] = d.candidate * (old_state(0u, at) - n) * slope(ROLE_Z, z);
    gates[gate_index(p.t, 2u, at)] = d.candidate * (1.0 - z) * slope(ROLE_N, n);
    set_carry(0u, at, d.old + d.candidate * z);
}
#else
//     ds = dn·U_n   dr = ds⊙h̃⊙r'   to h: ds⊙r under the mask
fn backward_candidate(at: At, ds: f32) {
    let r = gates[gate_index(p.t, 0u, at)];
    let mask = candidate_mask(at);
    gates[gate_index(p.t, 0u, at)] = ds * (old_state(0u, at) * mask) * slope(ROLE_R, r);
    let carried = carry[carry_index(0u, at)];
    set_carry(0u, at, carried + ds * r * mask);
}
#endif
#endif
