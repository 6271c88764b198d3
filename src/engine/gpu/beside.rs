//! Launches that do not depend on one another, put side by side: those of one pipeline become one launch.
//!
//! In the order of the recording each launch joins the first one like it that comes after all that it depends on,
//! or begins one of its own. So nothing is read before it is written, nothing is written over that is still read,
//! and every element is computed by the same kernel from the same values: the bits stay.

use super::{Context, GpuEngine};
use crate::kernel::{Access, Beside, Binding, BufferId, Matmul, Op};
use crate::recording::{Launch, Recording};
use crate::tensor::DType;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Launches in one, at most.
const MOST: usize = 16;

/// Multiply-adds of a product beyond which it fills a device alone: 10 μs at 20 TFLOP/s.
const LARGE: usize = 1 << 26;

/// The same on a driver that computes on the CPU.
const LARGE_ON_CPU: usize = 1 << 18;

/// Workgroups that a launch may have in vain, whatever it has besides.
const IDLE: u64 = 64;

impl GpuEngine {
    /// The same device with each launch for itself, or not: for tests and measurements.
    #[doc(hidden)]
    pub fn with_beside(&self, beside: bool) -> Self {
        self.copy(|context| context.beside = beside)
    }

    /// The recording with launches side by side, in so many bytes of temporary buffers at most.
    pub(super) fn beside(
        &self,
        recording: Recording,
        foreign: &[BufferId],
        most: u64,
    ) -> Recording {
        // Buffers live longer where launches move to earlier ones.
        for lives_longer in [true, false] {
            let joined = join(&self.context, &recording, foreign, lives_longer);
            let joined = recording.with_launches(joined);
            if joined.plan().is_ok_and(|plan| plan.temporary_bytes() <= most) {
                return joined;
            }
        }
        recording
    }
}

/// Launches in one, and what they bind.
#[derive(Default)]
struct Group {
    launches: Vec<(Op, Vec<BufferId>)>,
    reads: BTreeSet<BufferId>,
    /// With the binding.
    writes: BTreeMap<BufferId, usize>,
    largest: u64,
    sum: u64,
    /// Where it comes among the groups.
    order: f64,
    /// What comes before it.
    behind: Behind,
}

/// What a launch or a group has to come behind.
#[derive(Clone)]
struct Behind {
    groups: BTreeSet<usize>,
    /// An order, of groups that are not told apart any more.
    floor: f64,
}

impl Default for Behind {
    fn default() -> Self {
        Behind { groups: BTreeSet::new(), floor: f64::NEG_INFINITY }
    }
}

/// What was touched of a buffer, and by which group.
struct Touch {
    from: usize,
    to: usize,
    by: By,
}

/// Who touched something.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Group(usize),
    /// Some groups, none of which comes behind this order.
    Before(f64),
}

/// Touches of a buffer that are remembered each: of more, the older half becomes one. Else the time that a recording
/// takes would grow with the square of its launches.
const MOST_TOUCHES: usize = 64;

/// Groups that a launch tries to join.
const MOST_TRIES: usize = 32;

/// What was read and written of a buffer.
#[derive(Default)]
struct Touched {
    reads: Vec<Touch>,
    writes: Vec<Touch>,
}

/// What launches of one pipeline have in common.
type Key = (&'static str, Vec<(&'static str, String)>, Vec<DType>);

/// How far back groups are moved for one that depends on them.
const DEEP: usize = 6;

/// Launches in groups, as they come.
#[derive(Default)]
struct Groups {
    list: Vec<Group>,
    /// By what they have in common, in the order in which they began.
    alike: HashMap<Key, Vec<usize>>,
    touched: HashMap<BufferId, Touched>,
}

