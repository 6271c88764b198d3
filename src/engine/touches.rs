//! Which elements launches touch, and whether two of them have to stay in their order.

use crate::kernel::BufferId;
use crate::recording::Launch;
use std::ops::Range;

/// The elements of buffers that something touches.
pub(super) type Touches = Vec<(BufferId, Range<usize>, bool)>;

/// What launches touch: one by one, or steps of so many phases that follow one another.
pub(super) fn touches(launches: &[Launch], phases: usize) -> Touches {
    let of = |launch: &Launch| -> Touches {
        let id = |binding: usize| launch.buffers[binding];
        let each = launch.op.touched().into_iter();
        each.map(|touched| (id(touched.binding), touched.elements, touched.writes)).collect()
    };
    // The steps between touch the same as the second, moved by a step each; the first may bind less, and behind the
    // last there may be more.
    let count = launches.len() / phases;
    let mut list = Touches::new();
    if count > 3 {
        let step = |number: usize| launches[number * phases..][..phases].iter().flat_map(of);
        let hull = |((id, a, writes), (_, b, _)): ((_, Range<usize>, _), (_, Range<usize>, _))| {
            (id, a.start.min(b.start)..a.end.max(b.end), writes)
        };
        list.extend(step(0));
        list.extend(step(1).zip(step(count - 2)).map(hull));
        list.extend(launches[(count - 1) * phases..].iter().flat_map(of));
    } else {
        list.extend(launches.iter().flat_map(of));
    }
    list.sort_by_key(|(id, elements, writes)| (*id, *writes, elements.start));
    list.dedup_by(|next, kept| {
        let joins = next.0 == kept.0 && next.2 == kept.2 && next.1.start <= kept.1.end;
        if joins {
            kept.1.end = kept.1.end.max(next.1.end);
        }
        joins
    });
    list
}

/// Whether one writes what the other touches.
pub(super) fn meet(a: &Touches, b: &Touches) -> bool {
    a.iter().any(|(id, elements, writes)| {
        b.iter().any(|(other, others, wrote)| {
            id == other
                && (*writes || *wrote)
                && elements.start < others.end
                && others.start < elements.end
        })
    })
}
