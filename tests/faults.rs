//! Planted faults: each is put into one line of a shader, and the conformance suite must notice it, in
//! cases that are chosen by words of their names, or by a kernel.

mod common;

use recurra::conformance::{
    RecurrentCase, Report, kernel_reports, recurrent_cases, recurrent_cases_in_f16,
    recurrent_reports,
};
use recurra::engine::{Engine, Strategy};
use recurra::kernel::shader::Fault;
use recurra::tensor::Precision;
use std::collections::BTreeSet;

/// Cases that a fault is looked for in.
const MOST_CASES: usize = 3;

/// The shader (`f16`: all, after they were made ones over buffers of f16), words of cases, what the
/// fault is; the text that stands there, what takes its place.
#[rustfmt::skip]
const FAULTS: [[&str; 5]; 135] = [
    ["cell/lstm", "lstm given", "two saved gates swapped",
        "out.saved[0] = i;\n    out.saved[GATE_G] = g;",
        "out.saved[0] = g;\n    out.saved[GATE_G] = i;"],
    ["cell/lstm", "lstm given", "gates i and f swapped",
        "let c = clip_cell(forget * old[1] + i * g);",
        "let c = clip_cell(i * old[1] + forget * g);"],
    ["cell/lstm", "lstm given", "c(t) for c(t−1)",
        "let df = dc * old[1]",
        "let df = dc * unclipped"],
    ["cell/lstm", "lstm given", "no gradient through c",
        "var d_old = dc * forget;",
        "var d_old = 0.0;"],
    ["cell/lstm", "lstm peepholes", "o peeps at the old state",
        "a_o += parameter(PEEPHOLE_O) * c;",
        "a_o += parameter(PEEPHOLE_O) * old[1];"],
    ["cell/lstm", "lstm cell-clip", "gradient through a clipped cell",
        "dc = select(0.0, dc, abs(unclipped) <",
        "dc = select(dc, dc, abs(unclipped) <"],
    ["cell/gru", "gru given", "no gradient past the product",
        "out.states[0] = dh * z;",
        "out.states[0] = 0.0;"],
    ["cell/gru_reset_before", "gru_reset_before", "the reset lost in backward",
        "carried + ds * r * mask",
        "carried + ds * mask"],
    ["cell/slstm", "slstm", "no gradient through the stabiliser",
        "let d_m = select(dl, 0.0, old[2] == 0.0);",
        "let d_m = 0.0;"],
    ["cell/min_lstm", "min_lstm", "gates i and f of a scan swapped",
        "return vec2<f32>(both.x, both.y * x[2]);",
        "return vec2<f32>(both.y, both.x * x[2]);"],
    ["cell/rnn", "rnn_tanh", "no slope",
        "d_new[0] * slope(0u, saved[0])",
        "d_new[0]"],
    ["shared/recurrent_block", "gru given", "the wrong gradient of n in the product",
        "return select(gate, 3u, gate == 2u);",
        "return gate;"],
    ["step_backward", "lstm given", "each step differentiated alone",
        "p.later == NONE",
        "true"],
    ["shared/backward", "gru given", "the carry forgotten",
        "return sum + carry_of(0u, at);",
        "return sum;"],
    ["shared/backward", "lstm given", "an output gradient of the wrong step",
        "return d_output[p.d_output_offset + (p.t * p.batch",
        "return d_output[p.d_output_offset + ((p.t + 1u) % p.time * p.batch"],
    ["shared/backward", "lstm resets", "a gradient through a reset",
        "sum = select(sum, 0.0, has_flag(p.later, at.row, RESET));",
        ""],
    ["shared/backward", "lstm recurrent-dropout", "the mask missing in backward",
        "return value * hidden_mask[",
        "return value + 0.0 * hidden_mask["],
    ["shared/forward", "lstm given", "a sign",
        "r[gate] += b[p.b_offset",
        "r[gate] -= b[p.b_offset"],
    ["step_forward", "lstm given", "the last term of the product missing",
        "from_row < p.batch && k + #{I}u < p.depth",
        "from_row < p.batch && k + #{I}u + 1u < p.depth"],
    ["step_forward", "lstm resets", "the product hears a state that was reset",
        "if has_flag(p.t, row, RESET) {",
        "if has_flag(p.t, row, 4u) {"],
    ["shared/states", "lstm zoneout", "zoneout the wrong way round",
        "value = z * old_state(state, at) + (1.0 - z) * candidate;",
        "value = z * candidate + (1.0 - z) * old_state(state, at);"],
    ["shared/carry", "lstm mask", "a masked step has a gradient",
        "return Split(0.0, total);",
        "return Split(total, 0.0);"],
    ["shared/step", "min_gru mask", "flags of another step",
        "return flags[(p.first + t) * ",
        "return flags[(p.first + p.t) * "],
    ["shared/step", "lstm segments zoneout", "a step draws as if its segment were the first",
        "let element = ((p.first + t) * p.batch",
        "let element = (t * p.batch"],
    ["shared/scan", "min_gru given", "a scan into the wrong slot",
        "return 2u * t + 1u - old_slot(t);",
        "return t;"],
    ["scan_backward", "min_gru", "a scan forgets the outputs",
        "let total = g + d_out(t, at);",
        "let total = g;"],
    ["norm_forward", "lstm layer-norm", "a variance around 0",
        "let d = recurrent[first + i] - mean;",
        "let d = recurrent[first + i];"],
    ["norm_backward", "lstm layer-norm", "half of the norm's derivative",
        "(d_normal - sum.x - normal * sum.y) * scale",
        "(d_normal - sum.x) * scale"],
    ["sequence_flags", "lstm lengths", "a row one step too long",
        "valid = i / p.batch < lengths",
        "valid = i / p.batch <= lengths"],
    ["select_rows", "lstm lengths", "the other rows",
        "== p.wanted",
        "!= p.wanted"],
    ["select_rows", "lstm segments resets", "a mask takes the flags of another segment",
        "flags[(p.first + row) / p.places]",
        "flags[row / p.places]"],
    ["columns_forward", "lstm convolution", "a convolution off its centre",
        "p.kernel_width - p.kernel_width / 2u",
        "p.kernel_width"],
    ["matmul", "kernel matmul 65x33x7", "no accumulation",
        "value[#{I}u] = c[at + #{I}u];",
        "value[#{I}u] = 0.0;"],
    ["matmul", "kernel matmul 65x33x7", "a slab multiplied before it has come",
        "let half = (slab - 1u) % 2u;",
        "let half = slab % 2u;"],
    ["matmul", "kernel matmul 65x33x7", "a slab too few",
        "if slab > 0u {",
        "if slab > 1u {"],
    ["matmul", "kernel matmul 64x64x64", "rows of the wrong thread",
        "k * LINE_a + #{R}u * THREADS_M);",
        "k * LINE_a + (#{R}u ^ 1u) * THREADS_M);"],
    ["matmul", "kernel matmul 65x33x7", "padding that is not 0",
        "return select(vec4<f32>(), all, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count));",
        "return all;"],
    ["matmul", "kernel matmul terms 36x44", "terms of the next block",
        "let end_k = min(first_k + p.block, p.k);",
        "let end_k = p.k;"],
    ["matmul", "kernel matmul terms 33x66x387", "a block forgets what is there",
        "value += before(m, n);",
        ""],
    ["matmul", "kernel matmul 65x33x7", "row sums of a half slab",
        "for (var i = 0u; i < DEPTH; i++) {",
        "for (var i = 1u; i < DEPTH; i++) {"],
    ["matmul", "kernel matmul terms 33x66x387", "the flag of another term",
        "|| !term_valid(k) {",
        "|| !term_valid(k + 1u) {"],
    ["sum_parts", "kernel sum_parts", "a part too few",
        "j < p.parts;",
        "j + 1u < p.parts;"],
    ["matmul", "kernel matmul terms 36x44", "parts on top of each other",
        "(part * p.m + m) * p.c_stride",
        "m * p.c_stride"],
    ["matmul", "lstm segments lengths", "a product takes the flags of another segment",
        "flags[(p.first + k) / p.places]",
        "flags[k / p.places]"],
    ["activation_penalty", "kernel activation_penalty", "a penalty on steps that take no part",
        "return valid(row) && valid(row + p.batch);",
        "return true;"],
    ["activation_penalty", "kernel activation_penalty", "half of the change's gradient",
        "slope -= change;",
        ""],
    ["shared/roles", "gru relu+tanh+thresholded_relu", "another gate's activation",
        "return act_#{ACT_1}(a, #{ACT_1_ALPHA}, #{ACT_1_BETA});",
        "return act_#{ACT_0}(a, #{ACT_0_ALPHA}, #{ACT_0_BETA});"],
    ["batch_norm_forward", "lstm batch-norm mask", "a variance over padding",
        "squares / max(n, 1.0)",
        "squares / f32(p.rows)"],
    ["shared/activations", "lstm saturated", "tanh wrong where it saturates",
        "let bounded = select(a, 10.0, a > 10.0);",
        "let bounded = a * 9.0;"],
    ["shared/activations", "softplus", "a wrong slope of softplus",
        "return -exp_minus_one(-y);",
        "return y;"],
    ["shared/group_number", "kernel fill", "workgroups past the first 65,535",
        "return group.x + group.y * groups.x;",
        "return group.x;"],
    ["shared/threefry", "kernel dropout", "another random stream",
        "x = four_rounds(x, odd) + vec2<u32>(k2, key.x + 2u);",
        "x = four_rounds(x, even) + vec2<u32>(k2, key.x + 2u);"],
    ["embedding_forward", "kernel embedding_forward", "rows side by side",
        "i / p.width * p.output_stride",
        "i / p.width * p.width"],
    ["embedding_backward", "kernel embedding_backward", "gradients of rows side by side",
        "n * p.output_stride",
        "n * p.width"],
    ["embedding_backward", "kernel embedding_backward", "tokens past the end",
        "min(first + p.block, p.count)",
        "first + p.block"],
    ["embedding_backward", "kernel embedding_backward", "tokens past the block's end",
        "let end = min(CHUNK, behind - n0);",
        "let end = CHUNK;"],
    ["embedding_backward", "kernel embedding_backward", "the last block alone",
        "total += of_block;",
        "total = of_block;"],
    ["embedding_backward", "kernel embedding_backward", "a share of the tokens forgotten",
        "other < SHARES",
        "other < SHARES - 1u"],
    ["max_over_time", "kernel max_over_time", "steps past the end of a row",
        "end = min(lengths[i / p.columns], p.time);",
        "end = p.time;"],
    ["max_over_time_backward", "kernel max_over_time_backward", "a gradient at the neighbouring step",
        "places[at] == i / words",
        "places[at] + 1u == i / words"],
    ["cross_entropy", "kernel cross_entropy", "a row takes its neighbour's place",
        "first = p.logits_offset + row * p.classes",
        "first = p.logits_offset + (row ^ 1u) * p.classes"],
    ["cross_entropy", "kernel cross_entropy", "the scale of the mean",
        "let scale = p.scale;",
        "let scale = 1.0;"],
    ["cross_entropy", "kernel cross_entropy scaled", "a loss without its scale",
        "p.scale * power_of_two(scale_exponent())",
        "p.scale"],
    ["clip_scale", "kernel adam scaled", "an update of infinite gradients",
        "clip[2] = select(0.0, 1.0, finite);",
        "clip[2] = 1.0;"],
    ["clip_scale", "kernel sgd scaled", "a scale that never falls",
        "max(exponent - 1, 0)",
        "exponent"],
    ["slope", "kernel slope", "the slope forgotten",
        "*= slope",
        "*= 1.0"],
    ["adam", "kernel adam", "the second moment",
        "p.rest_2 * g * g",
        "p.rest_2 * g"],
    ["sgd", "kernel sgd", "Nesterov's gradient taken where the parameters are",
        "(g + p.momentum * v)",
        "(g + v)"],
    ["shared/update", "kernel rms_prop", "a group's rate forgotten",
        "* p.rate;",
        ";"],
    ["shared/update", "kernel rms_prop scaled", "an update that was to be left out",
        "if clip[2] == 0.0 {",
        "if clip[2] == 2.0 {"],
    ["shared/update", "kernel rms_prop", "a gradient that is not clipped",
        "g *= clip[0];",
        "g *= clip[0] / clip[0];"],
    ["rms_prop", "kernel rms_prop", "the second moment around 0",
        "let s = p.alpha * (second[i] + p.rest * d * d);",
        "let s = p.alpha * second[i] + p.rest * g * g;"],
    ["rms_prop", "kernel rms_prop", "a mean that stands still",
        "mean[i] += p.rest * d;",
        "mean[i] += 0.0;"],
    ["rms_prop", "kernel rms_prop", "no velocity",
        "v += p.momentum * velocity[i];",
        "v += 0.0 * velocity[i];"],
    ["average", "kernel average", "an average that does not begin anew",
        "share == 1.0",
        "share > 1.0"],
    ["average", "kernel average", "a share of the average",
        "a + share * (w - a)",
        "a + share * w"],
    ["clip_value", "kernel clip_value", "clipped from above alone",
        "clamp(g, -bound, bound)",
        "min(g, bound)"],
    ["clip_value", "kernel clip_value", "a bound without the loss scale",
        "bound *= power_of_two(scale_exponent());",
        "bound *= power_of_two(0 * scale_exponent());"],
    ["clip_value", "kernel sgd scaled", "an infinity clipped that tells of an overflow",
        "const FIRST_TO_STAY = 0x7f800000u;",
        "const FIRST_TO_STAY = 0x7f800001u;"],
    ["clip_scale", "kernel sgd scaled", "the sum over micro-batches for their mean",
        "let share = p.share * inverse;",
        "let share = max(p.share, 1.0) * inverse;"],
    ["clip_scale", "kernel sum_squares+clip_scale", "the norm not rooted",
        "p.max_norm / (norm + 1e-6)",
        "p.max_norm / (sum + 1e-6)"],
    ["step_backward", "lstm heads3 projection", "a head of h takes another head's gates",
        "let first_k = head * p.terms;",
        "let first_k = head * p.head;"],
    ["step_forward", "lstm heads3 projection", "a head of gates hears another head of h",
        "let first_k = (unit / p.head) * p.depth;",
        "let first_k = (unit / p.head) * p.head;"],
    ["step_forward", "gru per-gate convolution", "a gate hears the columns under another's mask",
        "columns[(row * SOURCES + mask)",
        "columns[(row * SOURCES)"],
    ["shared/from_columns", "gru per-gate convolution", "a gate's columns for another's",
        "(neighbour * PARTS + part)",
        "(neighbour * PARTS)"],
    ["columns_forward", "gru_reset_before convolution", "columns of other words than r⊙h",
        "neighbour * p.source_stride",
        "neighbour * p.channels"],
    ["norm_backward", "gru_reset_before layer-norm", "n's norm with the statistics of r and z",
        "let mean = norms[at_norms + FIRST_GATE];",
        "let mean = norms[at_norms];"],
    ["sequence_forward", "sequence lstm given", "the states of the step before forgotten",
        "let h = old_state(0u, at);",
        "let h = states[state_index(0u, given.old_slot, at)];"],
    ["sequence_forward", "sequence gru resets", "time stands still",
        "p.t += stride;",
        "p.old_slot += 0u;"],
    ["sequence_forward", "sequence gru per-gate", "a gate hears h under another's mask",
        "put_term(mask,",
        "put_term(mask & 1u,"],
    ["shared/sequence", "sequence lstm heads3", "a head hears another head",
        "let head = min(lane / p.head, HEADS - 1u);",
        "let head = 0u;"],
    ["shared/sequence", "sequence lstm H33", "a slice of the terms forgotten",
        "var slice = 1u;",
        "var slice = 2u;"],
    ["shared/backward_terms", "sequence lstm H64", "a unit's weights for another's",
        "let unit = unit_of(group, place);",
        "let unit = unit_of(group, place % LANES);"],
    ["shared/sequence", "sequence gru given", "a row settled as another",
        "let at = At(group.y * ROWS + row,",
        "let at = At(group.y * ROWS + (row ^ 1u),"],
    ["sequence_backward", "sequence lstm given", "the later step's gate gradients kept from the last step",
        "put_terms(own.tile, left());\n            } else {",
        "if s == 0u { put_terms(own.tile, left()); }\n            } else {"],
    ["sequence_backward", "sequence lstm given", "the initial states' gradient without the product",
        "held_carry[0] = total;",
        ""],
    ["shared/read_carry", "sequence lstm given", "carry from beyond the sequence lost",
        "held_carry[state] = carry[carry_index(state, own.at)];",
        "held_carry[state] = 0.0;"],
    ["f16", "f16 gru_reset_before given", "a sum in f16 forgets what was there",
        "f16(f32(gates[gate_index(p.t, 1u, at)]) + (products[1]))",
        "f16(products[1])"],
    ["f16", "f16 kernel matmul 132x36x44", "a vector of f16 stored backwards",
        "= vec4<f16>(value);",
        "= vec4<f16>(value.wzyx);"],
    ["shared/roles", "f16 rnn_tanh clip", "a clipped gate is none after it was stored in f16",
        "ROUNDING = 4.9e-4",
        "ROUNDING = 5e-7"],
    ["loss_total", "kernel cross_entropy options", "ignored targets counted",
        "takes_part = takes_part && label != p.ignored;",
        ""],
    ["loss_total", "kernel cross_entropy options", "a mean over rows that are masked",
        "takes_part = (flags[p.flags_offset + n / p.run] & 1u) != 0u;",
        ""],
    ["loss_total", "kernel cross_entropy options", "weights not counted",
        "value = class_weights[p.weights_offset + min(label, p.classes - 1u)];",
        ""],
    ["record_loss", "kernel element_loss", "nothing divided by nothing",
        "select(0.0, sum / count, count > 0.0)",
        "sum / count"],
    ["cross_entropy", "kernel cross_entropy options", "an ignored target has a loss",
        "takes_part = takes_part && wanted != p.ignored;",
        ""],
    ["cross_entropy", "kernel cross_entropy options", "the weight of another class",
        "class_weights[p.weights_offset + v]",
        "class_weights[p.weights_offset + (v ^ 1u)]"],
    ["cross_entropy", "kernel cross_entropy options", "smoothing without weights",
        "weights * share_of - class_weight(v)",
        "weights * share_of - 1.0"],
    ["cross_entropy", "kernel cross_entropy options", "the target as sure as without smoothing",
        "class_weight(label) * (1.0 - p.smoothing)",
        "class_weight(label)"],
    ["element_loss", "kernel element_loss binary", "another column's positive weight",
        "element % p.width",
        "(element + 1u) % p.width"],
    ["element_loss", "kernel element_loss binary", "the no side's slope lost",
        "(1.0 - y) * sigmoid(x) - own",
        "sigmoid(x) - own"],
    ["element_loss", "kernel element_loss squared", "half the slope",
        "scale * 2.0 * r",
        "scale * r"],
    ["element_loss", "kernel element_loss absolute", "a slope at 0",
        "scale * sign(r)",
        "scale * select(-1.0, 1.0, r >= 0.0)"],
    ["element_loss", "kernel element_loss huber", "a square beyond delta",
        "size <= p.shape",
        "size <= 2.0 * p.shape"],
    ["element_loss", "kernel element_loss quantile", "levels the wrong way round",
        "max(level * u, (level - 1.0) * u)",
        "max(-level * u, (1.0 - level) * u)"],
    ["element_loss", "kernel element_loss gaussian", "a scale without its slope",
        "(1.0 - z * z) / deviation * sigmoid(s)",
        "(1.0 - z * z) / deviation"],
    ["element_loss", "kernel element_loss student_t", "a term of log gamma's slope forgotten",
        "d += 0.5 / (y * (y + 0.5));",
        "d += 0.5 / (y * (y + 0.501));"],
    ["element_loss", "kernel element_loss student_t", "a term of Stirling's series wrong",
        "1.0 / 192.0",
        "1.0 / 191.0 + 0.001"],
    ["element_loss", "kernel element_loss student_t", "degrees of freedom without their slope",
        "part * (q * bent) - step.y",
        "part * (q * bent)"],
    ["element_loss", "kernel element_loss", "the mask of another element",
        "flags[p.flags_offset + element / p.run]",
        "flags[p.flags_offset + (element + 1u) % p.count / p.run]"],
    ["element_loss", "kernel element_loss squared", "a gradient instead of what was there",
        "value += gradient[p.gradient_offset + place];",
        ""],
    ["crf_scan", "kernel crf T", "a chain forgets its shift",
        "part += most;",
        ""],
    ["crf_scan", "kernel crf T", "a step that takes no part moves the chain",
        "let counts = takes_part(step);",
        "let counts = true;"],
    ["crf_scan", "kernel crf T", "the transition to the target from another tag",
        "before = label;",
        "before = 0u;"],
    ["crf_scan", "kernel crf T", "a last sum that begins elsewhere",
        "peak = max(peak, held[place + j] + scores[end + j]);\n            }\n            var total = 0.0;",
        "peak = max(peak, held[place + j] + scores[end + j]);\n            }\n            var total = 1e-3;"],
    ["crf_scan", "kernel crf T50", "a launch begins with another sum",
        "sum = carry[carried + p.tags + 3u];",
        ""],
    ["crf_scan", "kernel crf best", "of two equal ones the larger tag",
        "chosen = select(chosen, i, other > peak);",
        "chosen = select(chosen, i, other >= peak);"],
    ["crf_scan", "kernel crf best", "pointers of another step",
        "tag = pointers[step * p.tags + tag];",
        "tag = pointers[(step + p.batch) % (p.time * p.batch) * p.tags + tag];"],
    ["crf_posterior", "kernel crf T", "the emission twice",
        "let q = states[first + j] + right[first + j] - emissions[emission + j];\n            right",
        "let q = states[first + j] + right[first + j];\n            right"],
    ["crf_posterior", "kernel crf T", "the shift of the step before lost",
        "let shift = most + log(sum) + states[first + p.tags];",
        "let shift = most + log(sum);"],
    ["crf_posterior", "kernel crf T", "the end's gradient at the beginning",
        "ends[p.batch * p.tags + at] = d;",
        "ends[at] = d;"],
    ["crf_transitions", "kernel crf T", "the step itself for the one before",
        "states[(step - p.batch) * (p.tags + 1u)",
        "states[step * (p.tags + 1u)"],
    ["crf_transitions", "kernel crf T", "the targets' transitions not taken off",
        "sum += chance - select(0.0, 1.0, wanted == own);",
        "sum += chance;"],
    ["crf_transitions", "kernel crf T300", "a part takes the steps of the next",
        "let end = min(start + p.chunk, p.end);",
        "let end = p.end;"],
    ["crf_transitions", "kernel crf T300", "a launch forgets those before",
        "value += parts[at];",
        ""],
    ["f16", "f16 kernel element_loss gaussian", "a gradient in f16 of the wrong sign",
        "f16(value)",
        "f16(-value)"],
];

