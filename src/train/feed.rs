//! What a program is given for a batch, and batches that are made ahead of their steps.

use crate::engine::Inputs;
use crate::error::Result;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, Scope};

/// Values of an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    Floats(Vec<f32>),
    /// Integers: token ids, targets, lengths.
    Integers(Vec<u32>),
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Values::Floats(values)
    }
}

impl From<Vec<u32>> for Values {
    fn from(values: Vec<u32>) -> Self {
        Values::Integers(values)
    }
}

/// A batch as plain data: which shape it has, and the values of its inputs by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feed {
    shape: usize,
    values: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: Cow<'static, str>,
    values: Values,
    /// Not every recording has this input.
    optional: bool,
}

impl Feed {
    /// Without any values yet, for the recording of a shape ([`Task::shapes`](super::Task::shapes)).
    pub fn new(shape: usize) -> Self {
        Feed { shape, values: Vec::new() }
    }

    /// The number of the batch's shape.
    pub fn shape(&self) -> usize {
        self.shape
    }

    /// The values of an input that the recording has.
    pub fn put(&mut self, name: impl Into<Cow<'static, str>>, values: impl Into<Values>) {
        self.values.push(Entry { name: name.into(), values: values.into(), optional: false });
    }

    /// The values of an input that is left out where the recording has it not.
    pub fn put_if_recorded(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        values: impl Into<Values>,
    ) {
        self.values.push(Entry { name: name.into(), values: values.into(), optional: true });
    }

    /// Writes all values.
    ///
    /// # Errors
    /// The recording lacks an input that it has to have; values of another type, length or range than it has
    /// ([`Program::write`](crate::engine::Program::write)); the device failed.
    pub fn write(self, inputs: &mut Inputs) -> Result<()> {
        for Entry { name, values, optional } in self.values {
            let id = match inputs.find(&name) {
                Err(_) if optional => continue,
                found => found?,
            };
            match values {
                Values::Floats(values) => inputs.give(id, values)?,
                Values::Integers(values) => inputs.give_u32(id, values)?,
            }
        }
        Ok(())
    }
}

/// How many batches wait at most; one more is being made.
const WAITING: usize = 2;

/// Makes what numbers ask for, in their order and ahead of who takes it, in a thread of its own. So a device has its
/// next data when it is done with the last, unless making them takes longer than a step.
pub(super) struct Ahead<I, M> {
    coming: Option<Receiver<(u64, Result<I>)>>,
    make: M,
}

impl<I: Send, M: Fn(u64) -> Result<I> + Clone + Send> Ahead<I, M> {
    /// Makes all of `numbers` from now on, as they are taken. Ends when this is dropped.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, numbers: Range<u64>, make: M) -> Self
    where
        I: 'scope,
        M: 'scope,
    {
        let (send, coming) = sync_channel(WAITING);
        let maker = make.clone();
        let work = move || {
            for number in numbers {
                // Nobody takes any more.
                if send.send((number, maker(number))).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new().name("recurra-batches".to_string()).spawn_scoped(scope, work);
        // A system without threads has batches when they are asked for.
        Ahead { coming: thread.is_ok().then_some(coming), make }
    }

    /// What was made for a number. Who leaves the order gets what is asked for all the same, but from now on nothing is
    /// made ahead.
    pub fn take(&mut self, number: u64) -> Result<I> {
        if let Some(coming) = &self.coming
            && let Ok((made, item)) = coming.recv()
            && made == number
        {
            return item;
        }
        self.coming = None;
        (self.make)(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::error::Error;
    use crate::schedule::Recorder;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// What a feed gives is looked at as what is written is, though nothing is copied.
    #[test]
    fn feeds_are_checked() {
        let mut rec = Recorder::inference();
        let x = rec.input("x", [2, 3], false).unwrap();
        let ids = rec.input_ids("ids", 2).unwrap();
        rec.bound(ids, 4);
        rec.output("out", x).unwrap();
        let engine = Engine::cpu(Some(1)).unwrap();
        let mut program = engine.load(&rec.finish(), &engine.store()).unwrap();
        let mut feeds = |name: &'static str, values: Values| {
            let mut feed = Feed::new(0);
            feed.put(name, values);
            feed.write(&mut program.inputs())
        };
        assert!(feeds("x", vec![0.0; 6].into()).is_ok());
        assert!(feeds("x", vec![0.0; 5].into()).is_err(), "too few");
        assert!(feeds("x", vec![0u32; 6].into()).is_err(), "of another type");
        assert!(feeds("ids", vec![4, 0].into()).is_ok());
        let error = feeds("ids", vec![4, 5].into()).unwrap_err().to_string();
        assert!(error.contains("element 1 is 5"), "{error}");
        assert!(feeds("other", vec![0.0].into()).is_err(), "no such input");
        let mut feed = Feed::new(0);
        feed.put_if_recorded("other", vec![0.0]);
        assert!(feed.write(&mut program.inputs()).is_ok());
    }

    /// Waits until so many were made.
    fn wait_for(made: &AtomicU64, count: u64) {
        while made.load(Ordering::SeqCst) < count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn some_are_made_before_they_are_taken_and_no_more() {
        let made = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let make = |number| {
                made.fetch_add(1, Ordering::SeqCst);
                Ok(number * number)
            };
            let mut ahead = Ahead::start(scope, 5..100, make);
            // Nobody has asked yet. This would wait for ever if nothing were made ahead.
            wait_for(&made, WAITING as u64 + 1);
            for number in 5..40 {
                assert_eq!(ahead.take(number).unwrap(), number * number);
                let taken = number - 4;
                wait_for(&made, taken + WAITING as u64 + 1);
            }
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(made.load(Ordering::SeqCst), 35 + WAITING as u64 + 1);
            // Whoever is dropped lets the thread end: the scope waits for it.
        });
    }

    #[test]
    fn who_goes_back_gets_what_is_asked_for() {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, 0..1000, |number| Ok(number + 1));
            let order = [0, 1, 2, 1, 2, 3, 900, 4];
            assert_eq!(order.map(|number| ahead.take(number).unwrap()), order.map(|n| n + 1));
        });
        // Behind the last.
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, 0..1, |number| Ok(number + 1));
            assert_eq!((ahead.take(0).unwrap(), ahead.take(1).unwrap()), (1, 2));
        });
    }

    #[test]
    fn an_error_comes_at_its_own_number() {
        std::thread::scope(|scope| {
            let make = |number| match number {
                3 => Err(Error::invalid("the third")),
                number => Ok(number),
            };
            let mut ahead = Ahead::start(scope, 0..10, make);
            (0..3).for_each(|number| assert_eq!(ahead.take(number).unwrap(), number));
            assert!(ahead.take(3).unwrap_err().to_string().contains("the third"));
        });
    }
}
