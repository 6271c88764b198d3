// d_table[v,e] = Σ over n with ids[n] = v of d_output[n,e], in a fixed order: no atomics on floats.
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
    var sum: vec4<f32>;
    for (var n0 = 0u; n0 < p.count; n0 += CHUNK) {
        if index < WORDS {
            atomicStore(&marks[index], 0u);
        }
        workgroupBarrier();
        let end = min(CHUNK, p.count - n0);
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
                let first = p.output_offset + n * p.width;
                var terms: vec4<f32>;
#for I in 0 1 2 3
                if e + #{I}u * LINE < p.width {
                    terms[#{I}] = d_output[first + e + #{I}u * LINE];
                }
#end
                sum += terms;
            }
        }
        workgroupBarrier();
    }
    sums[index] = sum;
    workgroupBarrier();
    // A thread a column.
    let column = (number % blocks) * COLUMNS + index;
    if column < p.width {
        var total = 0.0;
        for (var other = 0u; other < SHARES; other++) {
            total += sums[other * LINE + index % LINE][index / LINE];
        }
        let at = p.table_offset + v * p.width + column;
#ifdef ACCUMULATE
        total += d_table[at];
#endif
        d_table[at] = total;
    }
}