/// The reports of the cases that the words choose.
fn reports(engine: &Engine, words: &str) -> recurra::Result<Vec<Report>> {
    let mut list = Vec::new();
    let (precision, words) = precision_of(words);
    if let Some(kernel) = words.strip_prefix("kernel ") {
        let each = &mut |report: &Report| list.push(report.clone());
        kernel_reports(engine, precision, Some(kernel), each)?;
        assert!(!list.is_empty(), "no case is of kernel '{kernel}'");
        return Ok(list);
    }
    for case in cases(precision, words) {
        list.extend(recurrent_reports(engine, &case)?);
    }
    Ok(list)
}

/// The recurrent cases that the words choose, so many of them.
fn cases(precision: Precision, words: &str) -> Vec<RecurrentCase> {
    let named = |case: &RecurrentCase| {
        let name = format!("{} {}", case.stack.cell.name(), case.name());
        // A word, or one of the activations that it lists.
        let is = |own: &str, word: &str| own == word || own.split('+').any(|part| part == word);
        let meant = |word: &str| name.split(' ').any(|own| is(own, word));
        case.time > 1 && words.split(' ').all(meant)
    };
    let all = match precision {
        Precision::F32 => recurrent_cases(),
        Precision::F16 => recurrent_cases_in_f16(),
    };
    let cases: Vec<_> = all.into_iter().filter(named).take(MOST_CASES).collect();
    assert!(!cases.is_empty(), "no case has the words '{words}'");
    cases
}

