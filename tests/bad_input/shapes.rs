//! Shapes of inputs, of what says which steps count, and of states.

use crate::{says, stack};
use recurra::Result;
use recurra::cell::CellKind;
use recurra::layer::{InitialState, Recurrent, Sequence};
use recurra::schedule::{Recorder, Var};

/// Over an input of that shape.
fn over(rec: &mut Recorder, x: [usize; 2], sequence: impl Into<Sequence>) -> Result<()> {
    let x = rec.input("x", x, true)?;
    stack(CellKind::Lstm).record(rec, x, sequence, &InitialState::Zero).map(|_| ())
}

/// Over 2 steps of 3 rows that a float input of that shape says something of.
fn told(rec: &mut Recorder, shape: [usize; 2], what: fn(Sequence, Var) -> Sequence) -> Result<()> {
    let input = rec.input("told", shape, false)?;
    over(rec, [6, 3], what(Sequence::new(2, 3), input))
}

/// Two layers from initial states of these shapes.
fn given(rec: &mut Recorder, shapes: &[[usize; 2]]) -> Result<()> {
    let x = rec.input("x", [6, 3], true)?;
    let states = shapes.iter().enumerate();
    let states: Result<Vec<Var>> =
        states.map(|(n, shape)| rec.input(&format!("h{n}"), *shape, true)).collect();
    let stack = Recurrent { layers: 2, ..stack(CellKind::Lstm) };
    stack.record(rec, x, [2, 3], &InitialState::Given(states?)).map(|_| ())
}

#[test]
fn wrong_shapes_are_named() {
    type Make = fn(&mut Recorder) -> Result<()>;
    let right: [Make; 5] = [
        |r| over(r, [6, 3], [2, 3]),
        |r| given(r, &[[6, 4], [6, 4]]),
        |r| {
            let lengths = r.input_ids("lengths", 3)?;
            over(r, [6, 3], Sequence::new(2, 3).with_lengths(lengths))
        },
        |r| told(r, [6, 1], |s, mask| s.with_mask(mask.view)),
        |r| told(r, [6, 1], |s, resets| s.with_resets(resets.view)),
    ];
    for make in right {
        make(&mut Recorder::training()).unwrap();
    }
    let wrong: [(Make, &[&str]); 14] = [
        (|r| over(r, [6, 2], [2, 3]), &["'rnn'", "[6, 3]", "[6, 2]"]),
        (|r| over(r, [5, 3], [2, 3]), &["'rnn'", "[6, 3]", "[5, 3]"]),
        (|r| over(r, [6, 3], [0, 3]), &["number of time steps"]),
        (|r| over(r, [6, 3], [2, 0]), &["batch"]),
        (
            |r| {
                let lengths = r.input_ids("l", 2)?;
                over(r, [6, 3], Sequence::new(2, 3).with_lengths(lengths))
            },
            &["lengths", "[3]", "[2]"],
        ),
        (
            |r| told(r, [1, 3], |s, lengths| s.with_lengths(lengths.view)),
            &["'lengths'", "U32", "'told' is F32"],
        ),
        (|r| told(r, [3, 1], |s, mask| s.with_mask(mask.view)), &["mask", "[6]", "[3]"]),
        (|r| told(r, [3, 3], |s, resets| s.with_resets(resets.view)), &["resets", "[6]", "[9]"]),
        (|r| given(r, &[[6, 4]]), &["initial states (layers times directions)", "[2]", "[1]"]),
        (|r| given(r, &[[6, 4], [6, 5]]), &["initial state", "[6, 4]", "[6, 5]"]),
        (|r| given(r, &[[3, 4], [6, 4]]), &["initial state", "[6, 4]", "[3, 4]"]),
        (
            |r| {
                r.input("x", [6, 3], true)?;
                r.input("x", [6, 3], true).map(|_| ())
            },
            &["'x'", "twice"],
        ),
        (|r| r.input("x", [0, 3], true).map(|_| ()), &["'x'", "empty"]),
        (|r| r.input("x", [1 << 20, 1 << 20], true).map(|_| ()), &["'x'", "elements"]),
    ];
    for (make, words) in wrong {
        says(words[0], make(&mut Recorder::training()).unwrap_err(), words);
    }
}
