// destination[r,c] = source[r,c]·mask[r mod batch, c] where the row is kept, else a value. A row is
// kept where flag bits `flag` of row (first + r) / places have the value `wanted`: VALID set, or RESET clear.
#import shared/group_number

struct Params {
    rows: u32,
    columns: u32,
    source_offset: u32,
    target_offset: u32,
    flag: u32,
    wanted: u32,
    places: u32,
    batch: u32,
    first: u32,
    mask_offset: u32,
    value: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

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
    var value = source[p.source_offset + i];
#ifdef HAS_mask
    value *= mask[p.mask_offset + (row % p.batch) * p.columns + i % p.columns];
#endif
#ifdef HAS_flags
    value = select(p.value, value, (flags[(p.first + row) / p.places] & p.flag) == p.wanted);
#endif
#ifdef ACCUMULATE
    value += destination[p.target_offset + i];
#endif
    destination[p.target_offset + i] = value;
}
