#!/usr/bin/env python3
"""The work of `recurra bench` in PyTorch, alone or in turns with recurra.

Forward: eval mode, no_grad. Forward and backward: train mode, from a random gradient of the
outputs to the gradients of all weights and of the input. Initial states are zeros; there is no
dropout and no optimizer. Every time is the wall time of one whole run, in milliseconds.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import torch

LEAST_RUNS = 5


class Shape(NamedTuple):
    cell: str
    time: int
    batch: int
    input: int
    hidden: int
    layers: int

    def __str__(self):
        name = self.cell.replace("_", " ")
        return f"{name} T{self.time} B{self.batch} I{self.input} H{self.hidden} L{self.layers}"


SHAPES = [
    Shape("lstm", 128, 32, 256, 256, 1),
    Shape("lstm", 50, 64, 512, 512, 1),
    Shape("lstm", 64, 1, 256, 256, 1),
    Shape("lstm", 35, 20, 650, 650, 2),
    Shape("gru", 128, 32, 256, 256, 1),
    Shape("gru", 64, 1, 256, 256, 1),
    Shape("rnn_tanh", 128, 32, 256, 256, 1),
]


class Peer:
    """One shape in PyTorch."""

    def __init__(self, shape, device, dtype):
        torch.manual_seed(1)
        classes = {
            "lstm": (torch.nn.LSTM, {}),
            "gru": (torch.nn.GRU, {}),
            "rnn_tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
            "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
        }
        make, options = classes[shape.cell]
        layer = make(shape.input, shape.hidden, num_layers=shape.layers, **options)
        self.layer = layer.to(device=device, dtype=dtype)
        rows = (shape.time, shape.batch)
        to = {"device": device, "dtype": dtype}
        self.x = torch.rand(*rows, shape.input, **to).mul_(2).sub_(1).requires_grad_(True)
        self.d_output = torch.rand(*rows, shape.hidden, **to).mul_(2).sub_(1)
        self.device = device

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def forward(self):
        self.layer.eval()
        with torch.no_grad():
            self.layer(self.x)
        self.wait()

    def forward_backward(self):
        self.layer.train()
        self.layer.zero_grad(set_to_none=True)
        self.x.grad = None
        output, _ = self.layer(self.x)
        output.backward(self.d_output)
        self.wait()


def take_turns(works, seconds):
    """The median milliseconds of each work; the turn is the one's that ran the shortest time."""
    for work in works:
        work()
        work()
    times = [[] for _ in works]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or min(map(len, times)) < LEAST_RUNS:
        turn = min(range(len(works)), key=lambda i: (len(times[i]) >= LEAST_RUNS, sum(times[i])))
        before = time.perf_counter()
        works[turn]()
        times[turn].append((time.perf_counter() - before) * 1e3)
    return [statistics.median(t) for t in times]


def measure_peer(shape, options, dtype):
    peer = Peer(shape, options.device, dtype)
    return take_turns([peer.forward, peer.forward_backward], options.seconds)


def measure_recurra(shape, options):
    """One run of `recurra bench`, as the object that it prints."""
    command = [options.recurra, "bench", "--json", "--seconds", str(options.seconds)]
    command += ["--device", "gpu" if options.device == "cuda" else "cpu"]
    if options.device == "cpu":
        command += ["--threads", str(torch.get_num_threads())]
    for name, value in shape._asdict().items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def product_gflops(options, dtype, n=1024):
    """The rate of a product of n x n matrices."""
    a, b = (torch.rand(n, n, device=options.device, dtype=dtype) for _ in range(2))

    def work():
        torch.mm(a, b)
        if options.device == "cuda":
            torch.cuda.synchronize()

    return 2 * n**3 / (take_turns([work], 0.5)[0] * 1e6)


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("model name")]
        return lines[0].split(":", 1)[1].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def row(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(shapes, options, dtype):
    """Rounds of recurra and PyTorch in turns; a markdown table of the medians."""
    found = {shape: [] for shape in shapes}
    peaks = []
    device = None
    for number in range(options.rounds):
        for shape in shapes:
            ours = measure_recurra(shape, options)
            theirs = measure_peer(shape, options, dtype)
            device = ours["device"]
            found[shape].append((ours["forward_ms"], theirs[0], ours["forward_backward_ms"], theirs[1]))
        peaks.append((ours["peak_gflops"], product_gflops(options, dtype)))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    name = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    print(f"{name}; recurra on {device}; PyTorch {torch.__version__}, {options.device}, ", end="")
    print(f"{torch.get_num_threads()} threads, {options.dtype}.")
    print(f"Medians of {options.rounds} rounds, each of {options.seconds:g} s for either side, in turns.")
    print("Ratio: PyTorch's time / recurra's, the median over rounds; above 1 recurra is faster.\n")
    row(["shape", "forward: recurra ms", "PyTorch ms", "ratio", "forward+backward: recurra ms", "PyTorch ms", "ratio"])
    row(["---"] + ["---:"] * 6)
    for shape, rounds in found.items():
        cells = [str(shape)]
        for ours, theirs in ((0, 1), (2, 3)):
            for i in (ours, theirs):
                cells.append(f"{statistics.median(r[i] for r in rounds):.3f}")
            cells.append(f"{statistics.median(r[theirs] / r[ours] for r in rounds):.2f}")
        row(cells)
    ours, theirs = (statistics.median(peak[i] for peak in peaks) for i in (0, 1))
    print(f"\nLarge matrix products: recurra {ours:.0f} GFLOP/s, PyTorch {theirs:.0f} GFLOP/s.")


def alone(shapes, options, dtype):
    """A line of JSON for each shape, in the names of `recurra bench --json`."""
    for shape in shapes:
        forward, both = measure_peer(shape, options, dtype)
        line = {**shape._asdict(), "device": options.device, "engine": "pytorch"}
        line.update(threads=torch.get_num_threads(), forward_ms=forward, forward_backward_ms=both)
        print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--tf32", action="store_true", help="let CUDA round float32 products to tf32")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: PyTorch's own)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for one shape, one side, one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", type=int, action="append", metavar="N",
                        help=f"only this shape of 0 to {len(SHAPES) - 1}; may be repeated")
    parser.add_argument("--recurra", metavar="FILE", help="compare with this recurra program")
    options = parser.parse_args()
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device")
    if options.rounds < 1 or any(not 0 <= n < len(SHAPES) for n in options.shape or []):
        parser.error("--rounds or --shape is out of range")
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    torch.backends.cudnn.allow_tf32 = options.tf32
    shapes = [SHAPES[n] for n in options.shape or range(len(SHAPES))]
    dtype = getattr(torch, options.dtype)
    (compare if options.recurra else alone)(shapes, options, dtype)


if __name__ == "__main__":
    main()
