        // A thread's words of a gate behind the first, all under way at once.
        let from_#{H} = from_at;
#for N in #{READS}
#for G in #{READ_GATES}
        var word_#{H}_#{N}_#{G} = atomicLoad(&progress[from_#{H} + at_#{N} + #{G}u * HANDED_PLANE]);
#end
#end
