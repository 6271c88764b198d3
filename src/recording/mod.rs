//! Launches over virtual buffers: what the scheduler writes and the engines run.
//!
//! A [`Recording`] is plain data. It can be printed, counted, checked and costed without a device.
//! [`MemoryPlan`] lays the temporary buffers over as few physical ones as their lifetimes allow.

mod plan;

pub use plan::MemoryPlan;

use crate::error::{Error, Result};
use crate::kernel::{Access, Binding, BufferId, Control, Cost, Kernel, Op, View};
use crate::tensor::{DType, WORD_BYTES};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

/// Who owns a buffer's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Lives between its first and its last launch; shares memory with others.
    Temporary,
    /// Written by the host before a run; its contents stay from run to run.
    Input,
    /// Read by the host after a run.
    Output,
    /// Shared by name with every program of the same store. Must be there when a program is loaded.
    Parameter,
    /// Shared by name like a parameter, but made of zeros where the store has none.
    State,
}

/// A virtual buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Unique in the recording; the key in the store for parameters and states.
    pub name: String,
    /// Elements.
    pub len: usize,
    /// Element type.
    pub dtype: DType,
    /// Who owns the contents.
    pub role: Role,
    /// The largest value that the host may write into an input of integers; see
    /// [`Recording::bound`].
    pub most: u32,
    /// A value beyond it that is allowed nevertheless; see [`Recording::bound_but`].
    pub except: Option<u32>,
}

impl Buffer {
    /// Whether the host may write that into an input of integers.
    pub fn allows(&self, value: u32) -> bool {
        value <= self.most || self.except == Some(value)
    }
}

impl Buffer {
    /// Words of memory.
    pub fn words(&self) -> usize {
        (self.len * self.dtype.bytes()).div_ceil(WORD_BYTES)
    }
}

/// One kernel over some buffers, in the order of the kernel's bindings.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel with its parameters.
    pub op: Op,
    /// A buffer a binding.
    pub buffers: Vec<BufferId>,
}

impl Launch {
    /// The kernel's description.
    pub fn kernel(&self) -> &dyn Kernel {
        self.op.kernel()
    }
}

/// What a recording has in the place of a buffer of another one: no kernel can touch an element of it.
static STRANGER: LazyLock<Buffer> = LazyLock::new(|| Buffer {
    name: "(of another recording)".to_string(),
    len: 0,
    dtype: DType::F32,
    role: Role::Temporary,
    most: u32::MAX,
    except: None,
});

/// A flat list of launches over named buffers.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    buffers: Vec<Buffer>,
    launches: Vec<Launch>,
    names: BTreeMap<String, BufferId>,
    frugal: bool,
}

impl Recording {
    /// An empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a buffer of `len` elements and returns the view of all of it.
    ///
    /// # Errors
    /// A name that is taken, or that of the control buffer; a length of zero, or more elements than 32 bits can
    /// count; binary16 in a buffer that is not temporary.
    pub fn buffer(
        &mut self,
        name: impl Into<String>,
        len: usize,
        dtype: DType,
        role: Role,
    ) -> Result<View> {
        let name = name.into();
        if name == CONTROL {
            let what = format!("the name '{CONTROL}' is that of the control words: take another");
            return Err(Error::invalid(what));
        }
        self.declare(name, len, dtype, role)
    }

    fn declare(&mut self, name: String, len: usize, dtype: DType, role: Role) -> Result<View> {
        if len == 0 {
            return Err(Error::invalid(format!("buffer '{name}' would be empty")));
        }
        if u32::try_from(len).is_err() {
            return Err(Error::invalid(format!(
                "buffer '{name}' would have {len} elements; kernels count to {} at most: \
                 use a smaller hidden size, batch or sequence",
                u32::MAX
            )));
        }
        if dtype == DType::F16 && role != Role::Temporary {
            return Err(Error::invalid(format!("buffer '{name}' of f16 must be temporary")));
        }
        let id = BufferId(self.buffers.len());
        if self.names.insert(name.clone(), id).is_some() {
            return Err(Error::invalid(format!("buffer '{name}' is declared twice")));
        }
        self.buffers.push(Buffer { name, len, dtype, role, most: u32::MAX, except: None });
        Ok(View { buffer: id, offset: 0, len })
    }

