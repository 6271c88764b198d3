// The derivative of a time step with layer norm, a workgroup a batch row; see norm_forward. dh, the
// gradient of h's candidate, comes from an earlier phase. For y = γ⊙v̂ + β, v̂ = N(v), over n words:
//     dv̂ = dy⊙γ   dv = (dv̂ − Σdv̂/n − v̂⊙Σ(dv̂⊙v̂)/n) / √(var + ε)   dγ += dy⊙v̂   dβ += dy
// Leaves the gate gradients in gates[t] and the gradient of U·h̃ in recurrent[t]. Reset-before GRU: with
// the cell that of n's product, and when r's gradient is known (no PHASE_CELL) that of r and z.
#import shared/step
#ifdef PHASE_CELL
#import shared/activations
#import shared/states
#import shared/carry
#import shared/cell
#else
#import shared/unit
#endif
#import shared/tree
#import shared/group_number

const GAIN = #{GAIN}u;
const FIRST_GATE = #{FIRST_GATE}u;
const PRODUCTS = #{PRODUCTS}u;   // gates of the norm

#ifdef PHASE_CELL
fn d_hidden(at: At) -> f32 {
#ifdef PROJECTED
    return d_unprojected[at.row * p.hidden + at.unit];
#else
    return d_candidate[p.candidate_offset + at.row * p.width + at.unit];
#endif
}

#endif

#import shared/recurrent_block

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
    here_row = row;
    let at_norms = (p.t * p.batch + row) * 4u;
#ifdef NORM_CELL
    let mean_c = norms[at_norms + 2u];
    let scale_c = norms[at_norms + 3u];
    var sum_c = vec2<f32>();
    for (var unit = index; unit < p.hidden; unit += 256u) {
        here = unit;
        let at = At(row, unit);
        let normal = (candidate_cell(at) - mean_c) * scale_c;
        let y = parameter(GAIN + GATES) * normal + parameter(GAIN + GATES + 1u);
        let dy = output_backward(gates[gate_index(p.t, GATE_O, at)], y, d_hidden(at)).y;
        let d_normal = dy * parameter(GAIN + GATES);
        sum_c += vec2<f32>(d_normal, d_normal * normal);
        add_parameter_gradient(GAIN + GATES, dy * normal);
        add_parameter_gradient(GAIN + GATES + 1u, dy);
    }
    sum_c = vec2<f32>(tree_sum(index, sum_c.x), tree_sum(index, sum_c.y)) / f32(p.hidden);
#endif
    let n = PRODUCTS * p.hidden;
    let first = ((p.t * p.batch + row) * G_COUNT + FIRST_GATE) * p.hidden;
    let mean = norms[at_norms + FIRST_GATE];
    let scale = norms[at_norms + FIRST_GATE + 1u];
    var sum = vec2<f32>();
    for (var unit = index; unit < p.hidden; unit += 256u) {
        here = unit;
        let at = At(row, unit);
#ifdef PHASE_CELL
        if has_flag(p.t, row, VALID) {
#ifdef NORM_CELL
            var saved = array<f32, SAVED>();
            for (var block = 0u; block < CELL_SAVED; block++) {
                saved[block] = gates[gate_index(p.t, block, at)];
            }
            let c = candidate_cell(at);
            let normal = (c - mean_c) * scale_c;
            let y = parameter(GAIN + GATES) * normal + parameter(GAIN + GATES + 1u);
            let d = output_backward(saved[GATE_O], y, d_hidden(at));
            let d_normal = d.y * parameter(GAIN + GATES);
            let d_c = (d_normal - sum_c.x - normal * sum_c.y) * scale_c;
            var old = array<f32, STATES>();
            old[1] = old_state(1u, at);
            let later = split(1u, at, carry[carry_index(1u, at)]);
            let out = cell_gradient(saved, old, d.x, later.candidate + d_c);
            for (var block = 0u; block < CELL_SAVED; block++) {
                gates[gate_index(p.t, block, at)] = out.saved[block];
            }
            set_carry(1u, at, later.old + out.states[1]);
#else
            // PROJECT left in carry_h what passed the candidate by.
            backward_cell(at, Split(d_hidden(at), carry[carry_index(0u, at)]));
#endif
        } else {
            for (var block = 0u; block < CELL_SAVED; block++) {
                gates[gate_index(p.t, block, at)] = 0.0;
            }
            for (var state = 1u; state < STATES; state++) {
                set_carry(state, at, carry[carry_index(state, at)]);
            }
        }
#endif
        for (var i = 0u; i < PRODUCTS; i++) {
            let gate = FIRST_GATE + i;
            let normal = (recurrent[first + i * p.hidden + unit] - mean) * scale;
            let d_r = gates[gate_index(p.t, recurrent_block(gate), at)];
            let d_normal = d_r * parameter(GAIN + gate);
            sum += vec2<f32>(d_normal, d_normal * normal);
            add_parameter_gradient(GAIN + gate, d_r * normal);
        }
    }
    sum = vec2<f32>(tree_sum(index, sum.x), tree_sum(index, sum.y)) / f32(n);
    for (var unit = index; unit < p.hidden; unit += 256u) {
        here = unit;
        for (var i = 0u; i < PRODUCTS; i++) {
            let gate = FIRST_GATE + i;
            let word = first + i * p.hidden + unit;
            let normal = (recurrent[word] - mean) * scale;
            let d_r = gates[gate_index(p.t, recurrent_block(gate), At(row, unit))];
            let d_normal = d_r * parameter(GAIN + gate);
            recurrent[word] = (d_normal - sum.x - normal * sum.y) * scale;
        }
    }
}
