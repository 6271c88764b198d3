struct Params {
    count: u32,
    vocabulary: u32,
    width: u32,
    ids_offset: u32,
    table_offset: u32,
    output_offset: u32,
    output_stride: u32,
    block: u32,
    descending: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
