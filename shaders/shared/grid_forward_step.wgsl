            // A step of the units of a tile.
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
                }
#ifndef REST
                hand_over(group.y, s + 1u, 0u, own, held_states[0]);
#endif
            }
#end
