"""The parts of a prompt or message: text, images and files.

The bytes of a part are in the history once, where they came. A conversation names them by their SHA-256, and people are
shown size and digest.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PlainSerializer,
    Tag,
    field_validator,
    model_validator,
)

from assent.wire.digest import json_size, sha256_hex
from assent.wire.limits import FILE_NAME_LIMIT, INLINE_LIMIT, PARTS_COUNT, PARTS_LIMIT, PROMPT_LIMIT, URL_LIMIT
from assent.wire.text import one_line

IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""The media types of images that providers read."""
FILE_TYPES: Final[Mapping[str, str]] = {
    "application/pdf": "pdf",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/csv": "csv",
    "text/html": "html",
    "application/json": "json",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
}
"""The media types of files that providers read, each with the ending of a name."""
_BEGINNINGS: Final[Mapping[str, bytes]] = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
    "application/pdf": b"%PDF-",
}
"""The first bytes of images and of PDFs."""
HALF: Final = re.compile("[\ud800-\udfff]")
"""Half of a character, as some programs cut texts: no UTF-8 has it."""
TEXT: Final = "~text"
PARTS: Final = "~parts"
"""The kinds of content; errors do not name them."""
_FILE_ID: Final = re.compile(r"[!-~]{1,200}")
_URL: Final = re.compile(r"https://[!-~]+")
_SOURCES: Final = ("url", "file_id", "data")


