// partials[group] = Σ x² over the group's chunk.
#import shared/tree

struct Params {
    count: u32,
    input_offset: u32,
    partial_offset: u32,
    chunk: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first = group.x * p.chunk;
    let end = min(first + p.chunk, p.count);
    var sum = 0.0;
    for (var i = first + index; i < end; i += 256u) {
        let x = input[p.input_offset + i];
        sum += x * x;
    }
    sum = tree_sum(index, sum);
    if index == 0u {
        partials[p.partial_offset + group.x] = sum;
    }
}