    /// What the host writes into an input of integers must be `most` at most (ids, lengths). Of
    /// several bounds the lowest counts.
    pub fn bound(&mut self, ids: View, most: usize) {
        self.restrict(ids, most, None);
    }

    /// The same, but for one value, which is allowed: a class id that says "ignore me". Where another bound
    /// forbids it, it stays forbidden.
    pub fn bound_but(&mut self, ids: View, most: usize, except: u32) {
        self.restrict(ids, most, Some(except));
    }

    fn restrict(&mut self, ids: View, most: usize, except: Option<u32>) {
        let Some(buffer) = self.buffers.get_mut(ids.buffer.0) else { return };
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let allowed = |value: &u32| *value <= most || except == Some(*value);
        let kept = buffer.except.filter(allowed);
        let new = except.filter(|&value| buffer.allows(value));
        buffer.except = new.or(kept);
        buffer.most = buffer.most.min(most);
    }

    /// The control buffer ([`Control`]), made on first use.
    pub fn control(&mut self) -> View {
        match self.names.get(CONTROL) {
            Some(&buffer) => View { buffer, offset: 0, len: Control::WORDS },
            None => {
                let name = CONTROL.to_string();
                let made = self.declare(name, Control::WORDS, DType::U32, Role::Input);
                made.expect("the name is reserved and the length is fixed")
            }
        }
    }

    /// Appends a launch. Where a kernel takes 32-bit floats, a buffer of 16-bit ones serves as well.
    ///
    /// # Errors
    /// Parameters that make no sense; a binding that reaches past its buffer, has another element
    /// type, or is written and shares its buffer with another binding of the launch.
    pub fn launch(&mut self, op: impl Into<Op>, buffers: &[View]) -> Result<()> {
        let op = op.into();
        let kernel = op.kernel().name();
        let refuse = |what| Error::invalid(format!("kernel {kernel}: {what}"));
        op.kernel().check().map_err(refuse)?;
        let bindings = op.kernel().bindings();
        if bindings.len() != buffers.len() {
            return Err(Error::invalid(format!(
                "kernel {kernel} has {} bindings, {} buffers were given",
                bindings.len(),
                buffers.len()
            )));
        }
        for (i, (binding, view)) in bindings.iter().zip(buffers).enumerate() {
            let buffer = self.get(view.buffer);
            if binding.extent > buffer.len {
                return Err(Error::invalid(format!(
                    "kernel {kernel} would touch element {} of '{}', which has {} ({})",
                    binding.extent - 1,
                    buffer.name,
                    buffer.len,
                    binding.name
                )));
            }
            let stored_short = binding.dtype == DType::F32 && buffer.dtype == DType::F16;
            // Counters lie in words of any kind.
            let counts = binding.shared && binding.dtype == DType::U32;
            if binding.dtype != buffer.dtype && !stored_short && !counts {
                return Err(Error::invalid(format!(
                    "kernel {kernel} needs {:?} as '{}', buffer '{}' is {:?}",
                    binding.dtype, binding.name, buffer.name, buffer.dtype
                )));
            }
            let writes = |b: &Binding| b.access == Access::Write;
            let same = |other: &(&Binding, &View)| {
                other.1.buffer == view.buffer && (writes(other.0) || writes(binding))
            };
            if bindings.iter().zip(buffers).take(i).any(|other| same(&other)) {
                return Err(Error::invalid(format!(
                    "kernel {kernel} would bind buffer '{}' twice",
                    buffer.name
                )));
            }
        }
        let buffers = buffers.iter().map(|view| view.buffer).collect();
        self.launches.push(Launch { op, buffers });
        Ok(())
    }

    /// The bindings of a launch with its buffers' own element types.
    pub fn bindings(&self, launch: &Launch) -> Vec<Binding> {
        let mut bindings = launch.op.kernel().bindings();
        for (binding, id) in bindings.iter_mut().zip(&launch.buffers) {
            // An engine may launch over buffers of its own, and count in any.
            if let (Some(buffer), false) =
                (self.buffers.get(id.0), binding.shared && binding.dtype == DType::U32)
            {
                binding.dtype = buffer.dtype;
            }
        }
        bindings
    }

    /// The first buffer of 16-bit floats, if there is one.
    pub fn find_half(&self) -> Option<&Buffer> {
        self.buffers.iter().find(|buffer| buffer.dtype == DType::F16)
    }