def _from_base64(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise ValueError("it is not base64: the letters A-Z a-z 0-9 + / and no line breaks") from None


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_Bytes = Annotated[
    bytes, BeforeValidator(_from_base64), PlainSerializer(_to_base64, return_type=str, when_used="json-unless-none")
]


class Part(BaseModel):
    """A part of a prompt or message: a `TextPart`, an `ImagePart` or a `FilePart`."""

    # A wrong part of a message would otherwise be quoted with its bytes.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="after")
    def _says_its_type(self) -> Self:
        # What was not set is not written.
        self.model_fields_set.add("type")
        return self


class TextPart(Part):
    """Text, beside images and files.

    Raises:
        ValidationError: of pydantic; the text is empty, or has half a character.
    """

    type: Literal["text"] = "text"
    text: str

    @field_validator("text")
    @classmethod
    def _is_text(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("it is empty")
        if HALF.search(text):
            raise ValueError("it has half a character, which JSON cannot carry")
        return text


class _Media(Part):
    allowed: ClassVar[tuple[str, ...]] = ()

    url: str | None = None
    file_id: str | None = None
    data: _Bytes | None = Field(default=None, repr=False)
    media_type: str | None = None

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is None or (_URL.fullmatch(url) and len(url) <= URL_LIMIT):
            return url
        if url.startswith("data:"):
            raise ValueError("a data URL is not allowed: give the bytes as data, and their media_type")
        raise ValueError(f"it is not a URL of up to {URL_LIMIT} characters that begins with https://")

    @field_validator("file_id")
    @classmethod
    def _is_file_id(cls, file_id: str | None) -> str | None:
        if file_id is None or _FILE_ID.fullmatch(file_id):
            return file_id
        raise ValueError("a provider's file id has 1 to 200 letters, digits and signs")

    @field_validator("data")
    @classmethod
    def _is_small(cls, data: bytes | None) -> bytes | None:
        if data is not None and not 0 < len(data) <= PARTS_LIMIT:
            raise ValueError(f"it has {len(data)} bytes; it must have 1 to {PARTS_LIMIT}")
        return data

    @field_validator("media_type")
    @classmethod
    def _is_allowed(cls, media_type: str | None) -> str | None:
        if media_type is None or media_type in cls.allowed:
            return media_type
        raise ValueError(f"it is not one of {', '.join(cls.allowed)}")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        sources = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(sources) != 1:
            raise ValueError(f"give one of url, file_id and data, not {' and '.join(sources) or 'none'}")
        if self.data is not None and self.media_type is None:
            raise ValueError("data needs its media_type")
        # A provider refuses it at each later turn of a conversation too.
        if self.data is not None and not self.data.startswith(_BEGINNINGS.get(self.media_type or "", b"")):
            raise ValueError(f"data does not begin as {self.media_type} does")
        described = [name for name in ("media_type", "name") if getattr(self, name, None) is not None]
        if self.data is None and described:
            raise ValueError(f"{described[0]} goes with data; leave it out")
        return self


class ImagePart(_Media):
    """An image: an `https://` *url* that the provider fetches, its *file_id* at the provider, or its bytes as *data*.

    In JSON, *data* is base64. *media_type* goes with it: `image/png`, `image/jpeg`, `image/gif` or `image/webp`.

    Raises:
        ValidationError: of pydantic; it has no source or two, or one that does not fit.
    """

    allowed: ClassVar[tuple[str, ...]] = IMAGE_TYPES

    type: Literal["image"] = "image"


class FilePart(_Media):
    """A file, such as a PDF: an `https://` *url*, a *file_id* at the provider, or bytes as *data*, as of `ImagePart`.

    *media_type* goes with *data*: that of a PDF, of text, Markdown, CSV, HTML, JSON, or of an Office document. *name*
    is the file's, for the model.

    Raises:
        ValidationError: of pydantic; as `ImagePart`.
    """

    allowed: ClassVar[tuple[str, ...]] = tuple(FILE_TYPES)

    type: Literal["file"] = "file"
    name: str | None = None

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str | None) -> str | None:
        if name is not None and (not 0 < len(name) <= FILE_NAME_LIMIT or one_line(name) != name):
            raise ValueError(f"a name has 1 to {FILE_NAME_LIMIT} characters, all of which show")
        return name


class ServerText(str):
    """The text of a result of an MCP server: *images* that the model sees too, and the *whole* if that has more."""

    __slots__ = ("images", "whole")
    images: list[ImagePart]
    whole: str | None


Parts = Annotated[
    list[Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")]],
    Field(min_length=1, max_length=PARTS_COUNT),
    Tag(PARTS),
]


def kind_of(content: object) -> str:
    """Return whether content claims to be text or parts, for pydantic."""
    return PARTS if isinstance(content, list | tuple) else TEXT


Content = Annotated[Annotated[str, Tag(TEXT)] | Parts, Discriminator(kind_of)]
"""A text, or a list of parts."""


def content_json(content: str | Sequence[Part]) -> JsonValue:
    """Return content as JSON, with the bytes as base64."""
    if not isinstance(content, list | tuple):
        return cast("str", content)
    return [part.model_dump(mode="json", exclude_none=True) for part in content]


def content_problem(content: str | Sequence[Part]) -> str | None:
    """Return what is wrong with content of valid parts; None if nothing is."""
    if isinstance(content, str):
        return None
    size = sum(json_size(part.text) for part in content if isinstance(part, TextPart))
    if size > PROMPT_LIMIT:
        return f"its texts are {size} bytes long; the limit is {PROMPT_LIMIT}"
    size = sum(len(part.data) for part in _media(content) if part.data is not None)
    return f"its images and files have {size} bytes; the limit is {PARTS_LIMIT}" if size > PARTS_LIMIT else None


def inline_problem(content: JsonValue) -> str | None:
    """Return why content, as JSON, can go nowhere but into an external storage; None if it can."""
    if not isinstance(content, list) or (size := json_size(content)) <= INLINE_LIMIT:
        return None
    return (
        f"it is {size} bytes long as JSON; without an external storage (ASSENT_STORAGE) the limit is {INLINE_LIMIT}: "
        "give a URL, or a provider's file id"
    )


def _media(content: Sequence[Part]) -> list[_Media]:
    return [part for part in content if isinstance(part, _Media)]


# -- in a conversation ------------------------------------------------------------------------------------------------


def item_content(content: str | Sequence[Part]) -> JsonValue:
    """Return the content of the item of a conversation: as the Responses API has it, with digests for bytes."""
    return content if isinstance(content, str) else [_item_part(part) for part in content]


def _item_part(part: Part) -> dict[str, JsonValue]:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    if not isinstance(part, _Media):
        raise TypeError(type(part).__name__)
    kind = "file" if isinstance(part, FilePart) else "image"
    item: dict[str, JsonValue] = {"type": f"input_{kind}"}
    if part.file_id is not None:
        item["file_id"] = part.file_id
    elif part.url is not None:
        item[f"{kind}_url"] = part.url
    elif part.data is not None:
        item |= {"media_type": part.media_type, "size": len(part.data), "sha256": sha256_hex(part.data)}
        if isinstance(part, FilePart):
            item["filename"] = part.name or f"file.{FILE_TYPES[part.media_type or '']}"
    return item


def attachments_of(content: str | Sequence[Part]) -> dict[str, str]:
    """Return the bytes of content as base64, by their SHA-256 in hex."""
    if isinstance(content, str):
        return {}
    return {sha256_hex(part.data): _to_base64(part.data) for part in _media(content) if part.data is not None}


def digests_of(items: Sequence[Mapping[str, JsonValue]]) -> Iterator[str]:
    """Yield the SHA-256 of the bytes that the items of a conversation name."""
    for item in items:
        content = item.get("content") if item.get("role") == "user" else item.get("images")
        if isinstance(content, list):
            yield from (str(part["sha256"]) for part in content if isinstance(part, dict) and "sha256" in part)


def content_text(content: JsonValue) -> str:
    """Return the content of an item for people: texts as they are, each image or file by what it is, in brackets."""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "\n\n".join(text for part in parts if (text := _part_text(part)))


def _part_text(part: Mapping[str, JsonValue]) -> str:
    text = part.get("text") or part.get("refusal")
    kind = str(part.get("type")).removeprefix("input_")
    if isinstance(text, str) or kind not in {"image", "file"}:
        return text if isinstance(text, str) else ""
    facts = [part.get("filename"), part.get("media_type"), part.get(f"{kind}_url")]
    facts_shown = [str(each) for each in facts if each is not None]
    if "file_id" in part:
        facts_shown.append(f"file id {part['file_id']}")
    if "sha256" in part:
        facts_shown += [f"{part.get('size')} bytes", f"SHA-256 {part['sha256']}"]
    return f"[{kind}: {', '.join(facts_shown)}]"


def readable(content: str | Sequence[Part]) -> str:
    """Return content for people; see `content_text`."""
    return content_text(item_content(content))


# -- what arrived -----------------------------------------------------------------------------------------------------


def without_bytes(body: object) -> object:
    """Return the JSON of a request or message, valid or not, with size and digest for the bytes in it."""
    if not isinstance(body, dict):
        return body
    fields = dict(cast("dict[str, object]", body))
    for name in fields.keys() & {"input", "content", "images"}:
        value = fields[name]
        if isinstance(value, list):
            fields[name] = [_elided(each) for each in cast("list[object]", value)]
        else:
            fields[name] = _elided(value)
    return fields


def _elided(part: object) -> object:
    if not isinstance(part, dict):
        return part
    fields = cast("dict[str, object]", part)
    data = fields.get("data")
    if not isinstance(data, str):
        return fields
    try:
        decoded = base64.b64decode(data, validate=True)
    except ValueError:
        return {**fields, "data": f"[{len(data)} characters that are no base64]"}
    return {**fields, "data": f"[{len(decoded)} bytes, SHA-256 {sha256_hex(decoded)}]"}


def payload_text(data: bytes) -> bytes:
    """Return the JSON text of a payload as it is, or with `without_bytes` if it has parts with bytes."""
    if b'"data"' not in data:
        return data
    try:
        document = cast("object", json.loads(data))
    except (ValueError, RecursionError):
        return data
    shown = without_bytes(document)
    return data if shown == document else json.dumps(shown, ensure_ascii=False).encode("utf-8", "surrogatepass")
