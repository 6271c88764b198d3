#!/usr/bin/env python3
"""The forward work of `recurra bench` in onnxruntime, on the CPU.

Shapes come in on standard input as JSON lines; a line of JSON about onnxruntime goes out, then one for
each shape, in the names of `recurra bench --json`. onnxruntime does not train: there is no
`forward_backward_ms`. Weights are constants of the model, which it may pack when it loads.
"""

import argparse
import json
import statistics
import sys
import time

try:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    sys.exit(f"{error}: pip install onnxruntime onnx")

LEAST_RUNS = 5
# How often the seconds may be exceeded for LEAST_RUNS.
PATIENCE = 5
NAMES = ("cell", "time", "batch", "input", "hidden", "layers", "heads", "shortest")
# Operator, gates, attributes.
CELLS = {
    "lstm": ("LSTM", 4, {}),
    "gru": ("GRU", 3, {"linear_before_reset": 1}),
    "gru_reset_before": ("GRU", 3, {"linear_before_reset": 0}),
    "rnn_tanh": ("RNN", 1, {"activations": ["Tanh"]}),
    "rnn_relu": ("RNN", 1, {"activations": ["Relu"]}),
}


def model(shape, random):
    """Layers one after another, x [T, B, I] to y [T, B, H]."""
    if shape["cell"] not in CELLS or shape["heads"] != 1 or shape["shortest"] < shape["time"]:
        raise ValueError("neither such a cell, nor heads, nor lengths")
    operator, gates, attributes = CELLS[shape["cell"]]
    hidden, nodes, constants, source = shape["hidden"], [], [], "x"

    def constant(name, *dimensions):
        bound = hidden**-0.5
        value = random.uniform(-bound, bound, dimensions).astype(np.float32)
        constants.append(numpy_helper.from_array(value, name))
        return name

    constants.append(numpy_helper.from_array(np.array([1], np.int64), "direction"))
    for layer in range(shape["layers"]):
        width = shape["input"] if layer == 0 else hidden
        inputs = [
            source,
            constant(f"w{layer}", 1, gates * hidden, width),
            constant(f"r{layer}", 1, gates * hidden, hidden),
            constant(f"b{layer}", 1, 2 * gates * hidden),
        ]
        nodes.append(helper.make_node(operator, inputs, [f"all{layer}"], hidden_size=hidden, **attributes))
        source = f"y{layer}"
        nodes.append(helper.make_node("Squeeze", [f"all{layer}", "direction"], [source]))
    rows = [shape["time"], shape["batch"]]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*rows, width])
              for name, width in (("x", shape["input"]), (source, hidden))]
    graph = helper.make_graph(nodes, "layers", values[:1], values[1:], constants)
    opset = [helper.make_opsetid("", 14)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def measure(line, options):
    """The answer to a line: its shape, and its time or why there is none."""
    shape = {"heads": 1, "layers": 1, **json.loads(line)}
    shape.setdefault("shortest", shape["time"])
    shape = {name: shape[name] for name in NAMES}
    random = np.random.default_rng(1)
    try:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        session = onnxruntime.InferenceSession(
            model(shape, random), settings, providers=["CPUExecutionProvider"])
    except (ValueError, RuntimeError) as error:
        return {**shape, "error": str(error).splitlines()[0]}
    x = random.uniform(-1, 1, (shape["time"], shape["batch"], shape["input"])).astype(np.float32)
    times = []
    for _ in range(2):
        session.run(None, {"x": x})
    start = time.perf_counter()
    while True:
        limit = options.seconds * (PATIENCE if len(times) < LEAST_RUNS else 1)
        if times and time.perf_counter() - start >= limit:
            return {**shape, "forward_ms": statistics.median(times)}
        before = time.perf_counter()
        session.run(None, {"x": x})
        times.append((time.perf_counter() - before) * 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: onnxruntime's own)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for one shape")
    options = parser.parse_args()
    about = {
        "engine": "onnxruntime",
        "device": "CPU",
        "driver": f"onnxruntime {onnxruntime.__version__}",
        "dtype": "float32",
        "threads": options.threads,
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        if line.strip():
            print(json.dumps({**measure(line, options), **about}), flush=True)


if __name__ == "__main__":
    main()
