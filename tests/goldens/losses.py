"""Makes losses.safetensors beside this script from PyTorch's losses.

    pip install torch safetensors numpy
    python tests/goldens/losses.py

The committed file was made with torch 2.15.0 on a CPU; its metadata names the version too. What goes in is rounded
to float32 first, then PyTorch computes in float64, and float64 is what the file holds.

For each case, "NAME/": prediction [N,C], targets [N] (int64; -100 is ignored) or [N,D], loss, grad [N,C]; mask [N] or
[N,D] where there is one (1 takes part), weights [C] or positive [D] where there are some. A masked mean is that of
what is left, the sum by PyTorch with reduction="none".

    ce_*: CrossEntropyLoss; bce_*: BCEWithLogitsLoss; mse_*, mae_*, huber_* (delta 0.75): MSELoss, L1Loss, HuberLoss;
    quantile_*: max(t*(y-x), (t-1)*(y-x)) for the levels t in LEVELS, x [N,D,3];
    gaussian_*: GaussianNLLLoss(full=True) of x = (m, s) [N,D,2], the variance (LEAST + softplus(s))^2;
    student_*: torch.distributions.StudentT of x = (m, s, r) [N,D,3], scale as above, df = 2 + softplus(r).
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import softplus

HERE = Path(__file__).resolve().parent
LEVELS = [0.125, 0.5, 0.875]
LEAST = 0.0625
DELTA = 0.75


def rounded(tensor):
    return tensor.to(torch.float32).to(torch.float64)


def random(*shape, scale=1.0):
    return rounded(torch.randn(*shape, dtype=torch.float64) * scale)


def classes(tensors):
    rows, count = 9, 5
    logits = random(rows, count, scale=3.0)
    # A sure row and a surely wrong one.
    logits[2] += torch.tensor([60.0, -60.0, 0.0, 0.0, 0.0])
    logits[3] += torch.tensor([60.0, -60.0, 0.0, 0.0, 0.0])
    logits = rounded(logits)
    plain = torch.tensor([4, 3, 0, 1, 2, 2, 0, 1, 4])
    ignoring = plain.clone()
    ignoring[[1, 5, 6]] = -100
    weights = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0], dtype=torch.float64)
    mask = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1, 0], dtype=torch.float64)
    for name, targets, options, masked in [
        ("plain", plain, {}, False),
        ("ignore", ignoring, {}, False),
        ("weights", plain, {"weight": weights}, False),
        ("smoothing", plain, {"label_smoothing": 0.125}, False),
        ("smoothing_weights", plain, {"label_smoothing": 0.125, "weight": weights}, False),
        ("all", ignoring, {"label_smoothing": 0.125, "weight": weights}, False),
        ("mask", plain, {}, True),
        ("mask_all", ignoring, {"label_smoothing": 0.125, "weight": weights}, True),
    ]:
        x = logits.clone().requires_grad_()
        kept = mask > 0 if masked else torch.ones(rows, dtype=torch.bool)
        loss = nn.CrossEntropyLoss(ignore_index=-100, **options)(x[kept], targets[kept])
        loss.backward()
        case = {"prediction": logits, "targets": targets, "loss": loss, "grad": x.grad}
        if "weight" in options:
            case["weights"] = weights
        if masked:
            case["mask"] = mask
        tensors |= {f"ce_{name}/{key}": value for key, value in case.items()}


def losses():
    """Each loss of elements: predictions an element, and the loss of each."""
    none = {"reduction": "none"}

    def quantile(x, y):
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        u = y[..., None] - x
        return torch.maximum(levels * u, (levels - 1) * u).mean(-1)

    def gaussian(x, y):
        deviation = LEAST + softplus(x[..., 1])
        module = nn.GaussianNLLLoss(full=True, eps=1e-12, **none)
        return module(x[..., 0], y, deviation**2)

    def student(x, y):
        freedom, deviation = 2 + softplus(x[..., 2]), LEAST + softplus(x[..., 1])
        return -torch.distributions.StudentT(freedom, x[..., 0], deviation).log_prob(y)

    one = lambda module: (1, lambda x, y: module(x[..., 0], y))
    return {
        "mse": one(nn.MSELoss(**none)),
        "mae": one(nn.L1Loss(**none)),
        "huber": one(nn.HuberLoss(delta=DELTA, **none)),
        "quantile": (len(LEVELS), quantile),
        "gaussian": (2, gaussian),
        "student": (3, student),
    }


def elements(tensors):
    rows, width = 8, 3
    by_row = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1], dtype=torch.float64)
    by_element = (torch.rand(rows, width) < 0.6).to(torch.float64)
    positive = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    yes = torch.tensor([0.0, 1.0, 0.25, 1.0, 0.0, 1.0], dtype=torch.float64)
    yes = yes.repeat(4).reshape(rows, width)
    table = {name: (each, of, random(rows, width, scale=2.0)) for name, (each, of) in losses().items()}
    for name, options in [("bce", {}), ("bce_positive", {"pos_weight": positive})]:
        module = nn.BCEWithLogitsLoss(reduction="none", **options)
        table[name] = (1, lambda x, y, module=module: module(x[..., 0], y), yes)
    for name, (each, of, y) in table.items():
        prediction = random(rows, width * each, scale=2.0)
        # Beyond what an exponential in float32 holds.
        prediction[0, 0] = 120.0
        prediction[2, -1] = -120.0
        for kind, mask in [("plain", None), ("rows", by_row), ("elements", by_element)]:
            x = prediction.clone().requires_grad_()
            each_loss = of(x.reshape(rows, width, each), y)
            full = torch.ones(rows, width, dtype=torch.float64)
            if mask is not None:
                full = full * (mask if mask.dim() == 2 else mask[:, None])
            loss = (each_loss * full).sum() / full.sum()
            loss.backward()
            case = {"prediction": prediction, "targets": y, "loss": loss, "grad": x.grad}
            if mask is not None:
                case["mask"] = mask
            if name == "bce_positive":
                case["positive"] = positive
            tensors |= {f"{name}_{kind}/{key}": value for key, value in case.items()}


def main():
    torch.set_num_threads(1)
    torch.manual_seed(300)
    tensors = {}
    classes(tensors)
    elements(tensors)
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    save_file(tensors, HERE / "losses.safetensors", metadata={"torch": torch.__version__})
    print(f"{len(tensors)} tensors")


if __name__ == "__main__":
    main()
