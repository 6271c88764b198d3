        // A thread's words, all under way at once.
#for N in #{READS}
        let place_#{H}_#{N} = place_of(row_group, first + #{N}u, index);
        let at_#{H}_#{N} = from_at + place_#{H}_#{N}.row * HANDED_LINE + place_#{H}_#{N}.word;
#for G in #{READ_GATES}
        var word_#{H}_#{N}_#{G} = NONE;
        if place_#{H}_#{N}.there {
            word_#{H}_#{N}_#{G} = atomicLoad(&progress[at_#{H}_#{N} + #{G}u * HANDED_PLANE]);
        }
#end
#end
