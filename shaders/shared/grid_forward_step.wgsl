            // A step of the units of a tile.
            let own = own_of(group, index);
            let at = own.at;
            here = at.unit;
            if own.there {
                for (var state = 0u; state < STATES; state++) {
                    held_states[state] = states[state_index(state, p.old_slot, at)];
                }
                for (var gate = 0u; gate < GATES; gate++) {
                    held_words[gate] = gates[gate_index(p.t, gate, at)];
                }
            }
            workgroupBarrier();
#import shared/sequence_products
            workgroupBarrier();
            if own.there {
                settle(at, spread_gates(added(own.row, index % UNITS)));
            }
