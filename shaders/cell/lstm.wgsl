// LSTM with a forget gate (Hochreiter and Schmidhuber 1997; Gers 2000), gate order i, f, g, o:
//     i = σ(x_i + r_i + p_i⊙c)   f = σ(x_f + r_f + p_f⊙c)   g = tanh(x_g + r_g)
//     c' = f⊙c + i⊙g             o = σ(x_o + r_o + p_o⊙c')  h' = o⊙tanh(c')
// PEEPHOLES has the terms with p; COUPLED has f = 1 − i and no f gate; CELL_CLIP clamps c';
// NORM_CELL normalises what h sees of c', which the norm kernels do between the two halves.
// Saved: the gates; backward leaves the gradients of their pre-activations in the same places.
#import shared/roles

const ROLE_I = 0u;
const ROLE_F = 1u;
const ROLE_G = 2u;
const ROLE_O = 3u;

#ifdef COUPLED
const GATE_G = 1u;
const GATE_O = 2u;
const PEEPHOLE_O = 1u;
#else
const GATE_F = 1u;
const GATE_G = 2u;
const GATE_O = 3u;
const PEEPHOLE_O = 2u;
#endif

fn clip_cell(c: f32) -> f32 {
#ifdef CELL_CLIP
    return clamp(c, -#{CELL_CLIP}, #{CELL_CLIP});
#else
    return c;
#endif
}

// The candidate of c' once more, from what was saved.
fn unclipped_cell(saved: array<f32, SAVED>, old: array<f32, STATES>) -> f32 {
#ifdef COUPLED
    return (1.0 - saved[0]) * old[1] + saved[0] * saved[GATE_G];
#else
    return saved[GATE_F] * old[1] + saved[0] * saved[GATE_G];
#endif
}

#ifdef NORM_CELL
// The same, clamped, from the buffers.
fn candidate_cell(at: At) -> f32 {
    var saved = array<f32, SAVED>();
    saved[0] = gates[gate_index(p.t, 0u, at)];
    saved[GATE_G] = gates[gate_index(p.t, GATE_G, at)];
#ifndef COUPLED
    saved[GATE_F] = gates[gate_index(p.t, GATE_F, at)];
#endif
    var old = array<f32, STATES>();
    old[1] = old_state(1u, at);
    return clip_cell(unclipped_cell(saved, old));
}
#endif

#ifndef BACKWARD
fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    var out = CellOut();
    var a_i = x[0] + r[0];
#ifdef PEEPHOLES
    a_i += parameter(0u) * old[1];
#endif
    let i = act(ROLE_I, a_i);
#ifdef COUPLED
    let forget = 1.0 - i;
#else
    var a_f = x[GATE_F] + r[GATE_F];
#ifdef PEEPHOLES
    a_f += parameter(1u) * old[1];
#endif
    let forget = act(ROLE_F, a_f);
    out.saved[GATE_F] = forget;
#endif
    let g = act(ROLE_G, x[GATE_G] + r[GATE_G]);
    let c = clip_cell(forget * old[1] + i * g);
    var a_o = x[GATE_O] + r[GATE_O];
#ifdef PEEPHOLES
    a_o += parameter(PEEPHOLE_O) * c;
#endif
    let o = act(ROLE_O, a_o);
    out.saved[0] = i;
    out.saved[GATE_G] = g;
    out.saved[GATE_O] = o;
    out.states[1] = c;
#ifndef NORM_CELL
    out.states[0] = o * act(ROLE_H, c);
#endif
    return out;
}
#else
// do = dh'⊙tanh(y)⊙o', dy = dh'⊙o⊙tanh', with y what h sees: c', or what the norm makes of it.
fn output_backward(o: f32, y: f32, dh: f32) -> vec2<f32> {
    let value = act(ROLE_H, y);
    return vec2<f32>(dh * value * slope(ROLE_O, o), dh * o * slope(ROLE_H, value));
}

//     dc = dc' + dy + p_o⊙do                    (0 where c' was clamped)
//     di = dc⊙g⊙i'   df = dc⊙c⊙f'   dg = dc⊙i⊙g'   coupled: di = dc⊙(g−c)⊙i'
//     to c: dc⊙f + p_i⊙di + p_f⊙df
fn cell_gradient(saved: array<f32, SAVED>, old: array<f32, STATES>, d_o: f32, d_y: f32) -> CellOut {
    var out = CellOut();
    let i = saved[0];
    let g = saved[GATE_G];
    let unclipped = unclipped_cell(saved, old);
    var dc = d_y;
#ifdef PEEPHOLES
    dc += d_o * parameter(PEEPHOLE_O);
    add_parameter_gradient(PEEPHOLE_O, d_o * clip_cell(unclipped));
#endif
#ifdef CELL_CLIP
    dc = select(0.0, dc, abs(unclipped) < #{CELL_CLIP});
#endif
#ifdef COUPLED
    let di = dc * (g - old[1]) * slope(ROLE_I, i);
    var d_old = dc * (1.0 - i);
#else
    let forget = saved[GATE_F];
    let di = dc * g * slope(ROLE_I, i);
    let df = dc * old[1] * slope(ROLE_F, forget);
    out.saved[GATE_F] = df;
    var d_old = dc * forget;
#ifdef PEEPHOLES
    d_old += df * parameter(1u);
    add_parameter_gradient(1u, df * old[1]);
#endif
#endif
#ifdef PEEPHOLES
    d_old += di * parameter(0u);
    add_parameter_gradient(0u, di * old[1]);
#endif
    out.saved[0] = di;
    out.saved[GATE_G] = dc * i * slope(ROLE_G, g);
    out.saved[GATE_O] = d_o;
    out.states[1] = d_old;
    return out;
}

fn cell_backward(
    saved: array<f32, SAVED>,
    old: array<f32, STATES>,
    d_new: array<f32, STATES>,
) -> CellOut {
    let c = clip_cell(unclipped_cell(saved, old));
    let d = output_backward(saved[GATE_O], c, d_new[0]);
    return cell_gradient(saved, old, d.x, d_new[1] + d.y);
}
#endif
