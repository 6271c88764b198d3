// What a cell returns. Forward: the words kept for backward and the new states. Backward: the
// gradients that take the place of those words, and what reaches the old states past the product.
struct CellOut {
    saved: array<f32, SAVED>,
    states: array<f32, STATES>,
}
