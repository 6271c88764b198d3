#!/bin/sh
# Installs what the tests need (a Vulkan driver that runs WGSL on the CPU, where there is no GPU; a browser
# that looks at reports; TensorBoard's reader) and runs them all. A missing Vulkan device is a failure here, not
# a skip; tests that find no browser or no reader say so.
set -eu
cd "$(dirname "$0")/.."

has_driver() {
    if ! PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then return 1; fi
    for folder in /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/share/vulkan/icd.d; do
        if ls "$folder"/*.json >/dev/null 2>&1; then return 0; fi
    done
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]
}

if ! has_driver && command -v apt-get >/dev/null; then
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then as_root="sudo"; fi
    $as_root apt-get update
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y mesa-vulkan-drivers libvulkan1
fi

# A browser and TensorBoard are asked for what they think of reports and event files, where they can be had.
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y chromium >/dev/null 2>&1 || true
fi
if [ -z "${RECURRA_PYTHON:-}" ] && command -v python3 >/dev/null; then
    if [ ! -x target/python/bin/python ]; then
        { python3 -m venv target/python && target/python/bin/pip install -q tensorboard; } >/dev/null 2>&1 || true
    fi
    if [ -x target/python/bin/python ]; then
        RECURRA_PYTHON="$PWD/target/python/bin/python"
        export RECURRA_PYTHON
    fi
fi

# Mesa complains on stderr where a headless machine has no run-time folder.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
fi

export RECURRA_REQUIRE_GPU=1
# Mesa's driver on the CPU compiles for most of the tests' time: a little less without LLVM's optimisations.
export GALLIVM_PERF="${GALLIVM_PERF:-nopt}"
# nextest fills the cores over the borders of test programs; it has no documentation tests.
if cargo nextest --version >/dev/null 2>&1; then
    cargo test --release --doc
    # The examples are compiled by whatever looks at all targets.
    cargo nextest run --release --no-fail-fast --lib --bins --tests
else
    cargo test --release --no-fail-fast
fi
