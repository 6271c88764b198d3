            // A step of the units of a tile.
#for E in #{EACH}
            {
                let own = own_of(group, index + #{E}u * THREADS);
                let at = own.at;
#paste shared/read_step
#paste shared/keep_step
            }
#end
#ifdef BY_GATE
#paste shared/gate_products
#else
            workgroupBarrier();
#paste shared/sequence_products
#endif
            workgroupBarrier();
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
#ifndef REST
#for G in #{LEFT_LIST}
                        hand_over(to + #{G}u * MASK + own.row * WIDTH + at.unit, held_words[#{LEFT_BLOCK_#{G}}]);
#end
#endif
                    } else {
                        held_carry[0] = total;
                    }
                }
#ifdef SEVERAL
                kept_carry_#{E} = held_carry;
#endif
            }
#end
