"""Makes optimizers.safetensors beside this script from PyTorch.

    pip install torch safetensors numpy
    python tests/goldens/optimizers.py

The committed file was made with torch 2.15.0 on a CPU; its metadata names the version too. What goes in
is rounded to float32 first, then PyTorch computes in float64.

initial [7], gradients [20,7];
NAME/params [20,7] after each step of each of OPTIMIZERS, and its options as scalars (true is 1);
clipped/NAME, for each of CLIPS: its bounds, and the first three gradients after it;
schedule/NAME [20]: the learning rate of each step by each of SCHEDULES, of the highest rate 0.5;
values [20] and plateau/NAME [20]: what is checked after each step (10 less it where mode is 1), and the learning rate of each step by
    each of PLATEAUS, with their options;
ema/decay, ema/params [20,7]: an exponential average of sgd's parameters after each step;
ntasgd/patience, ntasgd/losses [20], ntasgd/since, ntasgd/params [20,7]: the loss checked after each step, the
    step (from 1) whose check begins the averaging, and the average of sgd's parameters after each step: by the
    definition, in float64.
"""

import torch
from make import HERE, random, rounded
from safetensors.torch import save_file
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS, WIDTH, HIGHEST = 20, 7, 0.5

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.05}),
    "sgd_decay": (torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.25}),
    "sgd_momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.875, "weight_decay": 0.125}),
    "nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.875, "nesterov": True}),
    "nesterov_decay": (
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.875, "weight_decay": 0.125, "nesterov": True},
    ),
    "rms_prop": (torch.optim.RMSprop, {"lr": 0.02, "alpha": 0.9375, "eps": 1e-6}),
    "rms_prop_decay": (
        torch.optim.RMSprop,
        {"lr": 0.02, "alpha": 0.9375, "eps": 1e-6, "weight_decay": 0.125},
    ),
    "rms_prop_momentum": (
        torch.optim.RMSprop,
        {"lr": 0.02, "alpha": 0.9375, "eps": 1e-6, "momentum": 0.75},
    ),
    "rms_prop_centered": (
        torch.optim.RMSprop,
        {"lr": 0.02, "alpha": 0.9375, "eps": 1e-6, "centered": True},
    ),
    "rms_prop_all": (
        torch.optim.RMSprop,
        {
            "lr": 0.02,
            "alpha": 0.9375,
            "eps": 1e-6,
            "weight_decay": 0.125,
            "momentum": 0.75,
            "centered": True,
        },
    ),
    "adam": (torch.optim.Adam, {"lr": 0.05, "beta1": 0.875, "beta2": 0.9375, "eps": 1e-6}),
    "adam_decay": (
        torch.optim.Adam,
        {"lr": 0.05, "beta1": 0.875, "beta2": 0.9375, "eps": 1e-6, "weight_decay": 0.125},
    ),
    "adamw": (
        torch.optim.AdamW,
        {"lr": 0.05, "beta1": 0.875, "beta2": 0.9375, "eps": 1e-6, "weight_decay": 0.125},
    ),
}

# By value, by norm; 0: not.
CLIPS = {"value": (0.5, 0.0), "norm": (0.0, 1.5), "both": (0.5, 0.75), "loose": (1e9, 1e9)}


def warm_up(optimizer, steps, then):
    """Step s of the first ones has s/steps of the rate."""
    linear = lr_scheduler.LinearLR(optimizer, start_factor=1 / steps, total_iters=steps - 1)
    return lr_scheduler.SequentialLR(optimizer, [linear, then(optimizer)], milestones=[steps])


SCHEDULES = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1.0),
    "step:6:0.5": lambda o: lr_scheduler.StepLR(o, step_size=6, gamma=0.5),
    "multi-step:3,4,11:0.25": lambda o: lr_scheduler.MultiStepLR(o, milestones=[3, 4, 11], gamma=0.25),
    "exponential:0.9": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS),
    "cosine:0.1": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.1 * HIGHEST),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, HIGHEST, total_steps=STEPS),
    "one-cycle:0.6": lambda o: lr_scheduler.OneCycleLR(o, HIGHEST, total_steps=STEPS, pct_start=0.6),
    "one-cycle linear": lambda o: lr_scheduler.OneCycleLR(
        o, HIGHEST, total_steps=STEPS, pct_start=0.4, anneal_strategy="linear", div_factor=10, final_div_factor=50
    ),
    "warm-up:4+constant": lambda o: warm_up(o, 4, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "warm-up:4+step:6:0.5": lambda o: warm_up(o, 4, lambda o: lr_scheduler.StepLR(o, step_size=6, gamma=0.5)),
    "warm-up:4+exponential:0.9": lambda o: warm_up(o, 4, lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9)),
    "warm-up:5+cosine:0.1": lambda o: warm_up(
        o, 5, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS - 5, eta_min=0.1 * HIGHEST)
    ),
}

