// Two gates: see gates_1.
alias Sum = vec2<f32>;

#ifdef PER_GATE
fn tile_sources(at: u32) -> Sum {
    return vec2<f32>(h_tile[at], h_tile[at + TILE * DEPTH]);
}
#else
fn tile_sources(at: u32) -> f32 {
    return h_tile[at];
}
#endif

fn tile_gates(at: u32) -> Sum {
    return vec2<f32>(w_tile[at], w_tile[at + TILE]);
}

fn spread_gates(sum: Sum) -> array<f32, PRODUCTS> {
    return array<f32, PRODUCTS>(sum.x, sum.y);
}
