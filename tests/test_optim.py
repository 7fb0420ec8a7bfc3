"""The course's Adam is torch's, to the bit, and comes without torch's compiler."""

import subprocess
import sys

import torch

from chapters.utils.optim import Adam


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))


def trained(make, set_lr) -> list[torch.Tensor]:
    """The weights after 20 steps with a falling step size; one layer has no gradient now and then."""
    net, data = network(), torch.Generator().manual_seed(1)
    optimizer = make(net.parameters())
    for i in range(20):
        set_lr(optimizer, 1e-2 * (1 - i / 20))
        loss = net(torch.randn(6, 5, generator=data)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        if i % 3 == 0:
            net[0].weight.grad = None
        optimizer.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


def test_it_is_torchs_adam_to_the_bit():
    def in_groups(optimizer, lr):
        optimizer.param_groups[0]["lr"] = lr

    options = {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-5}
    ours = trained(
        lambda weights: Adam(weights, **options), lambda optimizer, lr: setattr(optimizer, "lr", lr)
    )
    theirs = trained(lambda weights: torch.optim.Adam(weights, fused=True, **options), in_groups)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_it_imports_no_compiler():
    code = (
        "import sys, torch\n"
        "from chapters.utils.optim import Adam\n"
        "weight = torch.zeros(3, requires_grad=True)\n"
        "optimizer = Adam([weight], lr=0.1)\n"
        "weight.sum().backward()\n"
        "optimizer.step()\n"
        "assert abs(weight + 0.1).max() < 1e-6\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
