// What a time step's forward kernels share: the weights, and what becomes of a unit's products.
const PRODUCTS = #{PRODUCTS}u;   // gates of this phase
// Left operands: one for all gates, or h under each gate's own mask.
const SOURCES = #{SOURCES}u;

fn weight_index(gate: u32, unit: u32, k: u32) -> u32 {
    return p.w_offset + (gate * p.hidden + unit) * p.depth + k;
}

fn weight(gate: u32, unit: u32, k: u32) -> f32 {
    return w[weight_index(gate, unit, k)];
}

#ifdef PHASE_CELL
fn settle(at: At, products: array<f32, PRODUCTS>) {
    if !has_flag(p.t, at.row, VALID) {
        keep_cell(at);
        return;
    }
    var r = products;
    for (var gate = 0u; gate < PRODUCTS; gate++) {
        r[gate] += b[p.b_offset + gate * p.hidden + at.unit];
    }
    forward_cell(at, r);
}
#endif
