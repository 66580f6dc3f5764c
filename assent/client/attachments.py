"""Reads images and files from disk, for a prompt or message."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from assent.runtime.files import open_regular
from assent.wire.errors import MessageError
from assent.wire.limits import PARTS_LIMIT
from assent.wire.messages import problems
from assent.wire.parts import FILE_TYPES, IMAGE_TYPES, FilePart, ImagePart

_TYPES: Final[Mapping[str, str]] = {
    **{f".{ending}": kind for kind, ending in FILE_TYPES.items()},
    **{f".{kind.removeprefix('image/')}": kind for kind in IMAGE_TYPES},
    ".jpg": "image/jpeg",
    ".htm": "text/html",
    ".markdown": "text/markdown",
}


def attachment(source: str | Path) -> ImagePart | FilePart:
    """Return the part for a file, with its bytes, or for an `https://` URL. Its ending says what it is.

    A URL of any other ending is that of a file. Reads the disk: not in workflow code.

    Raises:
        MessageError: the file cannot be read, is too large, or is none that providers read; or the URL does not fit.

    Example:
        `parts = [TextPart(text="Is this ours?"), attachment("https://example.com/label.png")]`
    """
    is_url = isinstance(source, str) and "://" in source
    path = Path(urlsplit(source).path if isinstance(source, str) and is_url else source)
    media_type = _TYPES.get(path.suffix.lower())
    is_image = media_type in IMAGE_TYPES
    try:
        if is_url:
            return ImagePart(url=str(source)) if is_image else FilePart(url=str(source))
        if media_type is None:
            raise MessageError(f"{path}: a file to attach ends in one of {' '.join(sorted(_TYPES))}")
        if (size := path.stat().st_size) > PARTS_LIMIT:
            raise MessageError(f"{path}: it has {size} bytes; the limit is {PARTS_LIMIT}")
        with open_regular(path, PARTS_LIMIT) as file:
            data = file.read()
        if is_image:
            return ImagePart(data=data, media_type=media_type)
        return FilePart(data=data, media_type=media_type, name=path.name)
    except OSError as error:
        raise MessageError(f"{path}: it cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise MessageError(f"{source}: {problems(error)}") from None
