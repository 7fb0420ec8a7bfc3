"""Which processor torch computes on."""

from __future__ import annotations


def pick_device(name: str = "cpu"):
    """The torch device called `name`: "cpu", "mps" or "cuda".

    The CPU is the default everywhere: for the small networks of this course it is the fastest of the three.
    Raises UsageError when the device is not there.
    """
    import torch

    from chapters.utils.lesson import UsageError

    available = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if not available.get(name, False):
        usable = ", ".join(device for device, there in available.items() if there)
        raise UsageError(f"--device {name}: not available on this machine (usable here: {usable})")
    return torch.device(name)
