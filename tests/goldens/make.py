"""Makes the golden files beside this script from PyTorch.

    pip install torch safetensors numpy
    python tests/goldens/make.py

The committed files were made with torch 2.11.0 on a CPU; their metadata names the version too.

Everything that goes in (inputs, weights, states, the gradients of the loss) is rounded to float32
first, then PyTorch computes in float64. The cells' files hold float32 (the results rounded once),
`optim` and `lm` hold float64.

{rnn_tanh,rnn_relu,lstm,gru}.safetensors, for each of CASES, "case0/", "case1/" ...:
    input [T,B,I], h0, c0 [L,B,H], weight_ih_l0 ... bias_hh_l2 as PyTorch names them,
    output [T,B,H], h_n, c_n [L,B,H],
    d_output, d_h_n, d_c_n: the loss is sum(output*d_output) + sum(h_n*d_h_n) + sum(c_n*d_c_n),
    grad/X: the gradient of that loss with respect to X (input, h0, c0 and all weights).
{rnn_tanh,rnn_relu,lstm,gru}_stacks.safetensors, for each of STACKS (an LSTM: and PROJECTED), the
    same, with D directions, states [L*D,B,P] and [L*D,B,H] in PyTorch's order, and
    lengths [B] (int64) where rows have them. Of form "time" and "batch" (batch_first), input and
    output are padded, the output by pad_packed_sequence. Of form "packed" they are the data of a
    PackedSequence, whose batch_sizes and sorted_indices (int64) are there too.
unbiased.safetensors, for each cell and each of UNBIASED (an LSTM: and UNBIASED_PROJECTED), under
    "lstm/case0/" and so on, the same of modules made with bias=False: no biases, no gradients of any.
optim.safetensors:
    initial [7], gradients [5,7]; sgd/, adam/ and adamw/: the options as scalars, and params [5,7]
    after each step; clip0/ and clip1/: max_norm, norm, before_0, before_1, after_0, after_1.
lm.safetensors: embedding, two LSTM layers from zero states, linear, mean cross entropy:
    ids [T,B], targets [T,B] (int64), the weights, logits [T,B,V], loss, grad/X for every weight.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = Path(__file__).resolve().parent

# T, B, I, H, L and the factor on PyTorch's usual weights: 4 saturates gates.
CASES = [(1, 1, 1, 1, 1, 1.0), (7, 3, 2, 7, 2, 4.0), (5, 2, 3, 33, 1, 1.0), (3, 2, 7, 5, 3, 1.5)]

# Form, T, B, I, H, L, both directions, P (0: none), lengths, padding_value. Lengths in no order and
# with ties, T longer than all of them in one.
STACKS = [
    ("time", 5, 3, 2, 4, 2, True, 0, None, 0.0),
    ("time", 6, 4, 3, 5, 2, False, 0, [2, 5, 1, 3], 0.0),
    ("time", 6, 4, 3, 4, 2, True, 0, [3, 1, 6, 3], -1.5),
    ("batch", 4, 3, 2, 5, 1, True, 0, None, 0.0),
    ("batch", 5, 3, 3, 4, 2, True, 0, [4, 5, 2], 0.75),
    ("packed", 5, 4, 3, 4, 2, True, 0, [2, 5, 2, 3], 0.0),
]
PROJECTED = [
    ("time", 4, 3, 2, 5, 2, False, 3, None, 0.0),
    ("time", 5, 3, 2, 4, 2, True, 3, [2, 5, 3], 2.5),
    ("packed", 4, 3, 2, 5, 2, True, 2, [1, 4, 3], 0.0),
]

UNBIASED = [
    ("time", 4, 2, 2, 3, 1, False, 0, None, 0.0),
    ("time", 4, 3, 2, 3, 2, True, 0, [2, 4, 1], 0.0),
]
UNBIASED_PROJECTED = [("time", 3, 2, 2, 4, 2, True, 2, None, 0.0)]

CELLS = {
    "rnn_tanh": lambda i, h, l, **more: nn.RNN(i, h, l, nonlinearity="tanh", **more),
    "rnn_relu": lambda i, h, l, **more: nn.RNN(i, h, l, nonlinearity="relu", **more),
    "lstm": lambda i, h, l, **more: nn.LSTM(i, h, l, **more),
    "gru": lambda i, h, l, **more: nn.GRU(i, h, l, **more),
}


def rounded(tensor):
    """The nearest float32 values, as float64."""
    return tensor.to(torch.float32).to(torch.float64)


def random(*shape):
    """Normal numbers that float32 holds exactly."""
    return rounded(torch.randn(*shape, dtype=torch.float64))


def redraw(module, scale):
    """Weights U(-a, a) with a = scale/sqrt(H), shifted by a/10 so that they're lopsided."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            bound = scale / parameter.shape[-1] ** 0.5
            if name.startswith("bias"):
                bound = scale / module.hidden_size**0.5
            uniform = torch.rand(parameter.shape, dtype=torch.float64) * 2 - 1
            parameter.copy_(rounded(bound * (uniform + 0.1)))


