// What the norms of the input product share. `normal` [rows, columns] holds the product, then the
// normalised values, then (backward) the product's gradient; the result and its gradient lie in rows
// of `gates`, which are further apart.
struct Params {
    rows: u32,
    columns: u32,
    gates_offset: u32,
    gates_stride: u32,
    gain_offset: u32,
    bias_offset: u32,
    places: u32,
    epsilon: f32,
    momentum: f32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
