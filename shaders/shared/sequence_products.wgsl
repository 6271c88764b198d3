#ifdef MATRICES
        // A step's products, a slice of the terms of some columns by each subgroup, into parts. SAME_TERMS: all columns
        // read h, under no mask of a gate's own, and once is enough.
#for C in #{COLUMNS}
        let from_#{C} = terms_from(column_of(share, #{C}u)) + share.first_k;
        var sum_#{C}: coop_mat#{MATRIX}x#{MATRIX}<f32, C>;
#end
#for K in #{PINNED_MATRICES}
#ifdef SAME_TERMS
        {
            let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&#{TILE_NAME}[(from_0 + #{K}u * MATRIX) / ENTRY], WIDTH / ENTRY);
#for C in #{COLUMNS}
            sum_#{C} = coopMultiplyAdd(terms, w_#{C}_#{K}, sum_#{C});
#end
        }
#else
#for C in #{COLUMNS}
        {
            let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&#{TILE_NAME}[(from_#{C} + #{K}u * MATRIX) / ENTRY], WIDTH / ENTRY);
            sum_#{C} = coopMultiplyAdd(terms, w_#{C}_#{K}, sum_#{C});
        }
#end
#endif
#end
#ifdef STREAMED
        for (var k = 0u; k < PLACES; k += MATRIX) {
#for C in #{COLUMNS}
            {
                stage(group, share, column_of(share, #{C}u), share.first_k + k);
                workgroupBarrier();
                let w = #{LOAD_w}<coop_mat#{MATRIX}x#{MATRIX}<f16, B>>(&#{TILE_NAME}[share.stage / ENTRY], MATRIX / ENTRY);
                let terms = coopLoadT<coop_mat#{MATRIX}x#{MATRIX}<f16, A>>(&#{TILE_NAME}[(from_#{C} + k) / ENTRY], WIDTH / ENTRY);
                sum_#{C} = coopMultiplyAdd(terms, w, sum_#{C});
                workgroupBarrier();
            }
#end
        }
#endif
#for C in #{COLUMNS}
        coopStoreT(sum_#{C}, &parts[part_at(share, column_of(share, #{C}u))], PARTS_LINE);
#end
#else
        // A step's products: what each thread's share of the terms gives, for every row and unit, into parts.
        // term_of reads the tile, part_of is what is kept of a sum.
#for J in #{SPAN}
#for R in #{ROWS}
        var sum_#{R}_#{J} = Sum();
#end
#end
#for Q in #{QUADS}
#for R in #{ROWS}
#for I in 0 1 2 3
        {
            let term = term_of(#{R}u * WIDTH + share.from_k, #{Q}u * 4u + #{I}u);
#for J in #{SPAN}
            sum_#{R}_#{J} += term * w_#{J}_#{Q}_#{I};
#end
        }
#end
#end
#end
        for (var k = PINNED; k < PLACES; k++) {
#for J in #{SPAN}
            let w_#{J} = weights_of(group, share.lane + #{J}u * LANES, share.first_k + k);
#end
#for R in #{ROWS}
            {
                let term = term_of(#{R}u * WIDTH + share.from_k, k);
#for J in #{SPAN}
                sum_#{R}_#{J} += term * w_#{J};
#end
            }
#end
        }
#for J in #{SPAN}
#for R in #{ROWS}
        parts[(#{R}u * SLICES + share.slice) * UNITS + share.lane + #{J}u * LANES] =
            part_of(sum_#{R}_#{J});
#end
#end
#endif
