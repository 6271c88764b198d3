// sums[c] = Σ_r a[r,c]·b[r,c] (or of a alone), 16 columns a workgroup. Rows go block by block, the last
// block first where descending; of each block 16 stretches are put together in their order.
// ACCUMULATE starts with what the destination holds.
#import shared/group_number

struct Params {
    rows: u32,
    columns: u32,
    a_offset: u32,
    a_stride: u32,
    b_offset: u32,
    b_stride: u32,
    target_offset: u32,
    block: u32,
    descending: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

var<workgroup> parts: array<f32, 256>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let column = group_number(group, groups) * 16u + local.x;
    var total = 0.0;
#ifdef ACCUMULATE
    if local.y == 0u && column < p.columns {
        total = sums[p.target_offset + column];
    }
#endif
    let blocks = (p.rows + p.block - 1u) / p.block;
    for (var i = 0u; i < blocks; i++) {
        let first = select(i, blocks - 1u - i, p.descending == 1u) * p.block;
        let end = min(first + p.block, p.rows);
        var sum = 0.0;
        if column < p.columns {
            for (var row = first + local.y; row < end; row += 16u) {
                var value = a[p.a_offset + row * p.a_stride + column];
#ifdef HAS_b
                value *= b[p.b_offset + row * p.b_stride + column];
#endif
                sum += value;
            }
        }
        parts[local.y * 16u + local.x] = sum;
        workgroupBarrier();
        if local.y == 0u {
            sum = 0.0;
            for (var part = 0u; part < 16u; part++) {
                sum += parts[part * 16u + local.x];
            }
            total += sum;
        }
        workgroupBarrier();
    }
    if local.y == 0u && column < p.columns {
        sums[p.target_offset + column] = total;
    }
}
