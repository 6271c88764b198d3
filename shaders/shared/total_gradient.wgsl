            // The gradient of h behind the step but for that of the output.
#ifdef GATES_APART
            let shares = spread_gates(added(own.row, own.place));
            var product = 0.0;
            for (var gate = 0u; gate < PRODUCTS; gate++) {
                product += masked(gate, at.row, at.unit, shares[gate]);
            }
#else
            let product = all_masked(at.row, at.unit, added(own.row, own.place));
#endif
            let total = passed(at, product, p.later != NONE);
