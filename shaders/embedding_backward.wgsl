// d_table[v,e] = Σ over n with ids[n] = v of d_output[n,e], in a fixed order, block by block: no atomics on floats.
// A workgroup owns one row v and 256 columns, a thread every LINE-th column of one of four shares of the
// tokens. All threads look through CHUNK ids at a time and mark those of the row.
#import shared/group_number
#import shared/embedding

#bindings

const LINE = 64u;
const COLUMNS = 256u;
const SHARES = 4u;
const WORDS = 64u;
const CHUNK = 32u * WORDS;
var<workgroup> marks: array<atomic<u32>, WORDS>;        // a bit an id
var<workgroup> sums: array<vec4<f32>, LINE * SHARES>;   // [share][column]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let number = group_number(group, groups);
    let blocks = (p.width + COLUMNS - 1u) / COLUMNS;
    let v = number / blocks;
    let e = (number % blocks) * COLUMNS + index % LINE;
    let share = index / LINE;
    // Uniform in the workgroup: the barriers below are reached by all threads or by none.
    if v >= p.vocabulary {
        return;
    }
    // A thread a column.
    let column = (number % blocks) * COLUMNS + index;
    let at = p.table_offset + v * p.width + column;
    var total = 0.0;
#ifdef ACCUMULATE
    if column < p.width {
        total = d_table[at];
    }
#endif
    let parts = (p.count + p.block - 1u) / p.block;
    for (var part = 0u; part < parts; part++) {
        let first = select(part, parts - 1u - part, p.descending != 0u) * p.block;
        let behind = min(first + p.block, p.count);
        var sum = vec4<f32>();
        for (var n0 = first; n0 < behind; n0 += CHUNK) {
            if index < WORDS {
                atomicStore(&marks[index], 0u);
            }
            workgroupBarrier();
            let end = min(CHUNK, behind - n0);
            for (var i = index; i < end; i += 256u) {
                if min(ids[p.ids_offset + n0 + i], p.vocabulary - 1u) == v {
                    atomicOr(&marks[i / 32u], 1u << (i % 32u));
                }
            }
            workgroupBarrier();
            for (var word = share; word < WORDS; word += SHARES) {
                var bits = atomicLoad(&marks[word]);
                while bits != 0u {
                    let n = n0 + word * 32u + firstTrailingBit(bits);
                    bits &= bits - 1u;
                    let row = p.output_offset + n * p.output_stride;
                    var terms = vec4<f32>();
#for I in 0 1 2 3
                    if e + #{I}u * LINE < p.width {
                        terms[#{I}] = d_output[row + e + #{I}u * LINE];
                    }
#end
                    sum += terms;
                }
            }
            workgroupBarrier();
        }
        // Nobody writes them again before the barriers of the next block.
        sums[index] = sum;
        workgroupBarrier();
        var of_block = 0.0;
        for (var other = 0u; other < SHARES; other++) {
            of_block += sums[other * LINE + index % LINE][index / LINE];
        }
        total += of_block;
    }
    if column < p.width {
        d_table[at] = total;
    }
}
