//! Shaders over the members of an ensemble: each storage buffer holds one tensor a member, one after
//! another, and a launch has as many workgroups in z. The equations stay as they are. Every kernel's `main`
//! names its workgroup_id `group`, and reads no z of it.

use super::Binding;
use super::places::rewritten;

/// The text with each place `name[index]` of a storage buffer moved to the member of the workgroup:
/// `name[of_name + index]`, where of_name is the workgroup's z times a member's elements. A buffer's length
/// tells those, so they are no parameter.
pub(super) fn of_members(text: &str, bindings: &[Binding], members: u32) -> String {
    let (mut starts, mut text) = (String::new(), text.to_string());
    for Binding { name, .. } in bindings {
        text = moved(&text, name);
        starts
            .push_str(&format!("    of_{name} = group.z * (arrayLength(&{name}) / {members}u);\n"));
    }
    let body = text.find("fn main(").and_then(|at| Some(at + text[at..].find(") {\n")? + 4));
    if let Some(body) = body {
        text.insert_str(body, &starts);
    }
    for Binding { name, .. } in bindings {
        text.push_str(&format!("var<private> of_{name}: u32;\n"));
    }
    text
}

fn moved(text: &str, name: &str) -> String {
    let place = |index: &str| format!("{name}[of_{name} + ({index})]");
    rewritten(text, name, &place, &|index, value| format!("{} = {value}", place(index)), &place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_moves_to_its_member() {
        let text = "fn main(\n    a: u32,\n) {\n    x[i] += x[y[j]] + ax[0]; // x[k]\n}\n";
        let bindings = [Binding::write("x", 4), Binding::read_u32("y", 4)];
        let want = "fn main(\n    a: u32,\n) {\n    \
                    of_x = group.z * (arrayLength(&x) / 3u);\n    \
                    of_y = group.z * (arrayLength(&y) / 3u);\n    \
                    x[of_x + (i)] = x[of_x + (i)] + (x[of_x + (y[of_y + (j)])] + ax[0]); \
                    // x[k]\n}\n\
                    var<private> of_x: u32;\nvar<private> of_y: u32;\n";
        assert_eq!(of_members(text, &bindings, 3), want);
    }
}
