    // The weights of the first terms of a thread's share, in registers: w_UNIT_QUAD_TERM.
#for J in #{SPAN}
#for Q in #{QUADS}
#for I in 0 1 2 3
    let w_#{J}_#{Q}_#{I} =
        weights_of(group, share.lane + #{J}u * LANES, share.first_k + #{Q}u * 4u + #{I}u);
#end
#end
#end
