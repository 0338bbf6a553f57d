"""config/radius-mfa.toml: every setting with its default, and what commands do to it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from pydantic import BaseModel

from radius_mfa.app import nas
from radius_mfa.cli.client import client_block
from radius_mfa.cli.client_file import with_client, without_client
from radius_mfa.cli.init import configuration_text, default_text
from radius_mfa.config import (
    ClientSettings,
    DirectorySettings,
    LdapDirectorySettings,
    RuleSettings,
    Settings,
)
from radius_mfa.config_file import load
from radius_mfa.config_words import section_of
from radius_mfa.errors import Refused

TEXT = (Path(__file__).parents[2] / "config" / "radius-mfa.toml").read_text("utf-8")
UNCOMMENTED = re.sub(r"^#(?=[\[a-z])", "", TEXT, flags=re.MULTILINE)


def settings_of(text: str, folder: Path) -> Settings:
    path = folder / "r.toml"
    path.write_text(text, "utf-8")
    return load(path, {}).settings


def test_the_file_that_init_writes_is_this_one() -> None:
    assert default_text() == TEXT


def test_it_loads_and_is_the_defaults(tmp_path: Path) -> None:
    assert settings_of(TEXT, tmp_path) == Settings()


def test_uncommented_it_is_still_the_defaults(tmp_path: Path) -> None:
    """Every value that is shown is the default, and the examples of lists are such."""
    known = settings_of(UNCOMMENTED, tmp_path)
    [ldap] = known.directory.ldap
    bare_ldap = LdapDirectorySettings(
        **ldap.model_dump(include={"name", "preset", "servers", "base"})
    )
    assert ldap == bare_ldap
    local = DirectorySettings(local=known.directory.local)
    [rule] = known.rule
    assert rule.model_copy(update={"mfa": None}) == RuleSettings(name=rule.name)
    assert known.model_copy(update={"client": [], "rule": [], "directory": local}) == Settings()
    [client] = known.client
    bare = ClientSettings(name=client.name, address=client.address, secret=client.secret)
    assert nas(client, known) == nas(bare, known)


def names(table: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for name, value in table.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict) and inner:
                found |= names(inner, f"{path}{name}.")
                break
        else:
            found.add(f"{path}{name}")
    return found


def names_of(model: type[BaseModel], path: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        section = section_of(field)
        found |= names_of(section, f"{path}{name}.") if section else {f"{path}{name}"}
    return found


def test_no_setting_is_missing_or_invented() -> None:
    assert names(tomllib.loads(UNCOMMENTED)) == names_of(Settings)


def test_every_setting_is_explained_and_no_line_is_too_long() -> None:
    """Above each setting, or a few that belong together, stands a comment."""
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        assert len(line) <= 100
        if re.match(r"#?[a-z_]+ = ", line):
            above = lines[number - 1]
            assert above.startswith("#"), f"line {number + 1} is not explained: {line}"


def test_init_puts_the_data_folder_in_and_keeps_every_comment() -> None:
    text = configuration_text({"data_folder": "/srv/a 'b'"})
    changed = [
        (old, new)
        for old, new in zip(TEXT.splitlines(), text.splitlines(), strict=True)
        if old != new
    ]
    [(old, new)] = changed
    assert old == 'data_folder = "/var/lib/radius-mfa"'
    assert tomllib.loads(new) == {"data_folder": "/srv/a 'b'"}


def test_the_demo_s_changes_leave_it_readable() -> None:
    """What `radius-mfa demo` does to it by tomlkit: an address put in, a client added."""
    document = tomlkit.parse(TEXT)
    document["radius"]["listen"] = ["127.0.0.1:0"]
    document["client"] = tomlkit.aot()
    document["client"].append(client_block("localhost", ["127.0.0.1"], "s"))
    text = tomlkit.dumps(document)
    expected = TEXT.replace('["0.0.0.0:1812", "[::]:1812"]', '["127.0.0.1:0"]', 1)
    block = '[[client]]\nname = "localhost"\naddress = "127.0.0.1"\nsecret = "s"\n'
    assert text.startswith(expected)
    assert text.removeprefix(expected).lstrip("\n") == block
    assert without_client(text, "localhost") == expected


# Clients come and go


def block(name: str, *addresses: str) -> Any:
    return client_block(name, list(addresses), "s3cret")


def test_a_client_is_added_at_the_end_as_a_block() -> None:
    text = with_client(with_client(TEXT, block("a", "192.0.2.1")), block("b", "10.0.0.0/8", "::1"))
    assert text == TEXT + (
        '\n[[client]]\nname = "a"\naddress = "192.0.2.1"\nsecret = "s3cret"\n'
        '\n[[client]]\nname = "b"\naddress = ["10.0.0.0/8", "::1"]\nsecret = "s3cret"\n'
    )


def test_what_was_added_last_is_removed_without_a_trace() -> None:
    text = with_client(TEXT, block("a", "192.0.2.1"))
    assert without_client(with_client(text, block("b", "::1")), "b") == text
    assert without_client(text, "a") == TEXT


@pytest.mark.parametrize("before", ["", "\n\n", 'data_folder = "x"', "# a comment\n\n\n"])
def test_a_client_is_added_to_any_file(before: str) -> None:
    text = with_client(before, block("a", "::1"))
    assert tomllib.loads(text)["client"] == [{"name": "a", "address": "::1", "secret": "s3cret"}]
    assert text.startswith(before.strip())
    assert "\n\n\n" not in text


COMMENTED = """\
[radius]
listen = ["0.0.0.0"] # everywhere

