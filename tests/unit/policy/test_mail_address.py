"""Mail addresses: hostile ones are refused before they are anywhere near a header."""

import pytest

from radius_mfa.policy.mail_address import InvalidMailAddressError, mail_address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@corp.example",
        "alice@",
        "alice@corp..example",
        "alice@-corp.example",
        "alice@corp_.example",
        "alice@[192.0.2.1]",
        "a@b@corp.example",
        "al ice@corp.example",
        "alice@corp.example\r\nBcc: mallory@evil.example",
        "alice\n@corp.example",
        "alice@corp.example, mallory@evil.example",
        "alice <alice@corp.example>",
        '"alice"@corp.example',
        ".alice@corp.example",
        "alice.@corp.example",
        "al..ice@corp.example",
        "al\u202eice@corp.example",
        "al\x00ice@corp.example",
        f"{'a' * 65}@corp.example",
        f"alice@{'a' * 64}.example",
        f"alice@{'corp.' * 60}example",
    ],
)
def test_what_is_no_single_plain_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidMailAddressError) as refused:
        mail_address(text)
    assert "mallory" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" alice@corp.example\n", "alice@corp.example"),
        ("alice+vpn@localhost", "alice+vpn@localhost"),
        ("O'Brien!#$%&*/=?^_`{|}~-@a-b.example", "O'Brien!#$%&*/=?^_`{|}~-@a-b.example"),
        ("jo\u0308rg@bu\u0308ro.example", "jörg@büro.example"),
    ],
)
def test_addresses_that_servers_take_are_kept_in_one_form(text: str, address: str) -> None:
    assert mail_address(text) == address
