"""Every test runs offline, on one torch thread, with shapes checked at run time."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", JAX_PLATFORMS="cpu", MPLBACKEND="Agg"
)

import jaxtyping

# Must come before any lesson is imported: from here on an annotated shape that is wrong raises.
jaxtyping.install_import_hook(["chapters.A_foundations", "chapters.B_core_algorithms"], "beartype.beartype")
