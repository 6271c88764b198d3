// One gate: its sum is a scalar. The gates' sums are kept in registers, never in an array that is
// indexed in a loop.
alias Sum = f32;

fn tile_sources(at: u32) -> Sum {
    return h_tile[at];
}

fn tile_gates(at: u32) -> Sum {
    return w_tile[at];
}

fn spread_gates(sum: Sum) -> array<f32, PRODUCTS> {
    return array<f32, PRODUCTS>(sum);
}
