            // What a step of the units of a tile reads of them. It is under way while others are waited for.
#for E in #{EACH}
            {
                let own = own_of(group, index + #{E}u * THREADS);
                let at = own.at;
#paste shared/read_step
#paste shared/keep_step
            }
#end
