            // A step of the units of a tile.
            let at = own.at;
            here = at.unit;
#ifdef HAS_d_unit
            here_row = at.row;
#endif
#import shared/read_step
            workgroupBarrier();
#import shared/sequence_products
            workgroupBarrier();
            if own.there {
#import shared/total_gradient
                if s < given.count {
                    settle(at, total);
                } else {
                    held_carry[0] = total;
                }
            }