fn join(
    context: &Context,
    recording: &Recording,
    foreign: &[BufferId],
    lives_longer: bool,
) -> Vec<Launch> {
    let mut groups = Groups::default();
    let members = context.members();
    let most = context.limits.max_compute_workgroups_per_dimension as usize / members;
    let bound = context.most_bound();
    for launch in recording.launches() {
        let mut bindings = recording.bindings(launch);
        let writes_all: Vec<bool> = bindings.iter().map(|b| b.access == Access::Write).collect();
        let writes = |i: usize| writes_all[i];
        // Buffers of the host's may be one: they are taken for one.
        let mut touched = launch.buffers.clone();
        for (binding, id) in bindings.iter_mut().zip(&mut touched) {
            if foreign.contains(id) {
                *id = foreign[0];
                (binding.from, binding.extent) = (0, usize::MAX);
            }
        }
        let kernel = launch.op.kernel();
        let [x, y, _] = kernel.groups().map(u64::from);
        let behind = groups.met(&bindings, &touched);
        let fits = |group: &Group| {
            group.launches.len() < most.min(MOST)
                && group.bound_with(&launch.buffers) <= bound
                && group.takes(&launch.buffers, writes)
                && group.wastes_little(x * y)
        };
        // One that begins the life of a large buffer stays where it is, if memory counts.
        let begins = |id: &BufferId| {
            !groups.touched.contains_key(id) && recording.get(*id).words() > 1 << 12
        };
        let stays = !lives_longer && launch.buffers.iter().any(begins);
        let own = !touched.iter().any(|id| foreign.contains(id));
        let key = (own && may_join(context, recording, launch) && !stays).then(|| {
            let types = bindings.iter().map(|binding| binding.dtype).collect();
            (kernel.name(), kernel.defines(), types)
        });
        let moves = lives_longer && is_recurrence(&launch.op);
        let found = key.as_ref().and_then(|key| groups.find(key, &behind, fits, moves));
        let at = found.unwrap_or_else(|| groups.begin(key));
        let all = &mut groups.list[at].behind;
        all.groups.extend(behind.groups);
        all.floor = all.floor.max(behind.floor);
        groups.list[at].add(launch, writes, x * y);
        groups.touch(&bindings, &touched, at);
    }
    let mut list = groups.list;
    list.sort_by(|a, b| a.order.total_cmp(&b.order));
    list.into_iter().map(Group::launch).collect()
}

/// The launches that take the time of a recurrence, for whose sake others are moved.
fn is_recurrence(op: &Op) -> bool {
    matches!(
        op,
        Op::StepForward(_)
            | Op::StepBackward(_)
            | Op::SequenceForward(_)
            | Op::SequenceBackward(_)
            | Op::NormForward(_)
            | Op::NormBackward(_)
            | Op::ScanForward(_)
            | Op::ScanBackward(_)
    )
}

impl Groups {
    /// What a launch has to come behind.
    fn met(&self, bindings: &[Binding], buffers: &[BufferId]) -> Behind {
        let mut behind = Behind::default();
        for (binding, id) in bindings.iter().zip(buffers) {
            let Some(touched) = self.touched.get(id) else { continue };
            let meet = |t: &&Touch| t.from < binding.extent && binding.from < t.to;
            let reads = touched.reads.iter().filter(|_| binding.access == Access::Write);
            for touch in reads.chain(&touched.writes).filter(meet) {
                match touch.by {
                    By::Group(group) => drop(behind.groups.insert(group)),
                    By::Before(order) => behind.floor = behind.floor.max(order),
                }
            }
        }
        behind
    }

    /// The first group that a launch can join: it comes behind all that the launch has to, or, on request, can be
    /// made to by moving those before it.
    fn find(
        &mut self,
        key: &Key,
        behind: &Behind,
        fits: impl Fn(&Group) -> bool,
        moves: bool,
    ) -> Option<usize> {
        let mut floor = f64::NEG_INFINITY;
        let mut movable = BTreeSet::new();
        self.reach(behind, if moves { DEEP } else { 0 }, &mut floor, &mut movable);
        let list = self.alike.get(key)?;
        let from = list.partition_point(|&group| self.list[group].order <= floor);
        let later = |&&group: &&usize| self.list[group].order > floor && fits(&self.list[group]);
        let group = list[from..].iter().take(MOST_TRIES).find(later).copied()?;
        // In their own order, between the group and the one before it.
        let target = self.list[group].order;
        let mut moved: Vec<usize> = movable.into_iter().collect();
        moved.retain(|&other| self.list[other].order >= target);
        moved.sort_by(|&a, &b| self.list[a].order.total_cmp(&self.list[b].order));
        if moved.is_empty() {
            return Some(group);
        }
        let before = self.list.iter().map(|other| other.order).filter(|&order| order < target);
        let before = before.fold(target - 1.0, f64::max);
        let step = (target - before) / (moved.len() + 1) as f64;
        // Halves of halves come to an end.
        if before + step <= before || target - step >= target {
            return None;
        }
        for (i, other) in moved.into_iter().enumerate() {
            self.list[other].order = before + step * (i + 1) as f64;
        }
        Some(group)
    }

