    // What reaches the states of a thread's unit past the product.
    if own.there {
        for (var state = 0u; state < STATES; state++) {
            held_carry[state] = carry[carry_index(state, own.at)];
        }
    }