fn precision_of(words: &str) -> (Precision, &str) {
    match words.strip_prefix("f16 ") {
        Some(words) => (Precision::F16, words),
        None => (Precision::F32, words),
    }
}

/// The engine that launches steps as the first word says, and the other words: `sequence`, or each step.
fn by_strategy<'a>(engine: &Engine, words: &'a str) -> (Engine, &'a str) {
    let (strategy, words) = match words.strip_prefix("sequence ") {
        Some(words) => (Strategy::Sequence, words),
        None => (Strategy::Step, words),
    };
    (engine.with_strategy(strategy).unwrap(), words)
}

/// Whether the device has what a fault's cases need.
fn has_cases(engine: &Engine, words: &str) -> bool {
    let has = !words.starts_with("f16 ") || engine.supports(Precision::F16);
    if !has {
        println!("SKIPPED: {} lacks shader-f16: {words}", engine.name());
    }
    has
}

/// Every second fault, from the first or the second on.
fn notices(half: usize) {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let mut missed = Vec::new();
    for [stem, words, what, old, new] in FAULTS.into_iter().skip(half).step_by(2) {
        let engine = Engine::Gpu(gpu.with_fault(Fault { stem, old, new }));
        let (engine, words) = by_strategy(&engine, words);
        if !has_cases(&engine, words) {
            continue;
        }
        let reports = reports(&engine, words).unwrap();
        let failed = reports.iter().filter(|r| !r.pass).count();
        println!("{failed:4} of {:4} cases notice: {what} ({stem})", reports.len());
        if failed == 0 {
            missed.push(format!("{what} ({stem})"));
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn every_planted_fault_is_noticed() {
    notices(0);
}

#[test]
fn every_other_planted_fault_is_noticed() {
    notices(1);
}

/// Without a fault the same cases pass, each of them once: what is noticed is the fault.
#[test]
fn without_a_fault_the_same_cases_pass() {
    let Some(engine) = common::gpu_engine() else { return };
    let all: BTreeSet<&str> = FAULTS.iter().map(|[_, words, ..]| *words).collect();
    let mut seen = BTreeSet::new();
    for all_words in all {
        let (engine, words) = by_strategy(&engine, all_words);
        if !has_cases(&engine, words) {
            continue;
        }
        let (precision, own) = precision_of(words);
        if own.starts_with("kernel ") {
            assert!(reports(&engine, words).unwrap().iter().all(|r| r.pass), "{words}");
            continue;
        }
        let is_sequence = all_words != words;
        for case in cases(precision, own) {
            if seen.insert((is_sequence, format!("{case:?}"))) {
                let reports = recurrent_reports(&engine, &case).unwrap();
                assert!(reports.iter().all(|r| r.pass), "{all_words}");
            }
        }
    }
}
