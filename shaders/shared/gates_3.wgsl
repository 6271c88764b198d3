// Three gates: see gates_1.
alias Sum = vec3<f32>;

fn tile_gates(at: u32) -> Sum {
    return vec3<f32>(w_tile[at], w_tile[at + TILE], w_tile[at + 2u * TILE]);
}

fn spread_gates(sum: Sum) -> array<f32, GATES> {
    return array<f32, GATES>(sum.x, sum.y, sum.z);
}