    /// All buffers, in the order of their identifiers.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// All launches, in order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// The buffer behind an identifier; behind one that only another recording can have, a buffer without elements.
    pub fn get(&self, id: BufferId) -> &Buffer {
        self.buffers.get(id.0).unwrap_or(&STRANGER)
    }

    /// The buffer of that name.
    pub fn find(&self, name: &str) -> Option<BufferId> {
        self.names.get(name).copied()
    }

    /// The buffer of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn require(&self, name: &str) -> Result<BufferId> {
        self.find(name).ok_or_else(|| Error::Missing {
            tensor: name.to_string(),
            place: "the recording".to_string(),
        })
    }

    /// Identifiers with their buffers.
    pub fn iter(&self) -> impl Iterator<Item = (BufferId, &Buffer)> {
        self.buffers.iter().enumerate().map(|(i, b)| (BufferId(i), b))
    }

    /// Launches by kernel name.
    pub fn census(&self) -> BTreeMap<&'static str, usize> {
        let mut census = BTreeMap::new();
        for launch in &self.launches {
            *census.entry(launch.op.kernel().name()).or_insert(0) += 1;
        }
        census
    }

    /// Other launches over the same buffers.
    pub(crate) fn with_launches(&self, launches: Vec<Launch>) -> Self {
        let (buffers, names) = (self.buffers.clone(), self.names.clone());
        Recording { buffers, names, launches, frugal: self.frugal }
    }

    /// Memory comes before speed: an engine that reorders launches must not take more of it.
    pub(crate) fn set_frugal(&mut self) {
        self.frugal = true;
    }

    /// Whether memory comes before speed.
    pub(crate) fn is_frugal(&self) -> bool {
        self.frugal
    }

    /// The recording with launches that an engine put side by side one after another.
    pub(crate) fn apart(&self) -> Cow<'_, Self> {
        let beside = |launch: &Launch| matches!(launch.op, Op::Beside(_));
        if !self.launches.iter().any(beside) {
            return Cow::Borrowed(self);
        }
        let mut launches = Vec::new();
        for launch in &self.launches {
            match &launch.op {
                Op::Beside(op) => {
                    let each = op.apart(&launch.buffers).into_iter();
                    launches.extend(each.map(|(op, buffers)| Launch { op, buffers }));
                }
                _ => launches.push(launch.clone()),
            }
        }
        Cow::Owned(self.with_launches(launches))
    }

    /// A temporary buffer more, of an engine's own.
    pub(crate) fn scratch(&mut self, len: usize) -> Result<View> {
        let name = format!("#scratch {}", self.buffers.len());
        self.buffer(name, len, DType::F32, Role::Temporary)
    }

    /// Appends launches that were checked before.
    pub(crate) fn extend(&mut self, launches: &[Launch]) {
        self.launches.extend_from_slice(launches);
    }

    /// The sum of the launches' costs.
    pub fn cost(&self) -> Cost {
        self.launches.iter().map(|l| self.launch_cost(l)).fold(Cost::default(), |a, b| a + b)
    }

    /// The cost of one launch, by its buffers' element types.
    pub fn launch_cost(&self, launch: &Launch) -> Cost {
        Cost::new(launch.op.kernel(), &self.bindings(launch))
    }

    /// Lays the buffers over physical ones.
    ///
    /// # Errors
    /// A temporary buffer that is read before any launch wrote it.
    pub fn plan(&self) -> Result<MemoryPlan> {
        MemoryPlan::new(self, |launch| launch)
    }

    /// The same where each launch is run at a time of its own, or several at the same time, in the order of the
    /// recording.
    pub(crate) fn plan_at(&self, times: &[usize]) -> Result<MemoryPlan> {
        MemoryPlan::new(self, |launch| times[launch])
    }
}

