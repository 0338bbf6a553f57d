"""XML without its dangers: no document type, so no entities, nothing fetched, a bounded depth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from radius_mfa.errors import Refused

MAX_DEPTH = 32


@dataclass(slots=True)
class Element:
    """An element; names are without namespace, which *namespace* holds."""

    name: str
    namespace: str
    attributes: dict[str, str]
    children: list["Element"] = field(default_factory=list)
    parts: list[str] = field(default_factory=list, repr=False)

    @property
    def text(self) -> str:
        """The text right inside, trimmed."""
        return "".join(self.parts).strip()

    def all(self, *path: str) -> Iterator["Element"]:
        """Yield every element at *path*, a name for each level."""
        for child in self.children:
            if child.name == path[0]:
                if len(path) == 1:
                    yield child
                else:
                    yield from child.all(*path[1:])

    def first(self, *path: str) -> "Element | None":
        """Return the first element at *path*, or None."""
        return next(self.all(*path), None)

    def text_at(self, *path: str) -> str:
        """Return the text at *path*, empty where there is none."""
        found = self.first(*path)
        return found.text if found else ""


class _Builder:
    """Takes the parser's events and keeps the tree."""

    def __init__(self) -> None:
        self.root = Element("", "", {})
        self._open = [self.root]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > MAX_DEPTH:
            raise Refused("the XML is nested too deeply to be a file of tokens")
        namespace, _, local = name.rpartition(" ")
        plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
        element = Element(local, namespace, plain)
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        self._open[-1].parts.append(data)


def parse(octets: bytes) -> Element:
    """Return the root element of *octets*; raises Refused for what is not plain, whole XML."""
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.buffer_text = True
    try:
        parser.Parse(octets, True)  # noqa: FBT003 - expat's signature
    except expat.ExpatError as error:
        raise Refused(f"line {error.lineno} is no XML", "is the file whole?") from None
    return builder.root.children[0]


def _refuse_document_type(*_declared: object) -> None:
    raise Refused(
        "the XML declares a document type, which a file of tokens has no use for",
        "where does the file come from? Remove <!DOCTYPE ...> if you trust it",
    )
