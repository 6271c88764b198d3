            // What reaches the states of a tile's units past the product.
#for E in #{EACH}
            {
                let own = own_of(group, index + #{E}u * THREADS);
#paste shared/read_carry
#ifdef SEVERAL
                kept_carry_#{E} = held_carry;
#endif
            }
#end
