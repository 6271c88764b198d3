// The adjoint of columns_forward: place (y, x) was read by its neighbours, once for each tap.
// ACCUMULATE adds to the destination.
#import shared/group_number
#import shared/map

#bindings

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = group_number(group, groups) * 256u + index;
    if i >= p.rows * p.channels {
        return;
    }
    let row = i / p.channels;
    let channel = i % p.channels;
    let taps = p.kernel_height * p.kernel_width;
    let place = row % (p.map_height * p.map_width);
    var sum = 0.0;
    for (var tap = 0u; tap < taps; tap++) {
        let y = place / p.map_width - tap / p.kernel_width + p.kernel_height / 2u;
        let x = place % p.map_width - tap % p.kernel_width + p.kernel_width / 2u;
        if y < p.map_height && x < p.map_width {
            let neighbour = row - place + y * p.map_width + x;
            sum += columns[p.columns_offset + neighbour * p.columns_stride + channel * taps + tap];
        }
    }
#ifdef ACCUMULATE
    sum += destination[p.source_offset + row * p.source_stride + channel];
#endif
    destination[p.source_offset + row * p.source_stride + channel] = sum;
}
