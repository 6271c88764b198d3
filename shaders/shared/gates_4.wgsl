// Four gates: see gates_1.
alias Sum = vec4<f32>;

#ifdef PER_GATE
fn tile_sources(at: u32) -> Sum {
    return vec4<f32>(
        h_tile[at],
        h_tile[at + TILE * DEPTH],
        h_tile[at + 2u * TILE * DEPTH],
        h_tile[at + 3u * TILE * DEPTH],
    );
}
#else
fn tile_sources(at: u32) -> f32 {
    return h_tile[at];
}
#endif

fn tile_gates(at: u32) -> Sum {
    return vec4<f32>(w_tile[at], w_tile[at + TILE], w_tile[at + 2u * TILE], w_tile[at + 3u * TILE]);
}

fn spread_gates(sum: Sum) -> array<f32, PRODUCTS> {
    return array<f32, PRODUCTS>(sum.x, sum.y, sum.z, sum.w);
}
