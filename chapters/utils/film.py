"""Agents on film."""

from __future__ import annotations

import io
from collections.abc import Iterable


def gif_bytes(frames: Iterable, fps: int) -> bytes:
    """Frames [H, W, 3] uint8 as an endless GIF of at most 300 pixels width, one palette of 32 colours."""
    import numpy as np
    from PIL import Image

    images = [Image.fromarray(np.asarray(frame)) for frame in frames]
    width, height = images[0].size
    scale = min(1.0, 300 / width)
    size = (round(width * scale), round(height * scale))
    images = [image.resize(size).quantize(32) for image in images]
    buffer = io.BytesIO()
    images[0].save(
        buffer, format="GIF", save_all=True, append_images=images[1:], duration=1000 // fps, loop=0
    )
    return buffer.getvalue()
