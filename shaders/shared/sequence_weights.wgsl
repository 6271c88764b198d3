#ifdef MATRICES
    // The weights of a subgroup's columns, in registers: w_COLUMN_MATRIX.
#for C in #{COLUMNS}
#for K in #{PINNED_MATRICES}
    stage(group, share, column_of(share, #{C}u), share.first_k + #{K}u * MATRIX);
    workgroupBarrier();
    let w_#{C}_#{K} = #{LOAD_w}<coop_mat#{MATRIX}x#{MATRIX}<f16, B>>(&#{TILE_NAME}[share.stage / ENTRY], MATRIX / ENTRY);
    workgroupBarrier();
#end
#end
#else
    // The weights of the first terms of a thread's share, in registers: w_UNIT_QUAD_TERM.
#for J in #{SPAN}
#for Q in #{QUADS}
#for I in 0 1 2 3
    let w_#{J}_#{Q}_#{I} =
        weights_of(group, share.lane + #{J}u * LANES, share.first_k + #{Q}u * 4u + #{I}u);
#end
#end
#end
#endif
