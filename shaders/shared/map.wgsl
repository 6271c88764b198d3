// Maps with channels last: row = (map, y, x).
struct Params {
    rows: u32,
    channels: u32,
    source_offset: u32,
    source_stride: u32,
    columns_offset: u32,
    columns_stride: u32,
    mask_offset: u32,
    flags_offset: u32,
    map_height: u32,
    map_width: u32,
    kernel_height: u32,
    kernel_width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
