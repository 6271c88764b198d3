// GRU (Cho 2014) with the reset after the product (cuDNN, PyTorch), gate order r, z, n:
//     r = σ(x_r + r_r)   z = σ(x_z + r_z)   n = tanh(x_n + r⊙r_n)
//     h' = (1−z)⊙n + z⊙h
// Saved: r, z, n and r_n, the recurrent product of n with its bias. Backward leaves the gradients
// of x_r, x_z, x_n and, in the fourth place, of r_n.
const GATES = 3u;
const SAVED = 4u;
const STATES = 1u;

#import shared/cell_out

fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    let reset = sigmoid(x[0] + r[0]);
    let z = sigmoid(x[1] + r[1]);
    let n = tanh_stable(x[2] + reset * r[2]);
    var out: CellOut;
    out.saved = array<f32, SAVED>(reset, z, n, r[2]);
    out.states[0] = (1.0 - z) * n + z * old[0];
    return out;
}

//     dn = dh'⊙(1−z)⊙(1−n²)   dz = dh'⊙(h−n)⊙z(1−z)   dr = dn⊙r_n⊙r(1−r)   d(r_n) = dn⊙r
//     to h, past the product: dh'⊙z
fn cell_backward(
    saved: array<f32, SAVED>,
    old: array<f32, STATES>,
    next: array<f32, STATES>,
    d_states: array<f32, STATES>,
) -> CellOut {
    let reset = saved[0];
    let z = saved[1];
    let n = saved[2];
    let dh = d_states[0];
    let dn = dh * (1.0 - z) * (1.0 - n * n);
    var out: CellOut;
    out.saved = array<f32, SAVED>(
        dn * saved[3] * reset * (1.0 - reset),
        dh * (old[0] - n) * z * (1.0 - z),
        dn,
        dn * reset,
    );
    out.states[0] = dh * z;
    return out;
}

// The weights' rows r, z, n meet the saved places 0, 1 and 3.
fn recurrent_block(gate: u32) -> u32 {
    return select(gate, 3u, gate == 2u);
}
