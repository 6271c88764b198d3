// A linear-chain CRF over time (Lafferty, McCallum and Pereira 2001), a workgroup a row of the batch. Of the steps
// that take part, with A from the table of scores,
//     x_1(j) = begin(j) + e_1(j)
//     x_t(j) = e_t(j) + log Σ_i exp(x_{t−1}(i) − M_{t−1} + A(i,j)),   M_{t−1} = max_i x_{t−1}(i)
// which keeps x small: the sum over all paths is x + Σ M. REVERSE: from the last step on, with Aᵀ and the scores of
// the last tag. BEST: max in the place of log Σ exp, and which i it was, the smaller of two (Viterbi 1967).
// LABELLED: loss = log Σ over all paths of exp(score) − the targets' score. A launch makes `count` steps, after the
// `first` ones that launches before it made.
#import shared/group_number

struct Params {
    time: u32,
    batch: u32,
    tags: u32,
    emissions_offset: u32,
    flags_offset: u32,
    targets_offset: u32,
    first: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

const THREADS = #{THREADS}u;
const SIZE = #{SIZE}u;
const LOWEST = -3.0e38;
// In marks: no step, and the last one.
const NONE = 0xffffffffu;
const LAST = 0x80000000u;
// Terms that are summed before they join the others: a sum of 10,000 keeps its digits.
const BLOCK = 64u;

// x of the last step and of this one, in turns.
var<workgroup> held: array<f32, 2 * SIZE>;

fn takes_part(step: u32) -> bool {
#ifdef HAS_flags
    return (flags[p.flags_offset + step] & 1u) != 0u;
#else
    return true;
#endif
}

// The table's row of the scores of a path's beginning, and the first of what follows i.
#ifdef REVERSE
fn begin_row() -> u32 {
    return p.tags + 1u;
}

fn first_row() -> u32 {
    return p.tags + 2u;
}
#else
fn begin_row() -> u32 {
    return p.tags;
}

fn first_row() -> u32 {
    return 0u;
}
#endif

// x(i) − M + A(i,j).
fn through(i: u32, j: u32, place: u32, most: f32) -> f32 {
    return held[place + i] - most + scores[(first_row() + i) * p.tags + j];
}

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group_number(group, groups);
    if row >= p.batch {
        return;
    }
    // Where the last step's x lie.
    var place = 0u;
    var begun = false;
    var sum = 0.0;
    var part = 0.0;
    var terms = 0u;
    var before = p.tags;
    var last = 0u;
#ifdef HAS_carry
    let carried = row * (p.tags + 4u);
    if p.first > 0u {
        for (var j = index; j < p.tags; j += THREADS) {
            held[j] = carry[carried + j];
        }
        begun = carry[carried + p.tags] != 0.0;
        before = u32(carry[carried + p.tags + 1u]);
        last = u32(carry[carried + p.tags + 2u]);
        sum = carry[carried + p.tags + 3u];
    }
    workgroupBarrier();
#endif
    for (var s = p.first; s < p.first + p.count; s++) {
#ifdef REVERSE
        let step = (p.time - 1u - s) * p.batch + row;
#else
        let step = s * p.batch + row;
#endif
        let next = SIZE - place;
        let counts = takes_part(step);
        var most = 0.0;
        if counts && begun {
            most = LOWEST;
            for (var i = 0u; i < p.tags; i++) {
                most = max(most, held[place + i]);
            }
        }
        for (var j = index; j < p.tags; j += THREADS) {
            var value = 0.0;
            if counts {
                value = scores[begin_row() * p.tags + j];
                if begun {
                    var peak = LOWEST;
                    var chosen = 0u;
                    for (var i = 0u; i < p.tags; i++) {
                        let other = through(i, j, place, most);
                        chosen = select(chosen, i, other > peak);
                        peak = max(peak, other);
                    }
#ifdef BEST
                    pointers[step * p.tags + j] = chosen;
                    value = peak;
#else
                    var total = 0.0;
                    for (var i = 0u; i < p.tags; i++) {
                        total += exp(through(i, j, place, most) - peak);
                    }
                    value = peak + log(total);
#endif
                }
                value += emissions[p.emissions_offset + step * p.tags + j];
            } else if begun {
                value = held[place + j];
            }
            held[next + j] = value;
#ifdef HAS_states
            states[step * (p.tags + 1u) + j] = value;
#endif
        }
        if index == 0u {
#ifdef HAS_states
            states[step * (p.tags + 1u) + p.tags] = most;
#endif
            part += most;
#ifdef LABELLED
            var mark = NONE;
            if counts {
                let label = min(targets[p.targets_offset + step], p.tags - 1u);
                mark = before * p.tags + label;
                part -= scores[mark] + emissions[p.emissions_offset + step * p.tags + label];
                before = label;
                last = s;
            }
            marks[step] = mark;
#endif
            terms++;
            if terms == BLOCK {
                sum += part;
                part = 0.0;
                terms = 0u;
            }
        }
        workgroupBarrier();
        place = next;
        begun = begun || counts;
    }
    let ends = p.first + p.count == p.time;
#ifdef HAS_carry
    if !ends {
        for (var j = index; j < p.tags; j += THREADS) {
            carry[carried + j] = held[place + j];
        }
        if index == 0u {
            carry[carried + p.tags] = select(0.0, 1.0, begun);
            carry[carried + p.tags + 1u] = f32(before);
            carry[carried + p.tags + 2u] = f32(last);
            carry[carried + p.tags + 3u] = sum + part;
        }
    }
#endif
#ifdef LABELLED
    if index == 0u && ends {
        marks[p.time * p.batch + row] = select(0u, 1u, begun);
        var loss = 0.0;
        if begun {
            let end = (p.tags + 1u) * p.tags;
            var peak = LOWEST;
            for (var j = 0u; j < p.tags; j++) {
                peak = max(peak, held[place + j] + scores[end + j]);
            }
            var total = 0.0;
            for (var j = 0u; j < p.tags; j++) {
                total += exp(held[place + j] + scores[end + j] - peak);
            }
            loss = sum + (part + (peak - scores[end + before]) + log(total));
            let at = last * p.batch + row;
            marks[at] = marks[at] | LAST;
        }
        losses[row] = loss;
    }
#endif
#ifdef BEST
    // The pointers of all threads.
    storageBarrier();
    if index == 0u && ends {
        let end = (p.tags + 1u) * p.tags;
        var peak = LOWEST;
        var tag = 0u;
        for (var j = 0u; j < p.tags; j++) {
            let other = held[place + j] + scores[end + j];
            tag = select(tag, j, other > peak);
            peak = max(peak, other);
        }
        best[row] = select(0.0, sum + (part + peak), begun);
        // The first step that takes part has no pointers, and none before it asks for them.
        for (var s = 0u; s < p.time; s++) {
            let step = (p.time - 1u - s) * p.batch + row;
            let counts = takes_part(step);
            path[step] = select(-1.0, f32(tag), counts);
            if counts {
                tag = pointers[step * p.tags + tag];
            }
        }
    }
#endif
}
