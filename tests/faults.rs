//! Planted faults: each is put into one line of a shader, and the conformance suite must notice it, in
//! cases that are chosen by words of their names, or by a kernel.

mod common;

use recurra::conformance::{Report, kernel_reports, recurrent_cases, recurrent_reports};
use recurra::engine::Engine;
use recurra::kernel::shader::Fault;

/// Cases that a fault is looked for in.
const MOST: usize = 3;

fn fault(stem: &'static str, old: &'static str, new: &'static str) -> Fault {
    Fault { stem, old, new }
}

/// What the fault is, where, and words of cases.
fn faults() -> Vec<(&'static str, Fault, &'static str)> {
    vec![
        (
            "two saved gates swapped",
            fault(
                "cell/lstm",
                "out.saved[0] = i;\n    out.saved[GATE_G] = g;",
                "out.saved[0] = g;\n    out.saved[GATE_G] = i;",
            ),
            "lstm given",
        ),
        (
            "gates i and f swapped",
            fault(
                "cell/lstm",
                "let c = clip_cell(forget * old[1] + i * g);",
                "let c = clip_cell(i * old[1] + forget * g);",
            ),
            "lstm given",
        ),
        (
            "c(t) for c(t−1)",
            fault("cell/lstm", "let df = dc * old[1]", "let df = dc * unclipped"),
            "lstm given",
        ),
        (
            "no gradient through c",
            fault("cell/lstm", "var d_old = dc * forget;", "var d_old = 0.0;"),
            "lstm given",
        ),
        (
            "o peeps at the old state",
            fault(
                "cell/lstm",
                "a_o += parameter(PEEPHOLE_O) * c;",
                "a_o += parameter(PEEPHOLE_O) * old[1];",
            ),
            "lstm peepholes",
        ),
        (
            "gradient through a clipped cell",
            fault(
                "cell/lstm",
                "dc = select(0.0, dc, abs(unclipped) <",
                "dc = select(dc, dc, abs(unclipped) <",
            ),
            "lstm cell-clip",
        ),
        (
            "no gradient past the product",
            fault("cell/gru", "out.states[0] = dh * z;", "out.states[0] = 0.0;"),
            "gru given",
        ),
        (
            "the reset lost in backward",
            fault("cell/gru_reset_before", "carried + ds * r * mask", "carried + ds * mask"),
            "gru_reset_before",
        ),
        (
            "no gradient through the stabiliser",
            fault("cell/slstm", "let d_m = select(dl, 0.0, old[2] == 0.0);", "let d_m = 0.0;"),
            "slstm",
        ),
        (
            "gates i and f of a scan swapped",
            fault(
                "cell/min_lstm",
                "return vec2<f32>(both.x, both.y * x[2]);",
                "return vec2<f32>(both.y, both.x * x[2]);",
            ),
            "min_lstm",
        ),
        ("no slope", fault("cell/rnn", "d_new[0] * slope(0u, saved[0])", "d_new[0]"), "rnn_tanh"),
        (
            "the wrong gradient of n in the product",
            fault("step_backward", "return select(gate, 3u, gate == 2u);", "return gate;"),
            "gru given",
        ),
        (
            "each step differentiated alone",
            fault("step_backward", "p.later == NONE", "true"),
            "lstm given",
        ),
        (
            "the carry forgotten",
            fault(
                "step_backward",
                "let total = sum + carry[carry_index(0u, at)];",
                "let total = sum;",
            ),
            "gru given",
        ),
        (
            "an output gradient of the wrong step",
            fault(
                "step_backward",
                "complete += d_output[p.d_output_offset + (p.t * p.batch",
                "complete += d_output[p.d_output_offset + ((p.t + 1u) % p.time * p.batch",
            ),
            "lstm given",
        ),
        (
            "a gradient through a reset",
            fault("step_backward", "sum = select(sum, 0.0, has_flag(p.later, row, RESET));", ""),
            "lstm resets",
        ),
        (
            "the mask missing in backward",
            fault(
                "step_backward",
                "return value * hidden_mask[",
                "return value + 0.0 * hidden_mask[",
            ),
            "lstm recurrent-dropout",
        ),
        (
            "a sign",
            fault("step_forward", "r[gate] += b[p.b_offset", "r[gate] -= b[p.b_offset"),
            "lstm given",
        ),
        (
            "the last term of the product missing",
            fault(
                "step_forward",
                "from_row < p.batch && k < p.depth",
                "from_row < p.batch && k + 1u < p.depth",
            ),
            "lstm given",
        ),
        (
            "the product hears a state that was reset",
            fault("step_forward", "if has_flag(p.t, row, RESET) {", "if has_flag(p.t, row, 4u) {"),
            "lstm resets",
        ),
        (
            "zoneout the wrong way round",
            fault(
                "shared/states",
                "value = z * old_state(state, at) + (1.0 - z) * candidate;",
                "value = z * candidate + (1.0 - z) * old_state(state, at);",
            ),
            "lstm zoneout",
        ),
        (
            "a masked step has a gradient",
            fault("shared/carry", "return Split(0.0, total);", "return Split(total, 0.0);"),
            "lstm mask",
        ),
        (
            "flags of another step",
            fault(
                "shared/step",
                "return (flags[(p.first + t) * ",
                "return (flags[(p.first + p.t) * ",
            ),
            "min_gru mask",
        ),
        (
            "a scan into the wrong slot",
            fault("shared/scan", "return 2u * t + 1u - old_slot(t);", "return t;"),
            "min_gru given",
        ),
        (
            "a scan forgets the outputs",
            fault("scan_backward", "let total = g + d_out(t, at);", "let total = g;"),
            "min_gru",
        ),
        (
            "a variance around 0",
            fault(
                "norm_forward",
                "let d = recurrent[first + i] - mean;",
                "let d = recurrent[first + i];",
            ),
            "lstm layer-norm",
        ),
        (
            "half of the norm's derivative",
            fault(
                "norm_backward",
                "(d_normal - sum.x - normal * sum.y) * scale",
                "(d_normal - sum.x) * scale",
            ),
            "lstm layer-norm",
        ),
        (
            "a row one step too long",
            fault(
                "sequence_flags",
                "valid = i / p.batch < lengths",
                "valid = i / p.batch <= lengths",
            ),
            "lstm lengths",
        ),
        ("the other rows", fault("select_rows", "== p.wanted", "!= p.wanted"), "lstm lengths"),
        (
            "a convolution off its centre",
            fault("columns_forward", "p.kernel_width - p.kernel_width / 2u", "p.kernel_width"),
            "lstm convolution",
        ),
        (
            "no accumulation",
            fault("matmul", "value[#{I}u] = c[at + #{I}u];", "value[#{I}u] = 0.0;"),
            "kernel matmul 65x33x7",
        ),
        (
            "a slab multiplied before it has come",
            fault("matmul", "let half = (slab - 1u) % 2u;", "let half = slab % 2u;"),
            "kernel matmul 65x33x7",
        ),
        (
            "a slab too few",
            fault("matmul", "if slab > 0u {", "if slab > 1u {"),
            "kernel matmul 65x33x7",
        ),
        (
            "rows of the wrong thread",
            fault(
                "matmul",
                "k * LINE_a + #{R}u * THREADS_M];",
                "k * LINE_a + (#{R}u ^ 1u) * THREADS_M];",
            ),
            "kernel matmul 64x64x64",
        ),
        (
            "padding that is not 0",
            fault(
                "matmul",
                "return select(vec4<f32>(), all, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count));",
                "return all;",
            ),
            "kernel matmul 65x33x7",
        ),
        (
            "terms of the next block",
            fault("matmul", "let end_k = min(first_k + p.block, p.k);", "let end_k = p.k;"),
            "kernel matmul terms 36x44",
        ),
        (
            "a block forgets what is there",
            fault("matmul", "value += before(m, n);", ""),
            "kernel matmul terms 33x66",
        ),
        (
            "row sums of a half slab",
            fault(
                "matmul",
                "for (var i = 0u; i < DEPTH; i++) {",
                "for (var i = 1u; i < DEPTH; i++) {",
            ),
            "kernel matmul 65x33x7",
        ),
        (
            "the flag of another term",
            fault("matmul", "|| !term_valid(k) {", "|| !term_valid(k + 1u) {"),
            "kernel matmul terms 33x66",
        ),
        (
            "a part too few",
            fault("sum_parts", "j < p.parts;", "j + 1u < p.parts;"),
            "kernel sum_parts",
        ),
        (
            "parts on top of each other",
            fault("matmul", "(part * p.m + m) * p.c_stride", "m * p.c_stride"),
            "kernel matmul terms 36x44",
        ),
        (
            "a product takes the flags of another segment",
            fault("matmul", "flags[(p.first + k) / p.places]", "flags[k / p.places]"),
            "lstm segments lengths",
        ),
        (
            "a mask takes the flags of another segment",
            fault("select_rows", "flags[(p.first + row) / p.places]", "flags[row / p.places]"),
            "lstm segments resets",
        ),
        (
            "a step draws as if its segment were the first",
            fault(
                "shared/step",
                "let element = ((p.first + t) * p.batch",
                "let element = (t * p.batch",
            ),
            "lstm segments zoneout",
        ),
        (
            "a penalty on steps that take no part",
            fault(
                "activation_penalty",
                "return valid(row) && valid(row + p.batch);",
                "return true;",
            ),
            "kernel activation_penalty",
        ),
        (
            "half of the change's gradient",
            fault("activation_penalty", "slope -= change;", ""),
            "kernel activation_penalty",
        ),
        (
            "another gate's activation",
            fault(
                "shared/roles",
                "return act_#{ACT_1}(a, #{ACT_1_ALPHA}, #{ACT_1_BETA});",
                "return act_#{ACT_0}(a, #{ACT_0_ALPHA}, #{ACT_0_BETA});",
            ),
            "gru relu+tanh+thresholded_relu",
        ),
        (
            "a variance over padding",
            fault("batch_norm_forward", "squares / max(n, 1.0)", "squares / f32(p.rows)"),
            "lstm batch-norm mask",
        ),
        (
            "tanh wrong where it saturates",
            fault(
                "shared/activations",
                "let bounded = select(a, 10.0, a > 10.0);",
                "let bounded = a * 9.0;",
            ),
            "lstm saturated",
        ),
        (
            "a wrong slope of softplus",
            fault("shared/activations", "return -exp_minus_one(-y);", "return y;"),
            "softplus",
        ),
        (
            "workgroups past the first 65,535",
            fault("shared/group_number", "return group.x + group.y * groups.x;", "return group.x;"),
            "kernel fill",
        ),
        (
            "another random stream",
            fault(
                "shared/threefry",
                "x = four_rounds(x, odd) + vec2<u32>(k2, key.x + 2u);",
                "x = four_rounds(x, even) + vec2<u32>(k2, key.x + 2u);",
            ),
            "kernel dropout",
        ),
        (
            "tokens past the end",
            fault(
                "embedding_backward",
                "let end = min(COLUMNS, p.count - n0);",
                "let end = COLUMNS;",
            ),
            "kernel embedding_backward",
        ),
        (
            "the scale of the mean",
            fault("cross_entropy", "p.scale * (part / sum)", "part / sum"),
            "kernel cross_entropy",
        ),
        ("the second moment", fault("adam", "p.rest_2 * g * g", "p.rest_2 * g"), "kernel adam"),
        (
            "the norm not rooted",
            fault("clip_scale", "p.max_norm / (norm + 1e-6)", "p.max_norm / (sum + 1e-6)"),
            "kernel sum_squares+clip_scale",
        ),
    ]
}

