            // It goes to where it came from.
#for E in #{EACH}
            {
                let own = own_of(group, index + #{E}u * THREADS);
#ifdef SEVERAL
                held_carry = kept_carry_#{E};
#endif
#paste shared/write_carry
            }
#end
