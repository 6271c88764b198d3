// destination[r,c] = source[r,c], rows apart by strides of their own.
#import shared/group_number

struct Params {
    rows: u32,
    columns: u32,
    source_offset: u32,
    source_stride: u32,
    target_offset: u32,
    target_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> destination: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = group_number(group, groups) * 256u + index;
    if i >= p.rows * p.columns {
        return;
    }
    let row = i / p.columns;
    let column = i % p.columns;
    destination[p.target_offset + row * p.target_stride + column] =
        source[p.source_offset + row * p.source_stride + column];
}
