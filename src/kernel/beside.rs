//! Launches that do not depend on one another, of one pipeline, made by one launch: the workgroups of each lie side
//! by side in z. A directions' or a layer's steps beside another's, the updates of all parameters.
//!
//! WebGPU can't index buffers, so the preprocessor gives each launch's buffers a name of their own, and puts a
//! choice among them into each place that indexes one; the choice is the same for a whole workgroup. The equations
//! stay as they are.

use super::places::{closing, rewritten, word};
use super::shader::{UNIFORM, element};
use super::{Access, Binding, BufferId, Kernel, Op};
use crate::tensor::DType;

/// Launches of one kernel and permutation side by side.
#[derive(Clone, Debug)]
pub struct Beside {
    ops: Vec<Op>,
    /// For each binding of the kernel whether all launches have one buffer there.
    common: Vec<bool>,
    params: Vec<u8>,
}

/// Bytes of the block of a launch before its own parameters: its workgroups in x and y.
const HEAD: usize = 16;

impl Beside {
    /// Launches with their buffers, and the buffers of the whole. The caller answers for it that none writes what
    /// another touches, and that all have one pipeline.
    pub(crate) fn new(launches: &[(Op, Vec<BufferId>)]) -> (Self, Vec<BufferId>) {
        let bindings = launches.first().map_or(0, |launch| launch.1.len());
        let of = |binding: usize| launches.iter().map(move |launch| launch.1[binding]);
        let (mut common, mut bound) = (Vec::new(), Vec::new());
        for binding in 0..bindings {
            let one = of(binding).all(|id| id == launches[0].1[binding]);
            bound.extend(of(binding).take(if one { 1 } else { launches.len() }));
            common.push(one);
        }
        let mut params = Vec::new();
        for (op, _) in launches {
            let [x, y, _] = op.kernel().groups();
            params.extend_from_slice(bytemuck::bytes_of(&[x, y, 0, 0]));
            params.extend_from_slice(op.kernel().params());
            params.resize(params.len().next_multiple_of(HEAD), 0);
        }
        let ops = launches.iter().map(|launch| launch.0.clone()).collect();
        (Beside { ops, common, params }, bound)
    }

    /// So many launches of a kernel, each over floats of its own: for tests of shaders.
    #[doc(hidden)]
    pub fn alike(op: &Op, items: usize) -> Self {
        let bindings = op.kernel().bindings();
        let buffers = |item: usize| {
            let of = bindings.iter().enumerate();
            let common = |b: &Binding| b.dtype == DType::U32 && b.access == Access::Read;
            of.map(|(i, b)| BufferId(i * items + if common(b) { 0 } else { item })).collect()
        };
        let launches: Vec<_> = (0..items).map(|item| (op.clone(), buffers(item))).collect();
        Self::new(&launches).0
    }

    /// Each launch's kernel.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The same launches with their kernels changed in what does not concern their buffers.
    pub(crate) fn map(&self, change: impl Fn(&Op) -> Op) -> Self {
        let launches: Vec<_> = self.ops.iter().map(|op| (change(op), Vec::new())).collect();
        Beside { common: self.common.clone(), ..Self::new(&launches).0 }
    }

    /// The launches again, with their buffers, of the whole's.
    pub fn apart(&self, bound: &[BufferId]) -> Vec<(Op, Vec<BufferId>)> {
        let mut list: Vec<_> = self.ops.iter().map(|op| (op.clone(), Vec::new())).collect();
        let mut rest = bound;
        for &common in &self.common {
            let (own, behind) = rest.split_at(if common { 1 } else { list.len() });
            for (i, launch) in list.iter_mut().enumerate() {
                launch.1.push(own[if common { 0 } else { i }]);
            }
            rest = behind;
        }
        list
    }
}

