            // A step of the units of a tile, whose products are there.
#for E in #{EACH}
            {
                let own = own_of(group, index + #{E}u * THREADS);
                let at = own.at;
                if own.there {
                    here = at.unit;
#ifdef HAS_d_unit
                    here_row = at.row;
#endif
#paste shared/kept_step
#paste shared/total_gradient
                    if s < given.count {
                        settle(at, total);
                    } else {
                        held_carry[0] = total;
                    }
                }
#ifndef REST
#for G in #{LEFT_GATES_LIST}
                hand_over(group.y, s + 1u, #{G}u, own, held_words[#{LEFT_BLOCK_#{G}}]);
#end
#endif
#ifdef SEVERAL
                kept_carry_#{E} = held_carry;
#endif
            }
#end
