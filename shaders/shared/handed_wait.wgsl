        // Looks at a thread's words, all under way at once, until all have come. All are looked at again: a branch for each costs
        // more than the look, and what came stays. Nothing orders a look behind another one, and compilers make one of both,
        // unless what stands between may have changed the words: a counter's maximum with 0 does not.
        let from_#{H} = from_at;
        var least_#{H} = 0u;
#for N in #{READS}
#for G in #{READ_GATES}
        var word_#{H}_#{N}_#{G} = u32();
#end
#end
#ifdef EACH_WAIT
        spins = 0u;
#endif
        while least_#{H} == 0u {
            // One look in a round, or several where a driver counts rounds.
#for LOOK in #{LOOKS}
            if least_#{H} == 0u {
                if index == 0u {
                    atomicMax(&progress[row_group * TILES], 0u);
                }
                least_#{H} = NONE;
#for N in #{READS}
#for G in #{READ_GATES}
                word_#{H}_#{N}_#{G} = atomicLoad(&progress[from_#{H} + at_#{N} + #{G}u * HANDED_PLANE]);
#end
#end
#for N in #{READS}
#for G in #{READ_GATES}
                least_#{H} = min(least_#{H}, word_#{H}_#{N}_#{G});
#end
#end
            }
#end
            if least_#{H} != 0u {
                break;
            }
            spins++;
            if spins > #{SPINS}u {
                atomicStore(&late, 1u);
                break;
            }
        }
