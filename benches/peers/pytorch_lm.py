#!/usr/bin/env python3
"""The training of `recurra train` in PyTorch: an embedding, LSTM or GRU layers, a linear layer, cross-entropy,
clipped gradients, Adam, over windows of parallel streams whose states are carried on.

Prints a line of JSON: characters per second over all steps but the first tenth, and the mean loss of the last
tenth in nats.
"""

import argparse
import json
import pathlib
import sys
import time

try:
    import torch
    from torch import nn
except ImportError as error:
    sys.exit(f"{error}: pip install torch")


class Model(nn.Module):
    def __init__(self, options, vocabulary):
        super().__init__()
        width = min(options.hidden, 128)
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[options.cell]
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = layer(width, options.hidden, num_layers=options.layers)
        self.output = nn.Linear(options.hidden, vocabulary)

    def forward(self, ids, state):
        y, state = self.layers(self.embedding(ids), state)
        return self.output(y), state


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--cell", choices=["lstm", "gru"], default="lstm")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=0.004)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    text = pathlib.Path(options.data).read_text(encoding="utf-8")
    letters = {letter: i for i, letter in enumerate(sorted(set(text)))}
    ids = torch.tensor([letters[letter] for letter in text[: len(text) * 9 // 10]])
    # Streams side by side, [steps, B].
    length = (len(ids) - 1) // options.batch
    streams = ids[: length * options.batch].view(options.batch, length).t().contiguous()
    model = Model(options, len(letters))
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    state, losses, begin, warm = None, [], None, options.steps // 10
    for step in range(options.steps):
        if step == warm:
            begin = time.perf_counter()
        first = step * options.seq % (length - options.seq - 1)
        window = streams[first : first + options.seq + 1]
        logits, state = model(window[:-1], state)
        state = tuple(s.detach() for s in state) if options.cell == "lstm" else state.detach()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - begin
    last = losses[-max(options.steps // 10, 1) :]
    print(json.dumps({
        "chars_per_second": (options.steps - warm) * options.seq * options.batch / seconds,
        "loss": sum(last) / len(last),
        "driver": f"PyTorch {torch.__version__}",
        "threads": torch.get_num_threads(),
    }))


if __name__ == "__main__":
    main()
