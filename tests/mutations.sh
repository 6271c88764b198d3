#!/bin/sh
# Plants faults in the shaders, one after another, and shows that the suite on the GPU engine (which
# may be a software Vulkan device) notices each. Works on a copy; takes a few minutes.
#
#     sh tests/mutations.sh
set -eu
cd "$(dirname "$0")/.."
here=$(pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r Cargo.toml Cargo.lock README.md src shaders docs benches tests examples "$copy"
target=${CARGO_TARGET_DIR:-$here/target}/mutations
missed=0

# FILE, a line's text, what takes its place, what the fault is.
plant() {
    cp "$here/shaders/$1" "$copy/shaders/$1"
    if ! python3 - "$copy/shaders/$1" "$2" "$3" <<'PY'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
open(path, "w").write(text.replace(old, new, 1))
sys.exit(old not in text)
PY
    then
        echo "NOT PLANTED  $1: the text to change is gone: $2"
        missed=1
        return
    fi
    if (cd "$copy" && RECURRA_REQUIRE_GPU=1 CARGO_TARGET_DIR="$target" \
        cargo test --release --quiet --test conformance gpu_ >"$copy/log" 2>&1); then
        echo "MISSED       $4 ($1)"
        missed=1
    elif grep -q " failed:" "$copy/log"; then
        echo "noticed      $4 ($1): $(grep -o '[0-9]* of [0-9]* failed' "$copy/log" | head -1)"
    else
        echo "BROKEN       $4 ($1) did not run:"
        tail -5 "$copy/log"
        missed=1
    fi
    cp "$here/shaders/$1" "$copy/shaders/$1"
}

plant cell/lstm.wgsl 'out.saved[0] = i;
    out.saved[GATE_G] = g;' 'out.saved[0] = g;
    out.saved[GATE_G] = i;' 'two saved gates swapped'
plant cell/lstm.wgsl 'let c = clip_cell(forget * old[1] + i * g);' 'let c = clip_cell(i * old[1] + forget * g);' 'gates i and f swapped'
plant cell/lstm.wgsl 'let df = dc * old[1]' 'let df = dc * unclipped' 'c(t) for c(t−1)'
plant cell/lstm.wgsl 'var d_old = dc * forget;' 'var d_old = 0.0;' 'no gradient through c'
plant cell/lstm.wgsl 'a_o += parameter(PEEPHOLE_O) * c;' 'a_o += parameter(PEEPHOLE_O) * old[1];' 'o peeps at the old state'
plant cell/lstm.wgsl 'dc = select(0.0, dc, abs(unclipped) <' 'dc = select(dc, dc, abs(unclipped) <' 'gradient through a clipped cell'
plant cell/gru.wgsl 'out.states[0] = dh * z;' 'out.states[0] = 0.0;' 'no gradient past the product'
plant cell/gru_reset_before.wgsl 'carried + ds * r * mask' 'carried + ds * mask' 'the reset lost in backward'
plant cell/slstm.wgsl 'let d_m = select(dl, 0.0, old[2] == 0.0);' 'let d_m = 0.0;' 'no gradient through the stabiliser'
plant cell/min_lstm.wgsl 'return vec2<f32>(sigmoid(d), sigmoid(-d) * x[2]);' 'return vec2<f32>(sigmoid(-d), sigmoid(d) * x[2]);' 'gates i and f of a scan swapped'
plant cell/rnn.wgsl 'd_new[0] * slope_f(saved[0])' 'd_new[0]' 'no slope'
plant step_backward.wgsl 'return select(gate, 3u, gate == 2u);' 'return gate;' 'the wrong gradient of n in the product'
plant step_backward.wgsl 'p.later == NONE' 'true' 'each step differentiated alone'
plant step_backward.wgsl 'let total = sum + carry[carry_index(0u, at)];' 'let total = sum;' 'the carry forgotten'
plant step_backward.wgsl 'complete += d_output[p.d_output_offset + (p.t * p.batch' 'complete += d_output[p.d_output_offset + ((p.t + 1u) % p.time * p.batch' 'an output gradient of the wrong step'
plant step_backward.wgsl 'sum = select(sum, 0.0, has_flag(p.later, row, RESET));' '' 'a gradient through a reset'
plant step_backward.wgsl 'return value * hidden_mask[' 'return value + 0.0 * hidden_mask[' 'the mask missing in backward'
plant step_forward.wgsl 'r[gate] += b[p.b_offset' 'r[gate] -= b[p.b_offset' 'a sign'
plant step_forward.wgsl 'from_row < p.batch && k < p.depth' 'from_row < p.batch && k + 1u < p.depth' 'the last term of the product missing'
plant step_forward.wgsl 'if has_flag(p.t, row, RESET) {' 'if has_flag(p.t, row, 4u) {' 'the product hears a state that was reset'
plant shared/states.wgsl 'value = z * old_state(state, at) + (1.0 - z) * candidate;' 'value = z * candidate + (1.0 - z) * old_state(state, at);' 'zoneout the wrong way round'
plant shared/carry.wgsl 'return Split(0.0, total);' 'return Split(total, 0.0);' 'a masked step has a gradient'
plant shared/step.wgsl 'return (flags[(p.first + t) * ' 'return (flags[(p.first + p.t) * ' 'flags of another step'
plant shared/scan.wgsl 'return 2u * t + 1u - old_slot(t);' 'return t;' 'a scan into the wrong slot'
plant scan_backward.wgsl 'let total = g + d_out(t, at);' 'let total = g;' 'a scan forgets the outputs'
plant norm_forward.wgsl 'let d = recurrent[first + i] - mean;' 'let d = recurrent[first + i];' 'a variance around 0'
plant norm_backward.wgsl '(d_normal - sum.x - normal * sum.y) * scale' '(d_normal - sum.x) * scale' 'half of the norm'"'"'s derivative'
plant sequence_flags.wgsl 'valid = i / p.batch < lengths' 'valid = i / p.batch <= lengths' 'a row one step too long'
plant select_rows.wgsl '== p.wanted' '!= p.wanted' 'the other rows'
plant columns_forward.wgsl 'p.kernel_width - p.kernel_width / 2u' 'p.kernel_width' 'a convolution off its centre'
plant matmul.wgsl 'return (flags[k / p.places] & 1u) != 0u;' 'return true;' 'padding in the weight gradient'
plant matmul.wgsl 'value += c[at];' '' 'no accumulation'
plant batch_norm_forward.wgsl 'squares / max(n, 1.0)' 'squares / f32(p.rows)' 'a variance over padding'
plant shared/activations.wgsl 'let bounded = select(a, 10.0, a > 10.0);' 'let bounded = a * 9.0;' 'tanh wrong where it saturates'
plant shared/activations.wgsl 'return -exp_minus_one(-y);' 'return y;' 'a wrong slope of softplus'
plant shared/group_number.wgsl 'return group.x + group.y * groups.x;' 'return group.x;' 'workgroups past the first 65,535'
plant shared/threefry.wgsl 'x = four_rounds(x, odd) + vec2<u32>(k2, key.x + 2u);' 'x = four_rounds(x, even) + vec2<u32>(k2, key.x + 2u);' 'another random stream'
plant embedding_backward.wgsl 'let end = min(COLUMNS, p.count - n0);' 'let end = COLUMNS;' 'tokens past the end'
plant cross_entropy.wgsl 'p.scale * (part / sum)' 'part / sum' 'the scale of the mean'
plant adam.wgsl 'p.rest_2 * g * g' 'p.rest_2 * g' 'the second moment'
plant clip_scale.wgsl 'p.max_norm / (norm + 1e-6)' 'p.max_norm / (sum + 1e-6)' 'the norm not rooted'
exit $missed
