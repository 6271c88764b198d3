        // A step's products as in sequence_products, in matrices, one gate after another: each takes the tile when all
        // have done with the one before. A gate's words come while those before it are multiplied.
        var sum_0: coop_mat#{MATRIX}x#{MATRIX}<f32, C>;
        let row_group = group.y;
#ifndef REST
        all_have_handed_over();
        let first = 0u;
        var from_at = handed_from(row_group, s);
#paste shared/handed_places
#for H in 0
#paste shared/handed_wait
#paste shared/handed_put
#end
#endif
#for C in #{COLUMNS}
#ifdef REST
        read_gate(group, index, #{LEFT_BLOCK_#{C}}u);
#endif
        workgroupBarrier();
#ifndef REST
#for H in #{NEXT_#{C}}
        from_at += HANDED_PLANE;
#paste shared/handed_words
#end
#endif
#for K in #{PINNED_MATRICES}
        {
            let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&d_tile[(share.first_k + #{K}u * MATRIX) / ENTRY], WIDTH / ENTRY);
            sum_0 = coopMultiplyAdd(terms, w_#{C}_#{K}, sum_0);
        }
#end
#ifdef STREAMED
        for (var k = 0u; k < PLACES; k += MATRIX) {
            stage(group, share, column_of(share, #{C}u), share.first_k + k);
            workgroupBarrier();
            let w = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, B>>(&d_tile[share.stage / ENTRY], MATRIX / ENTRY);
            let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&d_tile[(share.first_k + k) / ENTRY], WIDTH / ENTRY);
            sum_0 = coopMultiplyAdd(terms, w, sum_0);
            workgroupBarrier();
        }
#endif
        workgroupBarrier();
#ifndef REST
#for H in #{NEXT_#{C}}
#paste shared/handed_come
#paste shared/handed_put
#end
#endif
#end
        coopStoreT(sum_0, &parts[part_at(share, share.column)], PARTS_LINE);
