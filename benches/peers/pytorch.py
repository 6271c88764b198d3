#!/usr/bin/env python3
"""The work of `recurra bench` in PyTorch (with CUDA: cuDNN).

Shapes come in on standard input as JSON lines, as `recurra bench --suite NAME --list` prints them; a
line of JSON about PyTorch goes out, then one for each shape, in the names of `recurra bench --json`. With
`--modes` there is a line about each mode, then one for each shape in each mode: PyTorch starts but once.

Forward: eval mode, no_grad. Forward and backward: train mode, from a random gradient of the
outputs to the gradients of all weights and of the input. Initial states are zeros; there is no
dropout and no optimizer. Sequences of different lengths are packed, which is part of the time. Every
time is the wall time of one whole run, in milliseconds.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time

try:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
except ImportError as error:
    sys.exit(f"{error}: pip install torch")

LEAST_RUNS = 5
# How often the seconds may be exceeded for LEAST_RUNS.
PATIENCE = 5
# What a mode computes in, and whether CUDA may round float32 products to tf32.
MODES = {"float32": ("float32", False), "tf32": ("float32", True), "float16": ("float16", False),
         "bfloat16": ("bfloat16", False)}
NAMES = ("cell", "time", "batch", "input", "hidden", "layers", "heads", "shortest")


def spread_lengths(shape):
    """The lengths that `recurra bench --shortest` has: spread evenly, in no order."""
    batch, steps, shortest = shape["batch"], shape["time"], shape["shortest"]
    step = max(batch * 5 // 8, 1)
    while math.gcd(step, batch) != 1:
        step += 1
    return [shortest + (steps - shortest) * (b * step % batch) // max(batch - 1, 1) for b in range(batch)]


class Work:
    """One shape in PyTorch."""

    def __init__(self, shape, device, dtype):
        torch.manual_seed(1)
        classes = {
            "lstm": (torch.nn.LSTM, {}),
            "gru": (torch.nn.GRU, {}),
            "rnn_tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
            "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
        }
        if shape["cell"] not in classes or shape["heads"] != 1:
            raise ValueError("PyTorch has no such layer")
        make, options = classes[shape["cell"]]
        layer = make(shape["input"], shape["hidden"], num_layers=shape["layers"], **options)
        self.layer = layer.to(device=device, dtype=dtype)
        rows = (shape["time"], shape["batch"])
        to = {"device": device, "dtype": dtype}
        self.x = torch.rand(*rows, shape["input"], **to).mul_(2).sub_(1).requires_grad_(True)
        self.d_output = torch.rand(*rows, shape["hidden"], **to).mul_(2).sub_(1)
        ragged = shape["shortest"] < shape["time"]
        self.lengths = torch.tensor(spread_lengths(shape)) if ragged else None
        self.device = device

    def output(self):
        if self.lengths is None:
            return self.layer(self.x)[0]
        packed = pack_padded_sequence(self.x, self.lengths, enforce_sorted=False)
        return pad_packed_sequence(self.layer(packed)[0], total_length=self.x.shape[0])[0]

    def forward(self):
        self.layer.eval()
        with torch.no_grad():
            self.output()
        wait(self.device)

    def forward_backward(self):
        self.layer.train()
        self.layer.zero_grad(set_to_none=True)
        self.x.grad = None
        self.output().backward(self.d_output)
        wait(self.device)


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def take_turns(works, seconds):
    """The median milliseconds of each work; the turn is the one's that ran the shortest time."""
    for work in works:
        work()
        work()
    times = [[] for _ in works]
    start = time.perf_counter()
    while True:
        runs = min(map(len, times))
        limit = seconds * (PATIENCE if runs < LEAST_RUNS else 1)
        if runs > 0 and time.perf_counter() - start >= limit:
            return [statistics.median(t) for t in times]
        turn = min(range(len(works)), key=lambda i: (len(times[i]) >= LEAST_RUNS, sum(times[i])))
        before = time.perf_counter()
        works[turn]()
        times[turn].append((time.perf_counter() - before) * 1e3)


def product_gflops(device, dtype):
    """The rate of a large product of square matrices."""
    n = 4096 if device == "cuda" else 1024
    a, b = (torch.rand(n, n, device=device, dtype=dtype) for _ in range(2))

    def work():
        torch.mm(a, b)
        wait(device)

    return 2 * n**3 / (take_turns([work], 0.5)[0] * 1e6)


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("model name")]
        return lines[0].split(":", 1)[1].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def measure(line, options, dtype):
    """The answer to a line: its shape, and its times or why there are none."""
    shape = {"heads": 1, "layers": 1, **json.loads(line)}
    shape.setdefault("shortest", shape["time"])
    shape = {name: shape[name] for name in NAMES}
    try:
        work = Work(shape, options.device, dtype)
        times = take_turns([work.forward, work.forward_backward], options.seconds)
        found = {"forward_ms": times[0], "forward_backward_ms": times[1]}
    except (ValueError, RuntimeError) as error:  # out of memory is a RuntimeError
        found = {"error": str(error).splitlines()[0]}
    return {**shape, **found}


def enter(mode):
    """PyTorch computes in the mode from here on: its type."""
    name, tf32 = MODES[mode]
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    return getattr(torch, name)


def answer(line, mode, about, options):
    """The answer to a line in a mode."""
    dtype = enter(mode)
    if "peak_gflops" not in about:
        # Not before there is work: whoever starts several peers at once would have them disturb each other.
        about["peak_gflops"] = product_gflops(options.device, dtype)
    return {**measure(line, options, dtype), **about}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--tf32", action="store_true", help="let CUDA round float32 products to tf32")
    parser.add_argument("--modes", metavar="LIST", help=f"each shape in several, of {','.join(MODES)}")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: PyTorch's own)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for one shape")
    options = parser.parse_args()
    modes = options.modes.split(",") if options.modes else ["tf32" if options.tf32 else options.dtype]
    for mode in modes:
        if mode not in MODES:
            parser.error(f"no mode '{mode}': {', '.join(MODES)}")
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    cuda = options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device")
    if cuda and not torch.backends.cudnn.is_available():
        sys.exit("PyTorch has no cuDNN")
    about = {
        "engine": "pytorch",
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "driver": f"PyTorch {torch.__version__}",
        "threads": 0 if cuda else torch.get_num_threads(),
    }
    if cuda:
        about["driver"] += f", cuDNN {torch.backends.cudnn.version()}"
    abouts = {mode: {**about, "dtype": mode} for mode in modes}
    for mode in modes:
        print(json.dumps(abouts[mode]), flush=True)
    for line in sys.stdin:
        if not line.strip():
            continue
        for mode in modes:
            print(json.dumps(answer(line, mode, abouts[mode], options)), flush=True)
            if cuda:
                torch.cuda.empty_cache()  # the others need the memory


if __name__ == "__main__":
    main()
