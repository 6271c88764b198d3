        // When they have come, they go into the tile. Looks several times in a round of the loop: a driver may count rounds.
        var least_#{H} = NONE;
#for N in #{READS}
#for G in #{READ_GATES}
        least_#{H} = min(least_#{H}, word_#{H}_#{N}_#{G});
#end
#end
#ifdef EACH_WAIT
        spins = 0u;
#endif
        while least_#{H} == 0u {
            spins++;
            if spins > #{SPINS}u {
                atomicStore(&late, 1u);
                break;
            }
#for LOOK in #{LOOKS}
#for N in #{READS}
#for G in #{READ_GATES}
            if word_#{H}_#{N}_#{G} == 0u {
                word_#{H}_#{N}_#{G} = atomicLoad(&progress[at_#{H}_#{N} + #{G}u * HANDED_PLANE]);
            }
#end
#end
#end
            least_#{H} = NONE;
#for N in #{READS}
#for G in #{READ_GATES}
            least_#{H} = min(least_#{H}, word_#{H}_#{N}_#{G});
#end
#end
        }
#for N in #{READS}
        if place_#{H}_#{N}.there {
            put_handed(
                row_group,
                place_#{H}_#{N},
#for G in #{READ_GATES}
                word_#{H}_#{N}_#{G},
#end
            );
        }
#end
