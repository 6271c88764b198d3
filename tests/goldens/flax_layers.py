"""Writes flax_layers.npz: the parameters of Flax cells under NAME/..., carries in and out, and what
Flax makes of one input, under x [T, B, I] and NAME/y [T, B, H].

    pip install jax flax numpy && python tests/goldens/flax_layers.py

A carry of an LSTM is (c, h): carry0 and last0 are c, carry1 and last1 are h; of a GRU, h alone.
"""

import pathlib

import flax
import jax
import numpy as np
from flax import linen as nn

jax.config.update("jax_enable_x64", True)
TIME, BATCH, INPUT, HIDDEN = 4, 2, 3, 5
random = np.random.default_rng(1)
draw = lambda *shape: random.uniform(-0.8, 0.8, shape).astype(np.float32)
cells = {
    "lstm": nn.LSTMCell(HIDDEN),
    "optimized_lstm": nn.OptimizedLSTMCell(HIDDEN),
    "gru": nn.GRUCell(HIDDEN),
}
arrays = {"x": draw(TIME, BATCH, INPUT)}
for name, cell in cells.items():
    variables = cell.init(jax.random.key(0), cell.initialize_carry(jax.random.key(0), (BATCH, INPUT)), arrays["x"][0])
    flat = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    params = {path: draw(*value.shape) for path, value in flat.items()}
    carry = [draw(BATCH, HIDDEN) for _ in range(1 if name == "gru" else 2)]
    arrays |= {f"{name}/{path}": value for path, value in params.items()}
    arrays |= {f"{name}/carry{k}": value for k, value in enumerate(carry)}
    wide = flax.traverse_util.unflatten_dict({p: v.astype(np.float64) for p, v in params.items()}, sep="/")
    state = [value.astype(np.float64) for value in carry]
    state = state[0] if name == "gru" else tuple(state)
    outputs = []
    for x in arrays["x"].astype(np.float64):
        state, y = cell.apply({"params": wide}, state, x)
        outputs.append(y)
    arrays[f"{name}/y"] = np.stack(outputs).astype(np.float32)
    for k, value in enumerate([state] if name == "gru" else state):
        arrays[f"{name}/last{k}"] = np.asarray(value, np.float32)
print(flax.__version__, jax.__version__)
for name, value in arrays.items():
    print(name, value.shape, value.dtype)
np.savez(pathlib.Path(__file__).parent / "flax_layers.npz", **arrays)