impl Kernel for Beside {
    fn name(&self) -> &'static str {
        self.ops[0].kernel().name()
    }
    fn check(&self) -> Result<(), &'static str> {
        self.ops.iter().try_for_each(|op| op.kernel().check())
    }
    fn bindings(&self) -> Vec<Binding> {
        let each: Vec<_> = self.ops.iter().map(|op| op.kernel().bindings()).collect();
        let mut list = Vec::new();
        for (binding, &common) in self.common.iter().enumerate() {
            let of = each.iter().map(|bindings| bindings[binding]);
            match common {
                true => list.extend(of.reduce(|a, b| Binding {
                    from: a.from.min(b.from),
                    extent: a.extent.max(b.extent),
                    moved: a.moved + b.moved,
                    ..a
                })),
                false => list.extend(of),
            }
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.ops[0].kernel().defines();
        let common = self.common.iter().map(|&common| if common { "1" } else { "*" });
        list.push(("BESIDE", format!("{} {}", self.ops.len(), common.collect::<String>())));
        list
    }
    fn params(&self) -> &[u8] {
        &self.params
    }
    fn groups(&self) -> [u32; 3] {
        let each = self.ops.iter().map(|op| op.kernel().groups());
        let [x, y, _] = each.fold([1; 3], |a, b| [a[0].max(b[0]), a[1].max(b[1]), 1]);
        [x, y, self.ops.len() as u32]
    }
    fn flops(&self) -> u64 {
        self.ops.iter().map(|op| op.kernel().flops()).sum()
    }
    fn items(&self) -> usize {
        self.ops.len()
    }
}

/// The bindings of one launch: those of a name follow one another.
pub(super) fn of_one(bindings: &[Binding]) -> Vec<Binding> {
    let mut list = bindings.to_vec();
    list.dedup_by_key(|binding| binding.name);
    list
}

/// The name of a binding's variable: the kernel's own where there is one of it, else numbered.
pub(super) fn variable(bindings: &[Binding], number: usize) -> String {
    let name = bindings[number].name;
    let count = bindings.iter().filter(|binding| binding.name == name).count();
    let before = bindings[..number].iter().filter(|binding| binding.name == name).count();
    if count == 1 { name.to_string() } else { format!("{name}_{before}") }
}

/// The text of one launch's shader for so many of them side by side, each for the members of an ensemble.
pub(super) fn of_launches(text: &str, bindings: &[Binding], items: usize, members: u32) -> String {
    let mut text = text.to_string();
    // Of the buffers of one launch.
    let mut choices = String::new();
    for binding in of_one(bindings) {
        let name = binding.name;
        let count = bindings.iter().filter(|other| other.name == name).count();
        if count > 1 {
            let load = |index: &str| format!("beside_load_{name}({index})");
            let store = |index: &str, value: &str| format!("beside_store_{name}({index}, {value})");
            // Kernels that take addresses stay alone.
            text = rewritten(&text, name, &load, &store, &load);
            text =
                text.replace(&format!("arrayLength(&{name})"), &format!("beside_length_{name}()"));
            choices.push_str(&choice(&binding, count));
        }
    }
    // Parameters: main reads the launch's own where they lie, so that what depends on them stays uniform for
    // a workgroup; other functions a copy.
    let Some((before, behind)) = text.split_once(UNIFORM) else { return text };
    let Some((declared, behind)) = behind.split_once(";\n") else { return text };
    let Some((name, type_name)) = declared.split_once(": ") else { return text };
    let block = format!(
        "struct BesideItem {{\n    groups: vec4<u32>,\n    @align(16) p: {type_name},\n}}\n\
         {UNIFORM}beside_items: array<BesideItem, {items}>;\n\
         var<private> {name}: {type_name};\nvar<private> beside_item: u32;\n"
    );
    let Some(main) = behind.find("fn main(") else { return text.clone() };
    let (functions, main) = behind.split_at(main);
    let Some(body) = main.find(") {\n").map(|at| at + 2) else { return text.clone() };
    let Some(end) = closing(&main[body..]).map(|at| body + at) else { return text.clone() };
    let (head, body, tail) = (&main[..body], &main[body..end], &main[end..]);
    // A launch with fewer workgroups than another has idle ones.
    let mut begin =
        format!("{{\n    let own_item = group.z / {members}u;\n    beside_item = own_item;\n");
    // One expression: naga does not see that the result of `||` is uniform.
    begin.push_str(
        "    if any(group.xy >= beside_items[own_item].groups.xy) {\n        return;\n    }\n",
    );
    begin.push_str(&format!("    {name} = beside_items[own_item].p;\n"));
    let counted = "@builtin(num_workgroups) groups: ";
    if head.contains(counted) {
        begin.push_str("    let groups = vec3<u32>(beside_items[own_item].groups.xy, 1u);\n");
    }
    let head = head.replace(counted, "@builtin(num_workgroups) all_groups: ");
    let body = body.replace("group.z", &format!("(group.z % {members}u)"));
    let body = named(&body[1..], name, "beside_items[own_item].p");
    format!("{before}{block}{functions}{head}{begin}{body}{tail}{choices}")
}