# The head office,
# two gateways.
[[client]] # Cisco
name = "hq"
address = [
  "192.0.2.1", # first
  "192.0.2.2", # second
]
secret = "a"
#limit_proxy_state = true

# The branch.
[[client]]
name = "branch"
address = "10.0.0.1"
secret = "b"
# not yet: status_server = false
# [[client]]

# Logging.
[log]
level = "debug"

[[client]]
name = "last"
address = "10.0.0.2"
secret = "c"
"""

WITHOUT = {
    "hq": (
        '[radius]\nlisten = ["0.0.0.0"] # everywhere\n\n# The branch.\n[[client]]\n',
        ("head office", "gateways", "Cisco", "192.0.2", "limit_proxy_state"),
    ),
    "branch": (
        '#limit_proxy_state = true\n\n# Logging.\n[log]\nlevel = "debug"\n\n[[client]]\n',
        ("The branch", "10.0.0.1", "not yet", "# [[client]]"),
    ),
    "last": (
        '# Logging.\n[log]\nlevel = "debug"\n',
        ("10.0.0.2",),
    ),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_client_goes_with_its_own_comments_and_no_others(name: str) -> None:
    kept, gone = WITHOUT[name]
    text = without_client(COMMENTED, name)
    assert kept in text
    assert not [word for word in gone if word in text]
    before, after = tomllib.loads(COMMENTED), tomllib.loads(text)
    before["client"] = [one for one in before["client"] if one["name"] != name]
    assert after == before


def test_a_comment_that_goes_on_from_a_setting_stays_with_it() -> None:
    before = '[log]\nlevel = "debug"\n# the least severe\n'
    text = before + '[[client]]\nname = "a"\naddress = "::1"\nsecret = "x"\n'
    assert without_client(text, "a") == before


def test_a_list_of_inline_tables_is_edited_as_one() -> None:
    text = '# all\nclient = [ { name = "a", address = "::1", secret = "x" } ] # here\n[log]\n'
    more = with_client(text, block("b", "::2"))
    assert [one["name"] for one in tomllib.loads(more)["client"]] == ["a", "b"]
    less = without_client(more, "a")
    assert [one["name"] for one in tomllib.loads(less)["client"]] == ["b"]
    assert less.startswith("# all\nclient = [")
    assert less.endswith("[log]\n")


def test_a_client_of_the_environment_is_not_removed_from_the_file() -> None:
    with pytest.raises(Refused, match="set in the environment"):
        without_client(TEXT, "nobody")
