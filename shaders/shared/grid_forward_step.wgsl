            // A step of the units of a tile.
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
            workgroupBarrier();
#paste shared/sequence_products
            workgroupBarrier();
#for E in #{EACH}
            {
                let own = own_of(group, index + #{E}u * THREADS);
                if own.there {
                    here = own.at.unit;
#ifdef SEVERAL
                    held_states = kept_states_#{E};
                    held_words = kept_words_#{E};
#endif
                    settle(own.at, spread_gates(added(own.row, own.place)));
#ifndef REST
                    hand_over(to + own.row * WIDTH + own.at.unit, held_states[0]);
#endif
                }
            }
#end