/// The reports of the cases that the words choose.
fn reports(engine: &Engine, words: &str) -> recurra::Result<Vec<Report>> {
    let mut list = Vec::new();
    if let Some(kernel) = words.strip_prefix("kernel ") {
        kernel_reports(engine, Some(kernel), &mut |report: &Report| list.push(report.clone()))?;
        assert!(!list.is_empty(), "no case is of kernel '{kernel}'");
        return Ok(list);
    }
    let named = |case: &recurra::conformance::RecurrentCase| {
        let name = format!(" {} {} ", case.stack.cell.name(), case.name());
        let meant = |word: &str| {
            name.contains(&format!(" {word} ")) || word == "softplus" && name.contains(word)
        };
        case.time > 1 && words.split(' ').all(meant)
    };
    let cases: Vec<_> = recurrent_cases().into_iter().filter(named).collect();
    assert!(!cases.is_empty(), "no case has the words '{words}'");
    for case in cases.iter().take(MOST) {
        list.extend(recurrent_reports(engine, case)?);
    }
    Ok(list)
}

#[test]
fn every_planted_fault_is_noticed() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let mut missed = Vec::new();
    for (what, fault, words) in faults() {
        let engine = Engine::Gpu(gpu.with_fault(fault.clone()));
        let reports = reports(&engine, words).unwrap();
        let failed = reports.iter().filter(|r| !r.pass).count();
        println!("{failed:4} of {:4} cases notice: {what} ({})", reports.len(), fault.stem);
        if failed == 0 {
            missed.push(format!("{what} ({})", fault.stem));
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// Without a fault the same cases pass: what is noticed is the fault.
#[test]
fn without_a_fault_the_same_cases_pass() {
    let Some(engine) = common::gpu_engine() else { return };
    let mut all: Vec<&str> = faults().iter().map(|f| f.2).collect();
    all.sort_unstable();
    all.dedup();
    for words in all {
        assert!(reports(&engine, words).unwrap().iter().all(|r| r.pass), "{words}");
    }
}
