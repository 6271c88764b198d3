"""Writes keras_layers.npz: the arrays of Keras layers under their paths, and what Keras makes of one
input, under x and y/NAME [B, T, D·H].

    pip install keras torch numpy && KERAS_BACKEND=torch python tests/goldens/keras_layers.py
"""

import pathlib

import keras
import numpy as np

keras.utils.set_random_seed(1)
random = np.random.default_rng(1)
L = keras.layers
layers = {
    "lstm": L.LSTM(5, return_sequences=True),
    "lstm_plain": L.LSTM(5, return_sequences=True, use_bias=False, name="lstm_plain"),
    "gru": L.GRU(5, return_sequences=True),
    "gru_before": L.GRU(5, return_sequences=True, reset_after=False, name="gru_before"),
    "simple_rnn": L.SimpleRNN(5, return_sequences=True),
    "bidirectional": L.Bidirectional(L.LSTM(5, return_sequences=True), name="bidirectional"),
    "bidirectional_gru": L.Bidirectional(L.GRU(5, return_sequences=True), name="bidirectional_gru"),
}
x = random.standard_normal((2, 4, 3)).astype(np.float32)
arrays = {"x": x}
for name, layer in layers.items():
    layer(x)
    for weight in layer.weights:
        weight.assign(random.uniform(-0.8, 0.8, weight.shape).astype(np.float32))
        arrays[weight.path] = np.asarray(keras.ops.convert_to_numpy(weight))
    arrays[f"y/{name}"] = keras.ops.convert_to_numpy(layer(x))
for name, value in arrays.items():
    print(name, value.shape, value.dtype)
np.savez(pathlib.Path(__file__).parent / "keras_layers.npz", **arrays)
