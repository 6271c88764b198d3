    if own.there {
        for (var state = 0u; state < STATES; state++) {
            carry[carry_index(state, own.at)] = held_carry[state];
        }
    }
