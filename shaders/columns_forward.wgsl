// The columns of a convolution with zero padding and stride 1: row (map, place), column (channel,
// tap) holds the channel at the place's neighbour: columns[r, c·taps + tap] = v[neighbour(r, tap), c].
// v is the source under a reset (0) and a mask.
#import shared/group_number
#import shared/map

#bindings

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let taps = p.kernel_height * p.kernel_width;
    let i = group_number(group, groups) * 256u + index;
    if i >= p.rows * p.channels * taps {
        return;
    }
    let row = i / (p.channels * taps);
    let channel = (i / taps) % p.channels;
    let tap = i % taps;
    let places = p.map_height * p.map_width;
    let place = row % places;
    // Below 0 wraps round to a large number, which is outside as well.
    let y = place / p.map_width + tap / p.kernel_width - p.kernel_height / 2u;
    let x = place % p.map_width + tap % p.kernel_width - p.kernel_width / 2u;
    var value = 0.0;
    if y < p.map_height && x < p.map_width {
        let neighbour = row - place + y * p.map_width + x;
        value = source[p.source_offset + neighbour * p.source_stride + channel];
#ifdef HAS_mask
        value *= mask[p.mask_offset + neighbour * p.channels + channel];
#endif
#ifdef HAS_flags
        value = select(value, 0.0, (flags[p.flags_offset + row / places] & 2u) != 0u);
#endif
    }
    columns[p.columns_offset + row * p.columns_stride + channel * taps + tap] = value;
}
