        // What a step reads of its unit.
        if own.there && s < given.count {
            // Under way while the products are summed.
            for (var block = 0u; block < SAVED; block++) {
                held_words[block] = gates[gate_index(p.t, block, at)];
            }
            for (var state = 0u; state < STATES; state++) {
                held_states[state] = states[state_index(state, p.old_slot, at)];
            }
#ifdef HAS_d_output
            held_output = d_output[p.d_output_offset + (p.t * p.batch + at.row) * p.width + at.unit];
#endif
        }
