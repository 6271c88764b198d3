// Four gates: see gates_1.
alias Sum = vec4<f32>;

#ifdef PER_GATE
// Each gate's own source: term i of the vector.
fn tile_sources(at: u32, i: u32) -> Sum {
    return vec4<f32>(
        tile_term(at, i),
        tile_term(at + MASK, i),
        tile_term(at + 2u * MASK, i),
        tile_term(at + 3u * MASK, i),
    );
}
#endif

fn weights(unit: u32, k: u32) -> Sum {
    return vec4<f32>(
        weight(0u, unit, k),
        weight(1u, unit, k),
        weight(2u, unit, k),
        weight(3u, unit, k),
    );
}

fn spread_gates(sum: Sum) -> array<f32, PRODUCTS> {
    return array<f32, PRODUCTS>(sum.x, sum.y, sum.z, sum.w);
}
