// A cell's equations, between the machinery's buffers. Most cells are two pure functions of one
// unit, cell_forward and cell_backward; reset-before GRU has two phases and its own file.
#import shared/unit

// A word of the unit at this step: what came before it, and what it leaves.
fn gate_word(block: u32, at: At) -> f32 {
#ifdef SEQUENCE
    return held_words[block];
#else
    return gates[gate_index(p.t, block, at)];
#endif
}

fn set_gate_word(block: u32, at: At, value: f32) {
    gates[gate_index(p.t, block, at)] = value;
#ifdef SEQUENCE
    held_words[block] = stored_word(value);
#endif
}

#ifdef PURE
const GATES = G_COUNT;
// What a cell returns. Forward: the words kept for backward and the new states. Backward: the
// gradients that take the place of those words, and what reaches the old states past the product.
struct CellOut {
    saved: array<f32, SAVED>,
    states: array<f32, STATES>,
}
#ifdef CELL_TEXT
#{CELL_TEXT}
#else
#import cell/#{CELL}
#endif

#ifndef BACKWARD
// x + r → states and saved words. The unprojected output takes the place of h.
fn forward_cell(at: At, r: array<f32, GATES>) {
    var x = array<f32, GATES>();
    for (var gate = 0u; gate < GATES; gate++) {
        x[gate] = gate_word(gate, at);
    }
    var old = array<f32, STATES>();
    for (var state = FIRST_STATE; state < STATES; state++) {
        old[state] = old_state(state, at);
    }
    let out = cell_forward(x, r, old);
    for (var block = 0u; block < CELL_SAVED; block++) {
        set_gate_word(block, at, out.saved[block]);
    }
#ifndef NORM_CELL
#ifdef PROJECTED
    gates[gate_index(p.t, CELL_SAVED, at)] = out.states[0];
#endif
    for (var state = FIRST_STATE; state < STATES; state++) {
        set_state(state, at, out.states[state]);
    }
#endif
}

fn keep_cell(at: At) {
    for (var state = FIRST_STATE; state < STATES; state++) {
        keep_state(state, at);
    }
}
#else
// Gradients of the new states (h's candidate from `dh`) → gate gradients over the saved words, and
// carry.
fn backward_cell(at: At, dh: Split) {
    var saved = array<f32, SAVED>();
    for (var block = 0u; block < CELL_SAVED; block++) {
        saved[block] = gate_word(block, at);
    }
    var old = array<f32, STATES>();
    var d_new = array<f32, STATES>();
    var passed = array<f32, STATES>();
    d_new[0] = dh.candidate;
    passed[0] = dh.old;
    for (var state = FIRST_STATE; state < STATES; state++) {
        old[state] = old_state(state, at);
        if state > 0u {
            let d = split(state, at, carry_of(state, at));
            d_new[state] = d.candidate;
            passed[state] = d.old;
        }
    }
    let out = cell_backward(saved, old, d_new);
    for (var block = 0u; block < CELL_SAVED; block++) {
        set_gate_word(block, at, out.saved[block]);
    }
    for (var state = FIRST_STATE; state < STATES; state++) {
        set_carry(state, at, passed[state] + out.states[state]);
    }
}
#endif
#else
#import cell/#{CELL}
#endif

#ifdef BACKWARD
// A row that is not valid: no gate gradients, and the states' gradients pass.
fn drop_cell(at: At, dh: Split) {
    for (var block = 0u; block < CELL_SAVED; block++) {
        set_gate_word(block, at, 0.0);
    }
    if FIRST_STATE == 0u {
        set_carry(0u, at, dh.old);
    }
    for (var state = 1u; state < STATES; state++) {
        set_carry(state, at, carry_of(state, at));
    }
}
#endif

// A projected h is not the cell's to read or write: it has another width.
#ifdef PROJECTED
const FIRST_STATE = 1u;
const CELL_SAVED = SAVED - 1u;
#else
const FIRST_STATE = 0u;
const CELL_SAVED = SAVED;
#endif
