// d_table[v,e] = Σ over n with ids[n] = v of d_output[n,e], in the order of n: no atomics.
// A workgroup owns one row v and 64 columns; all its threads look through the same ids.
#import shared/group_number
#import shared/embedding

#bindings

const COLUMNS = 64u;
var<workgroup> id_tile: array<u32, COLUMNS>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let number = group_number(group, groups);
    let blocks = (p.width + COLUMNS - 1u) / COLUMNS;
    let v = number / blocks;
    let e = (number % blocks) * COLUMNS + index;
    // Uniform in the workgroup: the barriers below are reached by all threads or by none.
    if v >= p.vocabulary {
        return;
    }
    var sum = 0.0;
    for (var n0 = 0u; n0 < p.count; n0 += COLUMNS) {
        id_tile[index] = ids[p.ids_offset + min(n0 + index, p.count - 1u)];
        workgroupBarrier();
        let end = min(COLUMNS, p.count - n0);
        for (var i = 0u; i < end; i++) {
            if min(id_tile[i], p.vocabulary - 1u) == v && e < p.width {
                sum += d_output[p.output_offset + (n0 + i) * p.width + e];
            }
        }
        workgroupBarrier();
    }
    if e < p.width {
        let at = p.table_offset + v * p.width + e;
#ifdef ACCUMULATE
        sum += d_table[at];
#endif
        d_table[at] = sum;
    }
}
