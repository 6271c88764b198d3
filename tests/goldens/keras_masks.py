"""Writes keras_masks.npz: what Keras makes of rows that end early. x [B, T, I], lengths [B], the arrays
of each layer under their paths, y/NAME [B, T, D·H], and repeated/NAME, the same with
zero_output_for_mask=False.

    pip install keras torch numpy && KERAS_BACKEND=torch python tests/goldens/keras_masks.py
"""

import pathlib

import keras
import numpy as np

keras.utils.set_random_seed(1)
random = np.random.default_rng(2)
L = keras.layers
make = {
    "lstm": lambda **more: L.LSTM(5, return_sequences=True, name="lstm", **more),
    "gru": lambda **more: L.GRU(5, return_sequences=True, name="gru", **more),
    "both": lambda **more: L.Bidirectional(L.LSTM(5, return_sequences=True, **more), name="both"),
}
lengths = np.array([2, 5, 3])
x = random.standard_normal((3, 5, 3)).astype(np.float32)
mask = np.arange(5)[None] < lengths[:, None]
arrays = {"x": x, "lengths": lengths}
for name, layer in make.items():
    zeros, repeats = layer(zero_output_for_mask=True), layer()
    for one in (zeros, repeats):
        one(x)
    for weight, other in zip(zeros.weights, repeats.weights):
        weight.assign(random.uniform(-0.8, 0.8, weight.shape).astype(np.float32))
        other.assign(weight)
        arrays[weight.path] = np.asarray(keras.ops.convert_to_numpy(weight))
    arrays[f"y/{name}"] = keras.ops.convert_to_numpy(zeros(x, mask=mask))
    arrays[f"repeated/{name}"] = keras.ops.convert_to_numpy(repeats(x, mask=mask))
for name, value in arrays.items():
    print(name, value.shape, value.dtype)
np.savez(pathlib.Path(__file__).parent / "keras_masks.npz", **arrays)