def write(name, tensors, dtype=None):
    """Writes detached copies, floating ones as `dtype` where one is given."""
    out = {}
    for key, tensor in tensors.items():
        tensor = tensor.detach().clone().contiguous()
        out[key] = tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
    save_file(out, HERE / f"{name}.safetensors", metadata={"torch": torch.__version__})


def training_step(module, leaves, run):
    """Everything that goes into and comes out of `run`, the module over the input and its states."""
    for leaf in leaves.values():
        leaf.requires_grad_()
    if "c0" in leaves:
        output, (h_n, c_n) = run(leaves["input"], (leaves["h0"], leaves["c0"]))
        results = {"output": output, "h_n": h_n, "c_n": c_n}
    else:
        output, h_n = run(leaves["input"], leaves["h0"])
        results = {"output": output, "h_n": h_n}
    d_results = {f"d_{key}": random(*value.shape) for key, value in results.items()}
    leaves = leaves | dict(module.named_parameters())
    sum((value * d_results[f"d_{key}"]).sum() for key, value in results.items()).backward()
    gradients = {f"grad/{key}": leaf.grad for key, leaf in leaves.items()}
    return leaves | results | d_results | gradients


def cell_file(name, make):
    tensors = {}
    for k, (steps, batch, inputs, hidden, layers, scale) in enumerate(CASES):
        module = make(inputs, hidden, layers).double()
        redraw(module, scale)
        leaves = {"input": random(steps, batch, inputs), "h0": random(layers, batch, hidden)}
        if name == "lstm":
            leaves["c0"] = random(layers, batch, hidden)
        for key, value in training_step(module, leaves, module).items():
            tensors[f"case{k}/{key}"] = value
    write(name, tensors, torch.float32)


def stack_case(name, make, stack, **more):
    """What goes into and comes out of one of STACKS."""
    form, steps, batch, inputs, hidden, layers, both, width, lengths, padding = stack
    first = form == "batch"
    options = more | ({"proj_size": width} if width else {})
    module = make(inputs, hidden, layers, bidirectional=both, batch_first=first, **options)
    module = module.double()
    redraw(module, 1.5)
    x = random(*((batch, steps) if first else (steps, batch)), inputs)
    extra = {} if lengths is None else {"lengths": torch.tensor(lengths)}
    pack = lambda x: pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
    if form == "packed":
        packed = pack(x)
        x = packed.data
        extra["batch_sizes"] = packed.batch_sizes
        extra["sorted_indices"] = packed.sorted_indices

    def run(x, states):
        if lengths is None:
            return module(x, states)
        if form == "packed":
            output, last = module(packed._replace(data=x), states)
            return output.data, last
        output, last = module(pack(x), states)
        output, same = pad_packed_sequence(output, first, padding, total_length=steps)
        assert same.tolist() == lengths
        return output, last

    parts = layers * (2 if both else 1)
    leaves = {"input": x, "h0": random(parts, batch, width or hidden)}
    if name == "lstm":
        leaves["c0"] = random(parts, batch, hidden)
    return training_step(module, leaves, run) | extra