/// The name of the control buffer.
pub const CONTROL: &str = "control";

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, launch) in self.launches.iter().enumerate() {
            let kernel = launch.op.kernel();
            write!(f, "{number:5} {:<20}", kernel.name())?;
            for (binding, id) in kernel.bindings().iter().zip(&launch.buffers) {
                let mark = if binding.access == Access::Write { "*" } else { "" };
                write!(f, " {}{mark}={}", binding.name, self.get(*id).name)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        Cell, CellKind, Combine, ForwardPhase, Matmul, Operand, RecordLoss, Rows, StepForward,
        StepKind, StepParams,
    };

    /// target += source.
    pub(super) fn add(source: View, target: View) -> Combine {
        let rows = |view: View| Rows::new(view, view.len);
        Combine::copy([1, source.len], rows(source), rows(target)).accumulating(true)
    }

    #[test]
    fn of_several_bounds_the_lowest_counts() {
        let mut r = Recording::new();
        let ids = r.buffer("ids", 4, DType::U32, Role::Input).unwrap();
        let allowed =
            |r: &Recording| [0, 3, 4, 7, 9, u32::MAX].map(|value| r.get(ids.buffer).allows(value));
        r.bound_but(ids, 4, u32::MAX);
        assert_eq!(allowed(&r), [true, true, true, false, false, true]);
        // Another bound forbids what it does not except.
        r.bound_but(ids, 3, 9);
        assert_eq!(allowed(&r), [true, true, false, false, false, false]);
        let mut r = Recording::new();
        r.buffer("ids", 4, DType::U32, Role::Input).unwrap();
        r.bound(ids, 7);
        r.bound_but(ids, 3, 7);
        assert_eq!(allowed(&r), [true, true, false, true, false, false]);
        r.bound(ids, 100);
        assert_eq!(allowed(&r), [true, true, false, true, false, false]);
        r.bound(ids, 5);
        assert_eq!(allowed(&r), [true, true, false, false, false, false]);
    }

    #[test]
    fn wrong_launches_are_refused_by_name() {
        let mut r = Recording::new();
        let a = r.buffer("a", 4, DType::F32, Role::Temporary).unwrap();
        let b = r.buffer("b", 3, DType::F32, Role::Temporary).unwrap();
        let ids = r.buffer("ids", 4, DType::U32, Role::Input).unwrap();
        let message = |result: Result<()>| result.unwrap_err().to_string();
        assert!(message(r.launch(add(a, b), &[a, b])).contains("'b'"));
        assert!(message(r.launch(add(a, a), &[a, a])).contains("twice"));
        assert!(message(r.launch(add(a, a), &[a, ids])).contains("U32"));
        assert!(message(r.launch(add(a, a), &[a])).contains("2 bindings"));
        assert!(r.buffer("a", 1, DType::F32, Role::Input).is_err());
        assert!(r.buffer("empty", 0, DType::F32, Role::Input).is_err());
        // Launches that read the control words would read it.
        for (len, dtype) in [(4, DType::F32), (Control::WORDS, DType::U32)] {
            let made = r.buffer(CONTROL, len, dtype, Role::Input);
            assert!(message(made.map(|_| ())).contains("'control'"));
        }
        assert_eq!(r.control(), r.control());
        // Sizes of zero and rows that overlap never reach an engine.
        let operand = |columns| Operand::new(a, columns);
        for (shape, columns) in [([0, 2, 2], 2), ([2, 2, 0], 2), ([2, 2, 2], 1)] {
            let op = Matmul::new(shape, operand(2), operand(2), operand(columns));
            assert!(message(r.launch(op, &[a, b, a])).contains("kernel matmul: "));
        }
        let op = Combine::copy([2, 2], Rows::new(a, 2), Rows::new(b, 0));
        assert!(message(r.launch(op, &[a, b])).contains("rows overlap"));
        let one = StepParams {
            time: 2,
            batch: 1,
            hidden: 1,
            width: 1,
            units: 1,
            depth: 1,
            head: 1,
            places: 1,
            count: 1,
            ..bytemuck::Zeroable::zeroed()
        };
        let kind = StepKind::plain(Cell::from(CellKind::Gru));
        let late = StepParams { t: 2, old_slot: 2, new_slot: 3, ..one };
        let op = StepForward { params: late, kind, phase: ForwardPhase::Cell };
        assert!(message(r.launch(op, &[a, b, a, b])).contains("past the end"));
        assert!(message(r.launch(RecordLoss::new(4, 0), &[a, b, ids])).contains("zero"));
        r.launch(add(b, a), &[b, a]).unwrap();
        assert!(r.plan().unwrap_err().to_string().contains("'b' before"));
    }
}
