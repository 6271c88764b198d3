#!/usr/bin/env python3
"""Single steps of a layer in f32, bfloat16 and eight bits, in recurra and in PyTorch, in turns.

recurra: `recurra bench --latency --weights FORMAT`. PyTorch: `nn.LSTM` and `nn.GRU` in float32, and what
`torch.ao.quantization.quantize_dynamic` makes of them (weights in eight bits, the layer's inputs rounded at each call),
with the states handed from step to step. oneDNN is off: it reorders an LSTM's weights at each call, so that a single
step takes several times as long. One thread each; the input is as wide as the layer. A table in Markdown: microseconds a
step, the median over rounds of the medians of a round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings

try:
    import torch
except ImportError as error:
    sys.exit(f"{error}: pip install torch")

FORMATS = ("f32", "bf16", "int8")


def recurra(program, cell, hidden, streams, weights, seconds):
    shape = ["--cell", cell, "--hidden", str(hidden), "--input", str(hidden), "--batch", str(streams)]
    way = ["--latency", "--json", "--device", "cpu", "--threads", "1", "--seconds", str(seconds)]
    command = [program, "bench", *shape, *way, "--weights", weights]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["p50_us"]


class Layer(torch.nn.Module):
    """A model of one layer: only what lies inside of a module is replaced by its quantised form."""

    def __init__(self, kind, hidden):
        super().__init__()
        self.layer = kind(hidden, hidden)

    def forward(self, x, state=None):
        return self.layer(x, state)


def layer(cell, hidden, eight_bits):
    torch.manual_seed(1)
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    made = Layer(kind, hidden).eval()
    if eight_bits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.ao.quantization.quantize_dynamic(made, {kind}, dtype=torch.qint8)
    return made


def pytorch(made, hidden, streams, seconds):
    x = torch.rand(1, streams, hidden) * 2 - 1
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        state = made(x)[1]
        for _ in range(20):
            state = made(x, state)[1]
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < seconds:
            before = time.perf_counter()
            state = made(x, state)[1]
            times.append((time.perf_counter() - before) * 1e6)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="target/release/recurra")
    parser.add_argument("--hidden", default="128,256,512,1024,2048")
    parser.add_argument("--streams", default="1,32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.25, help="for one turn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = lambda text: [int(part) for part in text.split(",")]
    print(f"PyTorch {torch.__version__}, engine {torch.backends.quantized.engine}, {options.rounds} rounds\n")
    print("| cell | B | H | recurra f32 | bf16 | int8 | PyTorch f32 | int8 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for cell in ("lstm", "gru"):
        for streams in numbers(options.streams):
            for hidden in numbers(options.hidden):
                layers = [layer(cell, hidden, eight_bits) for eight_bits in (False, True)]
                rounds = []
                for _ in range(options.rounds):
                    shape = (cell, hidden, streams)
                    own = [recurra(options.program, *shape, way, options.seconds) for way in FORMATS]
                    peers = [pytorch(made, hidden, streams, options.seconds) for made in layers]
                    rounds.append(own + peers)
                medians = [statistics.median(times) for times in zip(*rounds)]
                cells = " | ".join(f"{us:.1f}" if us < 100 else f"{us:.0f}" for us in medians)
                print(f"| {cell} | {streams} | {hidden} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