PLATEAUS = {
    "usual": {"factor": 0.1, "patience": 2},
    "impatient": {"factor": 0.5, "patience": 0},
    "cooling": {"factor": 0.5, "patience": 1, "cooldown": 3},
    "least": {"factor": 0.25, "patience": 0, "min_lr": 0.2 * HIGHEST},
    "difference": {"factor": 0.5, "patience": 1, "threshold": 0.3, "threshold_mode": "abs"},
    "share": {"factor": 0.5, "patience": 1, "threshold": 0.2},
    "up": {"factor": 0.5, "patience": 1, "mode": "max"},
    "up_difference": {"factor": 0.5, "patience": 1, "mode": "max", "threshold": 0.75, "threshold_mode": "abs"},
}


def scalar(value):
    number = {"min": 0, "max": 1, "rel": 0, "abs": 1}.get(value, value)
    return torch.tensor(float(number), dtype=torch.float64)


def optimizers(tensors):
    initial, gradients = random(WIDTH), random(STEPS, WIDTH)
    # Small gradients show where eps stands, zeros that nothing is divided by zero, and a shift what a mean is.
    gradients[:, 1] = rounded(gradients[:, 1] * 1e-6)
    initial[1] = initial[2] = 0.0
    gradients[:, 2] = 0.0
    gradients[:, 3] = rounded(gradients[:, 3] * 1e4)
    gradients[:, 4] = rounded(gradients[:, 4] * 0.25 + 2.0)
    tensors |= {"initial": initial, "gradients": gradients}
    for name, (kind, options) in OPTIMIZERS.items():
        parameter = nn.Parameter(initial.clone())
        arguments = dict(options)
        if "beta1" in arguments:
            arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
        optimizer = kind([parameter], foreach=False, **({"weight_decay": 0.0} | arguments))
        history = []
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
            history.append(parameter.detach().clone())
        tensors |= {f"{name}/{key}": scalar(value) for key, value in options.items()}
        tensors[f"{name}/params"] = torch.stack(history)
    for name, (value, norm) in CLIPS.items():
        parameters = [nn.Parameter(torch.zeros(WIDTH, dtype=torch.float64)) for _ in range(3)]
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient.clone()
        if value > 0:
            nn.utils.clip_grad_value_(parameters, value)
        if norm > 0:
            nn.utils.clip_grad_norm_(parameters, norm)
        tensors |= {f"clipped/{name}/value": scalar(value), f"clipped/{name}/norm": scalar(norm)}
        tensors[f"clipped/{name}/after"] = torch.stack([p.grad for p in parameters])


def schedules(tensors):
    def rates(make, after):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=HIGHEST)
        scheduler = make(optimizer)
        list = []
        for step in range(STEPS):
            list.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step + 1 < STEPS:
                after(scheduler, step)
        return torch.tensor(list, dtype=torch.float64)

    for name, make in SCHEDULES.items():
        tensors[f"schedule/{name}"] = rates(make, lambda scheduler, _: scheduler.step())
    values = [5, 4, 4.5, 3.9, 3.95, 3.99, 4, 4.1, 3.8, 3.5, 3.45, 3.4, 3.4, 3.4, 3.4, 3.6, 3.7, 1, 2, 3]
    tensors["values"] = torch.tensor(values, dtype=torch.float64)
    for name, options in PLATEAUS.items():
        make = lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        # What is to go up does.
        up = options.get("mode") == "max"
        check = lambda scheduler, step: scheduler.step(10 - values[step] if up else values[step])
        tensors[f"plateau/{name}"] = rates(make, check)
        tensors |= {f"plateau/{name}/{key}": scalar(value) for key, value in options.items()}


def averages(tensors):
    history = tensors["sgd/params"]
    module = nn.Linear(WIDTH, 1, bias=False).double()
    decay = 0.75
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
    after = []
    for weights in history:
        with torch.no_grad():
            module.weight.copy_(weights)
        average.update_parameters(module)
        after.append(average.module.weight.detach().clone()[0])
    tensors |= {"ema/decay": scalar(decay), "ema/params": torch.stack(after)}
    losses, patience, since = [9, 7, 6, 5, 5.5, 4, 4.5, 4.25, 4.125, 4.0625, 4.75] + 9 * [3.0], 3, 0
    means = []
    for k in range(1, STEPS + 1):
        t, v = k - 1, losses[k - 1]
        first = since or k
        means.append(history[first - 1 : k].mean(0))
        if not since and t > patience and v > min(losses[: t - patience]):
            since = k
    tensors |= {"ntasgd/patience": scalar(patience), "ntasgd/since": scalar(since)}
    tensors |= {"ntasgd/losses": torch.tensor(losses, dtype=torch.float64)}
    tensors["ntasgd/params"] = torch.stack(means)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(300)
    tensors = {}
    optimizers(tensors)
    schedules(tensors)
    averages(tensors)
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    version = torch.__version__.split("+")[0]
    save_file(tensors, HERE / "optimizers.safetensors", metadata={"torch": version})


if __name__ == "__main__":
    main()
