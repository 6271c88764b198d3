// The vanilla cell (Elman 1990): a = x + r, h' = activation(a).
// Saved: nothing forward needs to keep beside h' itself; backward leaves da.
const GATES = 1u;
const SAVED = 1u;
const STATES = 1u;

#import shared/cell_out

fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    var out: CellOut;
    out.states[0] = activation(x[0] + r[0]);
    out.saved[0] = x[0];
    return out;
}

// da = dh'·activation'(a), from h' itself.
fn cell_backward(
    saved: array<f32, SAVED>,
    old: array<f32, STATES>,
    next: array<f32, STATES>,
    d_states: array<f32, STATES>,
) -> CellOut {
    var out: CellOut;
    out.saved[0] = d_states[0] * activation_slope(next[0]);
    out.states[0] = 0.0;
    return out;
}

fn recurrent_block(gate: u32) -> u32 {
    return gate;
}
