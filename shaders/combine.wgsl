// destination[r,c] = scale·f(source[r,c], other[r,c]), rows apart by strides of their own (0: one row
// for all), with f the first alone, the sum or the product. ACCUMULATE adds to the destination. SCALED:
// times the loss scale.
#import shared/group_number

struct Params {
    rows: u32,
    columns: u32,
    source_offset: u32,
    source_stride: u32,
    other_offset: u32,
    other_stride: u32,
    target_offset: u32,
    target_stride: u32,
    scale: f32,
    swap: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings
#ifdef SCALED
#import shared/loss_scale
#endif

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
    // Swapped: the rows are (outer, inner), the source's are (inner, outer), with `swap` inner ones.
    var source_row = row;
    if p.swap > 0u {
        source_row = (row % p.swap) * (p.rows / p.swap) + row / p.swap;
    }
    var value = source[p.source_offset + source_row * p.source_stride + column];
#ifdef SUM
    value += other[p.other_offset + row * p.other_stride + column];
#endif
#ifdef PRODUCT
    value *= other[p.other_offset + row * p.other_stride + column];
#endif
    value *= p.scale;
#ifdef SCALED
    value *= power_of_two(scale_exponent());
#endif
    let at = p.target_offset + row * p.target_stride + column;
#ifdef ACCUMULATE
    value += destination[at];
#endif
    destination[at] = value;
}
