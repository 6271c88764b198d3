            // What a step of the units of a tile reads of them. It is under way while others are waited for.
#for E in #{EACH}
            {
                let own = own_of(group, index + #{E}u * THREADS);
                let at = own.at;
                if own.there {
                    for (var state = 0u; state < STATES; state++) {
                        held_states[state] = states[state_index(state, p.old_slot, at)];
                    }
                    for (var gate = 0u; gate < GATES; gate++) {
                        held_words[gate] = gates[gate_index(p.t, gate, at)];
                    }
                }
#ifdef SEVERAL
                kept_states_#{E} = held_states;
                kept_words_#{E} = held_words;
#endif
            }
#end
