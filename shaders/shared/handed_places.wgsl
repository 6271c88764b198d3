        // A thread's places. One that is none reads along with the first, which always is.
#for N in #{READS}
        let place_#{N} = place_of(row_group, first + #{N}u, index);
        let at_#{N} = select(0u, place_#{N}.row * HANDED_LINE + place_#{N}.word, place_#{N}.there);
#end
