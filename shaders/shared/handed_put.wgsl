        // What came goes into the tile.
#for N in #{READS}
        if PUTS_ALL || place_#{N}.there {
            put_handed(
                row_group,
                place_#{N},
#for G in #{READ_GATES}
                select(NONE, word_#{H}_#{N}_#{G}, place_#{N}.there),
#end
            );
        }
#end