    /// Goes over groups and what they have to come behind: `floor` is the last of those that stay where they are,
    /// `movable` has the others. Recurrences stay, and what is further than `deep`.
    fn reach(&self, behind: &Behind, deep: usize, floor: &mut f64, movable: &mut BTreeSet<usize>) {
        *floor = floor.max(behind.floor);
        for &other in &behind.groups {
            let group = &self.list[other];
            if deep == 0 || group.launches.iter().any(|launch| is_recurrence(&launch.0)) {
                *floor = floor.max(group.order);
            } else if movable.insert(other) {
                self.reach(&group.behind, deep - 1, floor, movable);
            }
        }
    }

    /// A group at the end.
    fn begin(&mut self, key: Option<Key>) -> usize {
        let number = self.list.len();
        self.list.push(Group { order: number as f64, ..Group::default() });
        if let Some(key) = key {
            self.alike.entry(key).or_default().push(number);
        }
        number
    }

    fn touch(&mut self, bindings: &[Binding], buffers: &[BufferId], group: usize) {
        for (binding, id) in bindings.iter().zip(buffers) {
            let by = By::Group(group);
            let touch = Touch { from: binding.from, to: binding.extent, by };
            let touched = self.touched.entry(*id).or_default();
            let list = if binding.access == Access::Read {
                &mut touched.reads
            } else {
                // What a write covers need not be remembered: who meets it meets the write, which came behind it.
                for list in [&mut touched.reads, &mut touched.writes] {
                    list.retain(|t| !(touch.from <= t.from && t.to <= touch.to && t.by != by));
                }
                &mut touched.writes
            };
            list.push(touch);
            if list.len() > MOST_TOUCHES {
                let old: Vec<Touch> = list.drain(..MOST_TOUCHES / 2).collect();
                let order = |touch: &Touch| match touch.by {
                    By::Group(group) => self.list[group].order,
                    By::Before(order) => order,
                };
                list.insert(
                    0,
                    Touch {
                        from: old.iter().map(|touch| touch.from).min().unwrap_or(0),
                        to: old.iter().map(|touch| touch.to).max().unwrap_or(0),
                        // Groups move to earlier places alone.
                        by: By::Before(old.iter().map(order).fold(f64::NEG_INFINITY, f64::max)),
                    },
                );
            }
        }
    }
}

/// Whether a launch may go beside others of its kind.
fn may_join(context: &Context, recording: &Recording, launch: &Launch) -> bool {
    let half = || launch.buffers[..2].iter().all(|id| recording.get(*id).dtype == DType::F16);
    match &launch.op {
        // Cut when the recording is loaded, or filling the device alone.
        Op::Matmul(op) => {
            let large = if context.info.software { LARGE_ON_CPU } else { LARGE };
            let work = op.shape().into_iter().fold(1, usize::saturating_mul);
            let matrices = half() && !context.offered().is_empty();
            !op.sums_blocks() && work <= large && !matrices
        }
        Op::StepForward(op) if op.kind.matrices.is_some() => false,
        Op::StepBackward(op) if op.kind.matrices.is_some() => false,
        op => op.kernel().bindings().iter().all(|binding| !binding.shared),
    }
}

impl Group {
    /// Whether all launches have one buffer at a binding.
    fn is_common(&self, binding: usize, id: BufferId) -> bool {
        self.launches.iter().all(|launch| launch.1[binding] == id)
    }

    /// Buffers that are bound with one launch more.
    fn bound_with(&self, buffers: &[BufferId]) -> usize {
        let each = buffers.iter().enumerate();
        let of = |(i, id): (usize, &BufferId)| match self.is_common(i, *id) {
            true => 1,
            false => self.launches.len() + 1,
        };
        each.map(of).sum()
    }

