"""Users of the local directory in a CSV file."""

import re
from collections.abc import Collection, Iterator

from radius_mfa.errors import Refused
from radius_mfa.imports import columns, text
from radius_mfa.imports.rows import Fault, Parsed, UserRow, subject
from radius_mfa.policy.groups import group_key, unfit_group
from radius_mfa.policy.identity import InvalidUserNameError, canonical_user
from radius_mfa.policy.mail_address import InvalidMailAddressError, mail_address
from radius_mfa.policy.new_device import Finding

COLUMNS = {
    "user": ("user", "user name", "login", "name", "uid", "sam account name"),
    "password_hash": ("password hash", "hash", "hashed password"),
    "password": ("password",),
    "suspended": ("suspended", "disabled", "locked"),
    "groups": ("groups", "group"),
    "mail": ("mail", "e-mail", "email", "mail address", "email address"),
}
"""What a column is called in messages, and the headings that mean it."""

_TRUTH = {
    **dict.fromkeys(("yes", "true", "1", "x", "y"), True),
    **dict.fromkeys(("no", "false", "0", "n"), False),
}

MAX_HASH_CHARACTERS = 255
MAX_HASH_WORK_KIB = 1_048_576
"""Memory times passes of a hash: about a second of one core, for every login."""

_ARGON2ID = re.compile(
    r"\$argon2id\$v=(?:16|19)\$m=(?P<memory>[1-9]\d{0,9}),t=(?P<passes>[1-9]\d{0,9}),p=[1-9]\d{0,2}"
    r"\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}"
)

_OTHER_HASHES = {
    r"\$2[abxy]?\$": "bcrypt",
    r"\$1\$": "md5crypt",
    r"\$apr1\$": "Apache's MD5",
    r"\$5\$": "sha256crypt",
    r"\$6\$": "sha512crypt",
    r"\$(?:y|gy)\$": "yescrypt",
    r"\$7\$|\$scrypt\$": "scrypt",
    r"\$pbkdf2|pbkdf2_": "PBKDF2",
    r"\$argon2[di]\$": "argon2d or argon2i",
    r"\{[A-Za-z0-9-]+\}": "LDAP",
    r"[0-9A-Fa-f]{32}\Z": "MD5 or NT",
    r"[0-9A-Fa-f]{40}\Z": "SHA-1",
    r"[0-9A-Fa-f]{64}\Z": "SHA-256",
    r"[0-9A-Fa-f]{128}\Z": "SHA-512",
}
_TAKEN = "argon2id hashes alone can be taken over ($argon2id$v=19$...)"
_NEW_ONE = "give the user a new password, in a column password, or by radius-mfa user passwd"


def parse(octets: bytes, realms: Collection[str] = ()) -> Parsed[UserRow]:
    """Return the users in a CSV file with a heading row.

    Raises Refused where the file can't be read at all.
    """
    file, parsed = text.decoded(octets), Parsed[UserRow]()
    rows = text.records(file.text)
    number, heading = next(rows, (0, []))
    where = columns.named(heading, COLUMNS)
    if "user" not in where or not {"password", "password_hash"} & set(where):
        raise Refused(
            "the first row must name the columns: user, and password_hash or password",
            "begin the file with a line such as: user,password_hash",
        )
    parsed.losses += _unread(number, heading, where)
    if file.guessed:
        parsed.losses.append(
            Fault("file", "", "it is not UTF-8, so it was read as Windows-1252", "check the names")
        )
    first_place: dict[str, str] = {}
    for number, cells in rows:
        place = f"row {number}"
        row = {name: columns.cell(cells, where, name) for name in where}
        row = {name: cell if name == "password" else cell.strip() for name, cell in row.items()}
        found = list(_faults(row, width=len(heading), cells=len(cells)))
        try:
            user = canonical_user(row["user"], realms)
        except InvalidUserNameError as error:
            user = ""
            found.append((str(error), "correct the name"))
        if user and user in first_place:
            found.append((f"the same user as in {first_place[user]}", "leave one of them"))
        first_place.setdefault(user, place)
        shown = subject(row["user"])
        parsed.faults += [Fault(place, shown, what, cure) for what, cure in found]
        if not found:
            parsed.rows.append(
                UserRow(
                    place,
                    user,
                    row.get("password_hash") or None,
                    row.get("password") or None,
                    _TRUTH.get(row.get("suspended", "").lower()),
                    _groups(row["groups"]) if "groups" in row else None,
                    mail_address(row["mail"]) if row.get("mail") else None,
                )
            )
    if not parsed.rows and not parsed.faults:
        raise Refused("the file holds no user", "one user a row, below the headings")
    return parsed


def _unread(number: int, heading: list[str], where: dict[str, int]) -> Iterator[Fault]:
    for at, cell in enumerate(heading):
        if cell and at not in where.values():
            known = ", ".join(COLUMNS)
            what = f"the column {subject(cell)} is not read"
            yield Fault(f"row {number}", "", what, f"columns are: {known}")


def _faults(row: dict[str, str], *, width: int, cells: int) -> Iterator[Finding]:
    if cells > width:
        yield f"{cells} cells, but {width} headings", "put cells that hold the separator in quotes"
        return
    password, password_hash = row.get("password"), row.get("password_hash")
    if password and password_hash:
        yield "both a password and a hash", "leave one of them"
    if not password and not password_hash:
        yield "neither a password nor a hash", "give one of them"
    if password_hash:
        yield from unfit_hash(password_hash)
    if row.get("suspended", "").lower() not in ("", *_TRUTH):
        yield "suspended is neither yes nor no", "write yes, no, or nothing"
    for group in _groups(row.get("groups", "")):
        why = unfit_group(group)
        if why:
            yield why, "correct the group"
    try:
        mail_address(row.get("mail") or "nobody@example.com")
    except InvalidMailAddressError as error:
        yield str(error), "correct the address, or leave it out"


def _groups(cell: str) -> tuple[str, ...]:
    """Return the groups in a cell, which semicolons separate, each once."""
    names = [name.strip() for name in cell.split(";")]
    return tuple({group_key(name): name for name in reversed(names) if name}.values())[::-1]


def unfit_hash(password_hash: str) -> Iterator[Finding]:
    """Yield why a password hash can't be taken over; nothing where it can."""
    if not password_hash.startswith("$argon2id$"):
        kind = next((k for p, k in _OTHER_HASHES.items() if re.match(p, password_hash)), "")
        yield f"a hash of {'kind ' + kind if kind else 'no known kind'}: {_TAKEN}", _NEW_ONE
        return
    form = _ARGON2ID.fullmatch(password_hash)
    if form is None:
        yield "the argon2id hash is damaged", "export it again, whole"
        return
    if len(password_hash) > MAX_HASH_CHARACTERS:
        yield f"the hash is longer than {MAX_HASH_CHARACTERS} characters", _NEW_ONE
    if int(form["memory"]) * int(form["passes"]) > MAX_HASH_WORK_KIB:
        yield "checking the hash would take more than a second of every login", _NEW_ONE
