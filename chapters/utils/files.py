"""Files that are either whole or not there."""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` beside `path` under a temporary name, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of a file that is no UTF-8 holds what cannot be encoded: in JSON its escape is the same text
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)  # mkstemp makes the file private
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno:
            error.filename = error.filename or str(path)  # a full disk does not say where it is
        raise


def jsonable(value: Any) -> Any:
    """`value` with numpy scalars and paths as plain Python, and numbers JSON cannot hold as None."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(jsonable(value), indent=1, ensure_ascii=False) + "\n")


def gif_bytes(frames: Iterable, fps: int) -> bytes:
    """Frames [H, W, 3] uint8 as an endless GIF of at most 300 pixels width, one palette of 32 colours."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    scale = min(1.0, 300 / images[0].width)
    size = (round(images[0].width * scale), round(images[0].height * scale))
    images = [image.resize(size).quantize(32) for image in images]
    buffer = io.BytesIO()
    images[0].save(
        buffer, format="GIF", save_all=True, append_images=images[1:], duration=1000 // fps, loop=0
    )
    return buffer.getvalue()
