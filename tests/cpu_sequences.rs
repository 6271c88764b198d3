//! All steps of a layer by the CPU engine's team: the bits depend neither on how many threads there are, nor on which
//! rows stand beside one another, nor on whether steps go together.

mod common;

use common::seeded::run;
use recurra::cell::CellKind;
use recurra::conformance::{RecurrentCase, record_case};
use recurra::engine::Engine;
use recurra::layer::{Direction, Merge, Recurrent};
use std::collections::BTreeMap;

fn cases() -> Vec<RecurrentCase> {
    let mut list = Vec::new();
    for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru, CellKind::Slstm] {
        // Many rows, each member its own; few rows of many units, shared out; units that fill no block.
        for [batch, hidden] in [[19, 40], [2, 150], [1, 130], [5, 7], [17, 120]] {
            let mut stack = Recurrent::new("rnn", cell, 5, hidden);
            stack.direction = Direction::Both(Merge::Concat);
            let plain = RecurrentCase::new(stack, 6, batch);
            let mut all =
                RecurrentCase { given: true, lengths: true, resets: true, ..plain.clone() };
            all.stack.zoneout = [0.2, 0.1];
            all.stack.cell.peepholes = cell == CellKind::Lstm;
            list.extend([plain, all]);
        }
    }
    list
}

fn bits(case: &RecurrentCase, threads: usize) -> BTreeMap<String, Vec<u32>> {
    run(&Engine::cpu(Some(threads)).unwrap(), &record_case(case).unwrap(), case.time, 2)
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    for case in cases() {
        let alone = bits(&case, 1);
        for threads in [2, 3, 7] {
            let together = bits(&case, threads);
            for (name, want) in &alone {
                assert_eq!(want, &together[name], "{name} of {} on {threads} threads", case.name());
            }
        }
    }
}
