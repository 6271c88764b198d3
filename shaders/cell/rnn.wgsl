// The vanilla cell (Elman 1990): h' = f(x + r). Saved: h' before zoneout; backward leaves da.
#import shared/roles

#ifndef BACKWARD
fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    let h = act(0u, x[0] + r[0]);
    var out = CellOut();
    out.saved[0] = h;
    out.states[0] = h;
    return out;
}
#else
// da = dh'·f'(a).
fn cell_backward(
    saved: array<f32, SAVED>,
    old: array<f32, STATES>,
    d_new: array<f32, STATES>,
) -> CellOut {
    var out = CellOut();
    out.saved[0] = d_new[0] * slope(0u, saved[0]);
    out.states[0] = 0.0;
    return out;
}
#endif
