// output[n,e] = table[ids[n],e].
#import shared/group_number
#import shared/embedding

#bindings

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = group_number(group, groups) * 256u + index;
    if i >= p.count * p.width {
        return;
    }
    let id = min(ids[p.ids_offset + i / p.width], p.vocabulary - 1u);
    let row = p.output_offset + i / p.width * p.output_stride;
    output[row + i % p.width] = table[p.table_offset + id * p.width + i % p.width];
}
