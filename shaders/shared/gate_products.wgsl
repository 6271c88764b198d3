        // A step's products as in sequence_products, in matrices, one gate after another: each takes the tile when all
        // have done with the one before.
        var sum_0: coop_mat#{MATRIX}x#{MATRIX}<f32, C>;
#for C in #{COLUMNS}
        read_gate(group, index, s, #{C}u, #{LEFT_BLOCK_#{C}}u);
        workgroupBarrier();
#for K in #{PINNED_MATRICES}
        {
            let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&d_tile[share.first_k + #{K}u * MATRIX], WIDTH);
            sum_0 = coopMultiplyAdd(terms, w_#{C}_#{K}, sum_0);
        }
#end
#ifdef STREAMED
        for (var k = 0u; k < PLACES; k += MATRIX) {
            stage(group, share, column_of(share, #{C}u), share.first_k + k);
            workgroupBarrier();
            let w = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, B>>(&d_tile[share.stage], MATRIX);
            let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&d_tile[share.first_k + k], WIDTH);
            sum_0 = coopMultiplyAdd(terms, w, sum_0);
            workgroupBarrier();
        }
#endif
        workgroupBarrier();
#end
        coopStoreT(sum_0, &parts[part_at(share, share.column)], UNITS);
