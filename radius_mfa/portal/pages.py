"""Templates to HTML."""

import hashlib
from datetime import UTC, datetime
from importlib import resources

import segno
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from radius_mfa.portal import texts

STATIC = resources.files("radius_mfa.portal") / "static"


def asset(name: str) -> str:
    """Return the path of a static file; a file that changes is another path to a browser."""
    return f"/static/{name}?v={_VERSIONS[name]}"


_VERSIONS = {
    one.name: hashlib.blake2b(one.read_bytes(), digest_size=6).hexdigest()
    for one in STATIC.iterdir()
}


def moment(when: datetime | float | None) -> str:
    """Return a moment as people read it, to the minute, in the server's own zone."""
    if when is None:
        return ""
    at = when if isinstance(when, datetime) else datetime.fromtimestamp(when, UTC)
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def ago(seconds: float) -> str:
    """Return a span of time in words, roughly."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def place(client: str) -> str:
    """Return where a login was, in words: the client's name, or which portal."""
    return texts.PLACES.get(client, client)


def qr_code(text: str) -> Markup | None:
    """Return a QR code as SVG, or None where *text* is too long for one."""
    try:
        code = segno.make(text, error="m", micro=False)
    except segno.DataOverflowError:
        return None
    svg = code.svg_inline(border=4, light="#fff", dark="#000", omitsize=True)
    return Markup(svg)  # noqa: S704 - of segno's making: coordinates, and nothing that was typed


def prose(text: str) -> Markup:
    """Return a sentence whose `words` in backticks are code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else Markup("{}").format(part)
        for at, part in enumerate(parts)
    )


_environment = Environment(
    loader=PackageLoader("radius_mfa.portal"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals |= {"asset": asset, "ERRORS": texts.ERRORS, "NOTICES": texts.NOTICES}
_environment.filters |= {"moment": moment, "ago": ago, "prose": prose, "place": place}
for _name in _environment.list_templates():
    _environment.get_template(_name)  # now, so that nobody's first page waits for it


def render(template: str, **context: object) -> str:
    """Return the HTML of *template*; what it is not given is an error."""
    return _environment.get_template(template).render(**context)


def fault_page(status: int, home: str, word: str = "") -> str:
    """Return the page that stands for a fault and leads *home*; *word* may name another text."""
    title, advice = texts.FAULTS.get(word) or texts.FAULTS.get(status, texts.FAULTS[500])
    return render("fault.html", title=title, advice=advice, status=status, home=home)
