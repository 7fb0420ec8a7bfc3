"""Every test runs offline, on one torch thread, with shapes checked at run time."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", JAX_PLATFORMS="cpu", MPLBACKEND="Agg"
)

import jaxtyping

from chapters.course.catalog import CHAPTERS

# Must come before any lesson is imported: from here on an annotated shape that is wrong raises.
folders = sorted(path.name for path in CHAPTERS.glob("[A-E]_*"))
jaxtyping.install_import_hook([f"chapters.{name}" for name in folders], "beartype.beartype")
