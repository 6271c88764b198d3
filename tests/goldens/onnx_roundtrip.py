"""Exports random layers, and a language model that was trained for a few steps, with recurra; runs the
ONNX files in onnxruntime and in recurra; compares with PyTorch, or with PyTorch's equations in float64
where PyTorch isn't installed. Beyond 1e-5 it fails.

    pip install onnx onnxruntime numpy safetensors [torch]
    python tests/goldens/onnx_roundtrip.py target/release/recurra
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

try:
    import torch
except ImportError:
    torch = None

RECURRA = sys.argv[1]
TOLERANCE = 1e-5
T, B = 7, 3
onnxruntime.set_default_logger_severity(3)  # It warns of each optional input.


def recurra(*arguments):
    subprocess.run([RECURRA, *map(str, arguments)], check=True, capture_output=True)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def step(cell, x, h, c, w):
    a, r = x @ w["weight_ih"].T + w["bias_ih"], h @ w["weight_hh"].T + w["bias_hh"]
    if cell == "lstm":
        i, f, g, o = np.split(a + r, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if cell == "gru":
        (ar, az, an), (rr, rz, rn) = np.split(a, 3, axis=1), np.split(r, 3, axis=1)
        z = sigmoid(az + rz)
        return (1 - z) * np.tanh(an + sigmoid(ar + rr) * rn) + z * h, c
    return (np.tanh if cell == "rnn_tanh" else lambda v: np.maximum(v, 0))(a + r), c


def equations(cell, x, h0, c0, weights, layers, directions):
    x, h_n, c_n = x.astype(np.float64), [], []
    for layer in range(layers):
        outputs = []
        for d in range(directions):
            suffix = f"_l{layer}" + ("_reverse" if d else "")
            stems = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
            w = {stem: weights[stem + suffix].astype(np.float64) for stem in stems}
            h, c = (s[layer * directions + d].astype(np.float64) for s in (h0, c0))
            y = np.zeros((len(x), B, h.shape[1]))
            for t in (reversed if d else list)(range(len(x))):
                h, c = step(cell, x[t], h, c, w)
                y[t] = h
            outputs.append(y)
            h_n.append(h)
            c_n.append(c)
        x = np.concatenate(outputs, axis=2)
    return x, np.stack(h_n), np.stack(c_n)


def reference(cell, x, h0, c0, weights, hidden, layers, directions):
    if torch is None:
        return equations(cell, x, h0, c0, weights, layers, directions)
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(cell, torch.nn.RNN)
    extra = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
    module = kind(x.shape[2], hidden, layers, bidirectional=directions == 2, **extra)
    module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    state = (torch.tensor(h0), torch.tensor(c0)) if cell == "lstm" else torch.tensor(h0)
    with torch.no_grad():
        y, last = module(torch.tensor(x), state)
    h, c = last if cell == "lstm" else (last, torch.tensor(c0))
    return y.numpy(), h.numpy(), c.numpy()


def compare(title, folder, path, data, want):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [set.version for set in model.opset_import] == [22]
    names = list(want)
    got = dict(zip(names, onnxruntime.InferenceSession(path).run(names, data)))
    np.savez(folder / "in.npz", **data)
    recurra("run", path, "--input", folder / "in.npz", "--output", folder / "out.npz", "--device", "cpu")
    ours = np.load(folder / "out.npz")
    worst = [max(np.abs(side[name] - want[name]).max() for name in names) for side in (got, ours)]
    print(f"{title:24} onnxruntime {worst[0]:.1e}  recurra run {worst[1]:.1e}")
    assert max(worst) <= TOLERANCE


random = np.random.default_rng(1)
uniform = lambda *shape: random.uniform(-0.5, 0.5, shape).astype(np.float32)
print("against", f"PyTorch {torch.__version__}" if torch else "the equations in float64")
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for cell, gates in [("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)]:
        for layers, directions in [(1, 1), (2, 1), (1, 2), (3, 2)]:
            inputs, hidden = 5, 6
            weights = {}
            for layer in range(layers):
                for suffix in ["", "_reverse"][:directions]:
                    width = inputs if layer == 0 else directions * hidden
                    for stem, shape in [("weight_ih", (gates * hidden, width)), ("weight_hh", (gates * hidden, hidden)),
                                        ("bias_ih", (gates * hidden,)), ("bias_hh", (gates * hidden,))]:
                        weights[f"{stem}_l{layer}{suffix}"] = uniform(*shape)
            save_file(weights, folder / "w.safetensors")
            choice = ["--cell", cell] if gates == 1 else []
            recurra("export", folder / "w.safetensors", "--out", folder / "w.onnx", *choice)
            recurra("import", folder / "w.onnx", "--out", folder / "back.safetensors")
            back = load_file(folder / "back.safetensors")
            assert len(back) == len(weights)
            x, h0, c0 = uniform(T, B, inputs), uniform(layers * directions, B, hidden), uniform(layers * directions, B, hidden)
            for given in [True, False]:
                h, c = (h0, c0) if given else (0 * h0, 0 * c0)
                y, h_n, c_n = reference(cell, x, h, c, weights, hidden, layers, directions)
                data, want = {"input": x}, {"output": y, "h_n": h_n}
                if given:
                    data["h_0"] = h0
                if cell == "lstm":
                    want["c_n"] = c_n
                    if given:
                        data["c_0"] = c0
                compare(f"{cell} L{layers} D{directions} {'h_0' if given else ''}", folder, folder / "w.onnx", data, want)

    text = folder / "text.txt"
    text.write_text("".join(f"{k} is {k * k % 97}.\n" for k in range(300)))
    for cell in ["lstm", "gru", "rnn"]:
        model = folder / cell
        recurra("train", "--data", text, "--out", model, "--cell", cell, "--steps", 20, "--hidden", 12, "--seq", 8,
                "--batch", 4, "--device", "cpu")
        recurra("export", model, "--out", folder / "lm.onnx")
        config = json.loads((model / "config.json").read_text())["model"]
        tensors = load_file(model / "model.safetensors")
        stem = cell + "."
        weights = {name.removeprefix(stem): value for name, value in tensors.items() if name.startswith(stem)}
        ids = random.integers(0, len(config["vocabulary"]), (T, B))
        zeros = np.zeros((config["layers"], B, config["hidden"]), np.float32)
        x = tensors["embedding.weight"][ids]
        y, h_n, _ = reference(config["cell"], x, zeros, zeros, weights, config["hidden"], config["layers"], 1)
        logits = y @ tensors["linear.weight"].T.astype(np.float64) + tensors["linear.bias"]
        compare(f"language model {cell}", folder, folder / "lm.onnx", {"ids": ids}, {"logits": logits, "h_n": h_n})