def stacks_file(name, make):
    tensors = {}
    for k, stack in enumerate(STACKS + (PROJECTED if name == "lstm" else [])):
        for key, value in stack_case(name, make, stack).items():
            tensors[f"case{k}/{key}"] = value
    write(f"{name}_stacks", tensors, torch.float32)


def unbiased_file():
    tensors = {}
    for name, make in CELLS.items():
        for k, stack in enumerate(UNBIASED + (UNBIASED_PROJECTED if name == "lstm" else [])):
            case = stack_case(name, make, stack, bias=False)
            assert not any("bias" in key for key in case)
            for key, value in case.items():
                tensors[f"{name}/case{k}/{key}"] = value
    write("unbiased", tensors, torch.float32)


def optim_file():
    scalar = lambda value: torch.tensor(value, dtype=torch.float64)
    initial, gradients = random(7), random(5, 7)
    # Gradients as small as eps show where eps stands, zeros that nothing is divided by zero.
    gradients[:, 1] = rounded(gradients[:, 1] * 1e-8)
    initial[2] = gradients[:, 2] = 0.0
    initial[1] = 0.0
    gradients[:, 3] = rounded(gradients[:, 3] * 1e4)
    tensors = {"initial": initial, "gradients": gradients}
    adam = {"lr": 0.05, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
    options = {"sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}, "adam": adam, "adamw": adam}
    for name, chosen in options.items():
        parameter = nn.Parameter(initial.clone())
        arguments = dict(chosen)
        if name != "sgd":
            arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        optimizer = kind([parameter], foreach=False, **arguments)
        history = []
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
            history.append(parameter.detach().clone())
        tensors |= {f"{name}/{key}": scalar(value) for key, value in chosen.items()}
        tensors[f"{name}/params"] = torch.stack(history)
    before = [random(3, 4), random(5)]
    for k, max_norm in enumerate([0.5, 100.0]):
        parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in before]
        for parameter, gradient in zip(parameters, before):
            parameter.grad = gradient.clone()
        norm = nn.utils.clip_grad_norm_(parameters, max_norm)
        tensors |= {f"clip{k}/max_norm": scalar(max_norm), f"clip{k}/norm": norm}
        for j, (parameter, gradient) in enumerate(zip(parameters, before)):
            tensors |= {f"clip{k}/before_{j}": gradient, f"clip{k}/after_{j}": parameter.grad}
    write("optim", tensors)


def lm_file():
    vocabulary, width, hidden, steps, batch = 11, 6, 9, 5, 3
    lstm = nn.LSTM(width, hidden, 2).double()
    redraw(lstm, 1.5)
    weights = {
        "embedding": nn.Parameter(random(vocabulary, width)),
        "linear/weight": nn.Parameter(random(vocabulary, hidden)),
        "linear/bias": nn.Parameter(random(vocabulary)),
    } | dict(lstm.named_parameters())
    # The id 10 never comes in, and 15 places of 10 ids repeat some.
    ids = torch.randint(0, vocabulary - 1, (steps, batch))
    targets = torch.randint(0, vocabulary, (steps, batch))
    output, _ = lstm(nn.functional.embedding(ids, weights["embedding"]))
    logits = nn.functional.linear(output, weights["linear/weight"], weights["linear/bias"])
    loss = nn.functional.cross_entropy(logits.reshape(-1, vocabulary), targets.reshape(-1))
    loss.backward()
    tensors = {"ids": ids, "targets": targets, "logits": logits, "loss": loss} | weights
    write("lm", tensors | {f"grad/{key}": weight.grad for key, weight in weights.items()})


def main():
    torch.set_num_threads(1)
    for seed, (name, make) in enumerate(CELLS.items()):
        torch.manual_seed(100 + seed)
        cell_file(name, make)
        torch.manual_seed(110 + seed)
        stacks_file(name, make)
    torch.manual_seed(200)
    optim_file()
    torch.manual_seed(201)
    lm_file()
    torch.manual_seed(202)
    unbiased_file()


if __name__ == "__main__":
    main()
