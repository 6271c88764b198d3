// The epilogue of a time step with layer norm (Ba 2016; haste), a workgroup a batch row. With N(v) =
// (v − mean v) / √(var v + ε) over all of the row:
//     R = γ_h⊙N(U·h̃) + b′           (recurrent[t] holds U·h̃)
//     the cell over X + R; for the LSTM h' = o⊙h(γ_c⊙N(c') + β_c)
// Reset-before GRU has two products a step, so this runs twice, over PRODUCTS from FIRST_GATE on:
// r and z, then n (PHASE_CANDIDATE).
// norms [T,B,4] keeps means and inverse deviations of U·h̃ and c' (or n's product) for backward.
#import shared/activations
#import shared/step
#import shared/states
#import shared/cell
#import shared/tree
#import shared/group_number

// Vectors of the parameters by unit: after the peepholes the gains.
const GAIN = #{GAIN}u;
const FIRST_GATE = #{FIRST_GATE}u;
const PRODUCTS = #{PRODUCTS}u;   // gates of the norm

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group_number(group, groups);
    if row >= p.batch {
        return;
    }
    let valid = has_flag(p.t, row, VALID);
    let n = PRODUCTS * p.hidden;
    let first = ((p.t * p.batch + row) * G_COUNT + FIRST_GATE) * p.hidden;
    var sum = 0.0;
    for (var i = index; i < n; i += 256u) {
        sum += recurrent[first + i];
    }
    let mean = tree_sum(index, sum) / f32(n);
    sum = 0.0;
    for (var i = index; i < n; i += 256u) {
        let d = recurrent[first + i] - mean;
        sum += d * d;
    }
    let scale = 1.0 / sqrt(tree_sum(index, sum) / f32(n) + p.epsilon);
    sum = 0.0;
    for (var unit = index; unit < p.hidden; unit += 256u) {
        here = unit;
        let at = At(row, unit);
        var r = array<f32, PRODUCTS>();
        for (var i = 0u; i < PRODUCTS; i++) {
            let normal = (recurrent[first + i * p.hidden + unit] - mean) * scale;
            let gate = FIRST_GATE + i;
            r[i] = parameter(GAIN + gate) * normal + b[p.b_offset + gate * p.hidden + unit];
        }
#ifdef PHASE_CANDIDATE
        if valid {
            forward_candidate(at, r[0]);
        } else {
            keep_state(0u, at);
        }
#else
        if valid {
            forward_cell(at, r);
#ifdef NORM_CELL
            sum += candidate_cell(at);
#endif
        } else {
            keep_cell(at);
            for (var block = 0u; block < CELL_SAVED; block++) {
                gates[gate_index(p.t, block, at)] = 0.0;
            }
        }
#endif
    }
    let at_norms = (p.t * p.batch + row) * 4u + FIRST_GATE;
    if index == 0u {
        norms[at_norms] = mean;
        norms[at_norms + 1u] = scale;
    }
#ifdef NORM_CELL
    let mean_c = tree_sum(index, sum) / f32(p.hidden);
    sum = 0.0;
    for (var unit = index; unit < p.hidden; unit += 256u) {
        let d = candidate_cell(At(row, unit)) - mean_c;
        sum += d * d;
    }
    let variance = tree_sum(index, sum) / f32(p.hidden);
    let scale_c = 1.0 / sqrt(variance + p.epsilon);
    if index == 0u {
        norms[at_norms + 2u] = mean_c;
        norms[at_norms + 3u] = scale_c;
    }
    if !valid {
        return;
    }
    for (var unit = index; unit < p.hidden; unit += 256u) {
        here = unit;
        let at = At(row, unit);
        let c = candidate_cell(at);
        let y = parameter(GAIN + GATES) * ((c - mean_c) * scale_c) + parameter(GAIN + GATES + 1u);
        let h = gates[gate_index(p.t, GATE_O, at)] * act(ROLE_H, y);
#ifdef PROJECTED
        gates[gate_index(p.t, CELL_SAVED, at)] = h;
#else
        set_state(0u, at, h);
#endif
        set_state(1u, at, c);
    }
#endif
}
