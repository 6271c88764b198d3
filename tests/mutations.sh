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
    if ! grep -qF -- "$2" "$copy/shaders/$1"; then
        echo "NOT PLANTED  $1: the text to change is gone: $2"
        missed=1
        return
    fi
    python3 - "$copy/shaders/$1" "$2" "$3" <<'PY'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
open(path, "w").write(text.replace(old, new, 1))
PY
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

plant cell/lstm.wgsl 'out.saved = array<f32, SAVED>(i, f, g, o);' 'out.saved = array<f32, SAVED>(f, i, g, o);' 'two saved gates swapped'
plant cell/lstm.wgsl 'let c = f * old[1] + i * g;' 'let c = i * old[1] + f * g;' 'gates i and f swapped'
plant cell/lstm.wgsl 'dc * old[1] * f * (1.0 - f)' 'dc * next[1] * f * (1.0 - f)' 'c(t) for c(t−1)'
plant cell/lstm.wgsl 'out.states = array<f32, STATES>(0.0, dc * f);' 'out.states = array<f32, STATES>(0.0, 0.0);' 'no gradient through c'
plant cell/gru.wgsl 'out.states[0] = dh * z;' 'out.states[0] = 0.0;' 'no gradient past the product'
plant cell/gru.wgsl 'return select(gate, 3u, gate == 2u);' 'return gate;' 'the wrong gradient of n in the product'
plant cell/rnn_tanh.wgsl '1.0 - h * h' '1.0 - h' 'a wrong slope'
plant step_backward.wgsl 'p.step == p.time' 'true' 'each step differentiated alone'
plant step_backward.wgsl 'dh += carry[here];' '' 'the carry forgotten'
plant step_backward.wgsl 'dh += d_output[p.d_output_offset + (t * p.batch' 'dh += d_output[p.d_output_offset + (p.step % p.time * p.batch' 'an output gradient of the wrong step'
plant step_forward.wgsl 'r[gate] += b_hh[' 'r[gate] -= b_hh[' 'a sign'
plant step_forward.wgsl 'k < p.hidden {' 'k + 1u < p.hidden {' 'the last term of the product missing'
plant matmul.wgsl 'value += c[at];' '' 'no accumulation'
plant shared/activations.wgsl 'let bounded = select(a, 10.0, a > 10.0);' 'let bounded = a * 9.0;' 'tanh wrong where it saturates'
plant shared/group_number.wgsl 'return group.x + group.y * groups.x;' 'return group.x;' 'workgroups past the first 65,535'
plant shared/threefry.wgsl 'x = four_rounds(x, odd) + vec2<u32>(k2, key.x + 2u);' 'x = four_rounds(x, even) + vec2<u32>(k2, key.x + 2u);' 'another random stream'
plant embedding_backward.wgsl 'let end = min(COLUMNS, p.count - n0);' 'let end = COLUMNS;' 'tokens past the end'
plant cross_entropy.wgsl 'p.scale * (part / sum)' 'part / sum' 'the scale of the mean'
plant adam.wgsl 'p.rest_2 * g * g' 'p.rest_2 * g' 'the second moment'
plant clip_scale.wgsl 'p.max_norm / (norm + 1e-6)' 'p.max_norm / (sum + 1e-6)' 'the norm not rooted'
exit $missed
