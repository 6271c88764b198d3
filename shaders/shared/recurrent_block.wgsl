// The saved block that holds the gradient of the recurrent product of weight block `gate`.
fn recurrent_block(gate: u32) -> u32 {
#ifdef GRU
    return select(gate, 3u, gate == 2u);
#else
    return gate;
#endif
}
