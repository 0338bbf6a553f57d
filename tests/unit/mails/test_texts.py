"""What mails say: readable in both forms, nothing hostile in either, overrides checked."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from radius_mfa.errors import ConfigurationError
from radius_mfa.mails.texts import Texts
from radius_mfa.policy.mail import Kind

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
PORTAL = "https://mfa.corp.example"
VALUES: dict[str, Any] = {
    "name": "alice",
    "service": "Corp VPN",
    "portal": PORTAL,
    "at": NOW,
    "now": NOW,
    "starts": NOW,
    "enrol_by": NOW + timedelta(days=7),
    "device": "phone",
    "codes_left": 3,
    "locked_until": "",
}
HOSTILE = "</p><script>alert(1)</script> {{ 7 * 7 }} \"'&\u2028x"


class _Page(HTMLParser):
    """What a reader of a page sees, and where its links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str | None] = []
        self.tags: set[str] = set()
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in {"style", "title"}
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"}]

    def handle_endtag(self, _tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data.split()


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts()


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "it holds none of them"),
        ({"text_toml": ""}, "text.toml is none of them"),
        ({"texts_toml": "x = "}, "texts.toml is not TOML"),
        ({"texts_toml": "[remind]\nsubject = ''"}, "there is no text remind"),
        ({"texts_toml": "[reminder]\ntitle = ''"}, "there is no text reminder.title"),
        ({"texts_toml": "[reminder]\nsubject = 1"}, "reminder.subject is not of the form"),
        ({"texts_toml": "months = ['Jan']"}, "months is not of the form"),
        ({"texts_toml": "reminder = 'x'"}, "reminder is not of the form"),
        ({"texts_toml": "[reminder]\nsubject = '{{ nmae }}'"}, "the mail reminder .*'nmae' is und"),
        ({"texts_toml": "[locked]\ntext = '{% if x %}'"}, "the mail locked can't be made"),
        ({"texts_toml": "moment = '{{ hour }}'"}, "can't be made: UndefinedError: 'hour'"),
        ({"layout_html": "{{ 1 / 0 }}"}, "can't be made: ZeroDivisionError"),
        ({"layout_txt": "{{ body }}"}, "'body' is undefined"),
    ],
)
def test_a_mistake_in_an_override_is_named_before_any_mail_is_due(
    tmp_path: Path, files: dict[str, str], what: str
) -> None:
    with pytest.raises(ConfigurationError, match=what) as refused:
        Texts(folder(tmp_path, **files))
    assert "docs/mail.md" in refused.value.cure


def test_a_folder_that_can_t_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        Texts(tmp_path / "none")
    (tmp_path / "layout.txt").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="it is not UTF-8 text"):
        Texts(tmp_path)


@pytest.mark.parametrize("kind", Kind)
def test_names_from_outside_are_text_in_both_forms(texts: Texts, kind: Kind) -> None:
    """No tag, no template and no new line comes out of a user's or a device's name."""
    hostile = dict.fromkeys(("name", "device", "service"), HOSTILE)
    plain, evil = texts.content(kind, VALUES), texts.content(kind, {**VALUES, **hostile})
    page = _Page(evil.html)
    assert page.tags == _Page(plain.html).tags
    assert "alert(1)" in " ".join(page.words)
    assert "49" not in evil.text
    assert len(evil.subject.splitlines()) == 1
    assert set(page.links) <= {PORTAL}


@pytest.mark.parametrize("portal", ["", PORTAL])
@pytest.mark.parametrize("kind", Kind)
def test_both_forms_say_the_same_and_link_to_the_portal_alone(
    texts: Texts, kind: Kind, portal: str
) -> None:
    content = texts.content(kind, {**VALUES, "portal": portal})
    page = _Page(content.html)
    unframed = re.sub(r"^-- $|:$", "", content.text, flags=re.MULTILINE).split()
    assert [word for word in page.words if word not in {"Corp", "VPN"}] == [
        word for word in unframed if word not in {"Corp", "VPN"}
    ]
    assert (PORTAL in content.text) == (PORTAL in page.links)
    assert not portal or kind in {Kind.LOCKED, Kind.TEST} or page.links == [PORTAL]
    assert all(len(line) <= 72 for line in content.text.splitlines())
    assert content.subject.startswith("Corp VPN: ")
    assert "  " not in content.text


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (Kind.REQUIRED, {}, "set it up by 22 January 2027 at"),
        (Kind.REQUIRED, {"starts": NOW + timedelta(days=1)}, "begins on 16 January 2027 at"),
        (Kind.REQUIRED, {"enrol_by": NOW}, "From now on you can no longer log in without it"),
        (Kind.REQUIRED, {"portal": ""}, "administrators will help you"),
        (Kind.RESET, {"enrol_by": NOW}, "log in again when you have set it up anew"),
        (Kind.RESET, {"enrol_by": ""}, "set it up anew at any time"),
        (Kind.RECOVERY_CODE_USED, {"codes_left": 1}, "one is left"),
        (Kind.RECOVERY_CODE_USED, {"codes_left": 0}, "none are left"),
        (Kind.LOCKED, {}, "until an administrator unlocks your account"),
        (Kind.LOCKED, {"locked_until": NOW}, "Until 15 January 2027 at"),
        (Kind.ENROLLED, {"codes_left": 0}, "Get recovery codes in the portal"),
    ],
)
def test_a_mail_says_what_holds_for_its_user(
    texts: Texts, kind: Kind, values: dict[str, Any], words: str
) -> None:
    content = texts.content(kind, {**VALUES, **values})
    assert words in " ".join(content.text.split())
    assert "\n\n\n" not in content.text, "no paragraph is empty"


def test_what_an_override_leaves_out_stays_as_it_is(tmp_path: Path) -> None:
    translated = """
        language = "de"
        moment = "{{ day }}. {{ month }} {{ year }}, {{ time }} Uhr"
        months = ["Januar", "Februar", "März", "April", "Mai", "Juni",
                  "Juli", "August", "September", "Oktober", "November", "Dezember"]
        greeting = "Hallo {{ name }},"
        [reminder]
        text = "Frist: {{ enrol_by | moment }} <b>"
    """
    layout = "<p>{{ paragraphs | join(' ') }}</p>"
    content = Texts(folder(tmp_path, texts_toml=translated, layout_html=layout)).content(
        Kind.REMINDER, VALUES
    )
    assert content.language == "de"
    assert content.html.startswith("<p>Hallo alice, Frist: 22. Januar 2027, ")
    assert content.html.endswith(" Uhr &lt;b&gt;</p>")
    assert "Set up my second factor:\nhttps://mfa.corp.example" in content.text
