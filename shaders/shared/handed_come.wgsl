        // As a rule they have come by now, as those of the gate before did. If not, see handed_wait: the loop only waits, one word
        // after another where it may have rounds, which leaves it few registers. Its end is not known to a compiler, so that it
        // stays a loop.
        var least_#{H} = NONE;
#for N in #{READS}
#for G in #{READ_GATES}
        least_#{H} = min(least_#{H}, word_#{H}_#{N}_#{G});
#end
#end
        if least_#{H} == 0u {
#ifdef EACH_WAIT
            spins = 0u;
#endif
            while least_#{H} == 0u {
                spins++;
                if spins > #{SPINS}u {
                    atomicStore(&late, 1u);
                    break;
                }
                if index == 0u {
                    atomicMax(&progress[row_group * TILES], 0u);
                }
                least_#{H} = NONE;
#ifdef ONE_LOOK
                for (var number = 0u; number < select(READ_PLACES, 0u, given.count == 0u); number++) {
                    let place = place_of(row_group, number, index);
                    let at = select(0u, place.row * HANDED_LINE + place.word, place.there);
                    least_#{H} = min(least_#{H}, atomicLoad(&progress[from_#{H} + at]));
                }
#else
#for N in #{READS}
#for G in #{READ_GATES}
                least_#{H} = min(least_#{H}, atomicLoad(&progress[from_#{H} + at_#{N} + #{G}u * HANDED_PLANE]));
#end
#end
#endif
            }
#for N in #{READS}
#for G in #{READ_GATES}
            word_#{H}_#{N}_#{G} = atomicLoad(&progress[from_#{H} + at_#{N} + #{G}u * HANDED_PLANE]);
#end
#end
        }