/// The text with a word in the place of another.
fn named(text: &str, old: &str, new: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = word(rest, old, |_| true) {
        out.push_str(&rest[..at]);
        out.push_str(new);
        rest = &rest[at + old.len()..];
    }
    out + rest
}

/// The functions that choose among the buffers of a name.
fn choice(binding: &Binding, count: usize) -> String {
    let (name, element) = (binding.name, element(binding));
    let each = |of: &dyn Fn(usize) -> String| {
        let case = |i: usize| match i + 1 == count {
            true => format!("        default: {{ {} }}\n", of(i)),
            false => format!("        case {i}u: {{ {} }}\n", of(i)),
        };
        (0..count).map(case).collect::<String>()
    };
    let mut text = format!(
        "fn beside_load_{name}(at: u32) -> {element} {{\n    switch beside_item {{\n{}    }}\n}}\n",
        each(&|i| format!("return {name}_{i}[at];"))
    );
    if binding.access == Access::Write {
        text.push_str(&format!(
            "fn beside_store_{name}(at: u32, value: {element}) {{\n    switch beside_item {{\n{}    }}\n}}\n",
            each(&|i| format!("{name}_{i}[at] = value;"))
        ));
    }
    text.push_str(&format!(
        "fn beside_length_{name}() -> u32 {{\n    switch beside_item {{\n{}    }}\n}}\n",
        each(&|i| format!("return arrayLength(&{name}_{i});"))
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Fill, Rows, View};

    fn view(buffer: usize, offset: usize) -> View {
        View { buffer: BufferId(buffer), offset, len: 4 }
    }

    #[test]
    fn launches_come_apart_as_they_were() {
        let rows = |buffer, offset| Rows::new(view(buffer, offset), 4);
        let copy = |from, to, offset| {
            let op = crate::kernel::Combine::copy([1, 4], rows(from, 0), rows(to, offset));
            (Op::from(op), vec![BufferId(from), BufferId(to)])
        };
        let launches = [copy(0, 7, 0), copy(1, 7, 4), copy(0, 7, 8)];
        let (beside, bound) = Beside::new(&launches);
        assert_eq!(bound, [0, 1, 0, 7].map(BufferId));
        let apart = beside.apart(&bound);
        for (was, is) in launches.iter().zip(&apart) {
            assert_eq!(was.1, is.1);
            assert_eq!(was.0.kernel().params(), is.0.kernel().params());
        }
        let bindings = beside.bindings();
        let names: Vec<_> = (0..4).map(|i| variable(&bindings, i)).collect();
        assert_eq!(names, ["source_0", "source_1", "source_2", "destination"]);
        assert_eq!([bindings[3].from, bindings[3].extent, bindings[3].moved], [0, 12, 12]);
        assert_eq!(beside.groups(), [1, 1, 3]);
    }

    #[test]
    fn each_launch_has_its_own_block_and_buffers() {
        let fill = |buffer| (Op::from(Fill::new(view(buffer, 0), 1.0)), vec![BufferId(buffer)]);
        let (beside, _) = Beside::new(&[fill(3), fill(4)]);
        assert_eq!(beside.params().len(), 2 * 32);
        let text = "@group(0) @binding(0) var<uniform> p: Params;\nfn f() -> u32 {\n    return p.x;\n}\n\
                    fn main(\n    @builtin(workgroup_id) group: vec3<u32>,\n) {\n    \
                    destination[p.x] += sp.x + group.z; // p\n}\n";
        let got = of_launches(text, &beside.bindings(), 2, 3);
        for part in [
            "items: array<BesideItem, 2>;\nvar<private> p: Params;",
            "    return p.x;\n",
            "let own_item = group.z / 3u;",
            "beside_store_destination(beside_items[own_item].p.x, beside_load_destination(beside_items[own_item].p.x) + \
             (sp.x + (group.z % 3u))); // p\n}\n",
            "case 0u: { return destination_0[at]; }\n        default: { return destination_1[at]; }",
        ] {
            assert!(got.contains(part), "{part}\n{got}");
        }
    }
}
