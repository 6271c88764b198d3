// One gate: its sum is a scalar. The gates' sums are kept in registers, never in an array that is
// indexed in a loop.
alias Sum = f32;

#ifdef PER_GATE
fn tile_sources(at: u32, i: u32) -> Sum {
    return tile_term(at, i);
}
#endif

fn weights(unit: u32, k: u32) -> Sum {
    return weight(0u, unit, k);
}

fn spread_gates(sum: Sum) -> array<f32, PRODUCTS> {
    return array<f32, PRODUCTS>(sum);
}