    /// Whether a launch's buffers can be bound beside those that are: what is written is bound once.
    fn takes(&self, buffers: &[BufferId], writes: impl Fn(usize) -> bool) -> bool {
        let known = |id: &BufferId| self.reads.contains(id) || self.writes.contains_key(id);
        buffers.iter().enumerate().all(|(i, id)| match writes(i) {
            false => !self.writes.contains_key(id),
            true if self.writes.get(id) == Some(&i) => self.is_common(i, *id),
            // Two that are one already stay so.
            true => !known(id) && (self.launches.len() < 2 || !self.has_common(i)),
        })
    }

    fn has_common(&self, binding: usize) -> bool {
        self.launches.first().is_some_and(|first| self.is_common(binding, first.1[binding]))
    }

    fn wastes_little(&self, groups: u64) -> bool {
        let (sum, largest) = (self.sum + groups, self.largest.max(groups));
        largest * (self.launches.len() as u64 + 1) <= 2 * sum + IDLE
    }

    fn add(&mut self, launch: &Launch, writes: impl Fn(usize) -> bool, groups: u64) {
        for (i, id) in launch.buffers.iter().enumerate() {
            match writes(i) {
                true => drop(self.writes.insert(*id, i)),
                false => drop(self.reads.insert(*id)),
            }
        }
        self.launches.push((launch.op.clone(), launch.buffers.clone()));
        self.largest = self.largest.max(groups);
        self.sum += groups;
    }

    fn launch(mut self) -> Launch {
        match self.launches.len() {
            1 => {
                let (op, buffers) = self.launches.remove(0);
                Launch { op, buffers }
            }
            _ => {
                let (op, buffers) = Beside::new(&self.launches);
                Launch { op: op.into(), buffers }
            }
        }
    }
}

/// The largest product of those side by side.
pub(super) fn largest_product(ops: &[Op]) -> Option<&Matmul> {
    let products = ops.iter().filter_map(|op| match op {
        Op::Matmul(op) => Some(op),
        _ => None,
    });
    products.max_by_key(|op| op.shape().into_iter().product::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered of a buffer does not grow with the launches that touch it, and what is not told apart any
    /// more is still waited for.
    /// Metal has room for so many buffers of all kinds, and the parameters of launches side by side are one of them.
    #[test]
    fn the_parameters_count_where_all_buffers_do() {
        let most = |storage, all| {
            super::super::context::most_bound(&wgpu::Limits {
                max_storage_buffers_per_shader_stage: storage,
                max_buffers_and_acceleration_structures_per_shader_stage: all,
                ..Default::default()
            })
        };
        assert_eq!([most(29, 29), most(29, u32::MAX), most(8, 28)], [28, 29, 8]);
    }

    #[test]
    fn few_touches_are_remembered() {
        let buffer = BufferId(0);
        let mut groups = Groups::default();
        let part = |binding: Binding, number: usize| Binding { from: number, ..binding };
        for number in 0..1000 {
            let write = part(Binding::write("to", number + 1), number);
            let behind = groups.met(&[write], &[buffer]);
            assert!(behind.groups.len() <= MOST_TOUCHES);
            let group = groups.begin(None);
            groups.touch(&[write], &[buffer], group);
        }
        let touched = &groups.touched[&buffer];
        assert!(touched.writes.len() <= MOST_TOUCHES, "{}", touched.writes.len());
        // The first of all, in the middle of those that became one, and the last.
        for (number, floor) in [(0, true), (500, true), (999, false)] {
            let behind = groups.met(&[part(Binding::read("from", number + 1), number)], &[buffer]);
            let order = groups.list[number].order;
            assert_eq!(behind.floor >= order, floor, "{number}");
            assert!(floor || behind.groups.contains(&number));
        }
        // A write of all covers all.
        let all = Binding::write("to", 1000);
        let behind = groups.met(&[all], &[buffer]);
        assert!(behind.floor >= groups.list[0].order && behind.groups.contains(&999));
        let group = groups.begin(None);
        groups.touch(&[all], &[buffer], group);
        assert_eq!(groups.touched[&buffer].writes.len(), 1);
    }
}
