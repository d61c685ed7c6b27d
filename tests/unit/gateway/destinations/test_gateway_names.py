"""Names, patterns and addresses: one spelling for each name, and nothing dialled that is not public."""

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.destinations.addresses import AddressRules, parse_address, refusal, refusal_of_any
from claude_sandbox.gateway.destinations.domains import PatternError, Way, decide, parse_pattern
from claude_sandbox.gateway.destinations.names import NotANameError, normalise

LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20).filter(lambda text: not text.isdigit())
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join).filter(lambda name: name.rpartition(".")[2][:2] != "0x")


@given(NAME)
def test_case_and_the_root_dot_make_no_other_name(name: str) -> None:
    assert normalise(name) == normalise(name.upper() + ".") == normalise(normalise(name))


@pytest.mark.parametrize(
    ("text", "name"),
    [("Bücher.Example", "xn--bcher-kva.example"), ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
     ("\uff45xample.org", "example.org"), ("a_b.example.org", "a_b.example.org")],
)  # fmt: skip
def test_one_spelling(text: str, name: str) -> None:
    assert normalise(text) == name


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", ".a.b", "a.b..", "-a.org", "a-.org", "a b.org", "a.org\0.evil.org", "a.org/", "a@b.org",
     "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "1.2.3.0x7f", "x" * 64 + ".org", "a." * 127 + "ab",
     "\uff11\uff12\uff17.0.0.1",
     "[::1]", "::1", "*.org", "a%2eorg", "ex\u00adample..org"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(NotANameError):
        normalise(text)


@given(NAME, LABEL)
def test_a_wildcard_is_for_what_is_below_it_alone(name: str, label: str) -> None:
    pattern = parse_pattern(f"*.{name}", local=True)
    assert pattern.allows(f"{label}.{name}", 443, Way.TUNNEL)
    assert pattern.allows(f"x.{label}.{name}", 443, Way.TUNNEL)
    assert not pattern.allows(name, 443, Way.TUNNEL)
    assert not pattern.allows(f"{label}{name}", 443, Way.TUNNEL)
    assert not pattern.allows(f"{label}.{name}.evil.org", 443, Way.TUNNEL)


@pytest.mark.parametrize(
    "text",
    ["*", "*.", "*.org", "*.co.uk", "*.github.io", "a.*.org", "*x.org", "**.example.org", "*.*.example.org",
     "localhost", "kubernetes.default.svc", "x.cluster.local", "metadata.google.internal", "10.0.0.1", "10.0.0.1:443",
     "[::1]:443",
     "::1", "example.org:0", "example.org:65536", "example.org:x", "example.org:", "http://example.org",
     "2.in-addr.arpa", "x.onion"],
)  # fmt: skip
def test_patterns_that_are_refused(text: str) -> None:
    with pytest.raises(PatternError):
        parse_pattern(text)


def test_ports() -> None:
    plain, other = parse_pattern("example.org"), parse_pattern("example.org:8443")
    assert [plain.allows("example.org", port, Way.TUNNEL) for port in (443, 80, 22)] == [True, False, False]
    assert [plain.allows("example.org", port, Way.HTTP) for port in (443, 80, 22)] == [False, True, False]
    assert [other.allows("example.org", port, Way.TUNNEL) for port in (8443, 443)] == [True, False]


def test_what_the_administrator_denies_is_denied_below_and_beside_what_is_allowed() -> None:
    allowed, denied = (
        [parse_pattern("*.example.org"), parse_pattern("a.example.org:22", opaque=True)],
        [parse_pattern("*.bad.example.org")],
    )
    assert decide("x.example.org", 443, Way.TUNNEL, allowed, denied).rule == "allowed: *.example.org"
    assert decide("x.bad.example.org", 443, Way.TUNNEL, allowed, denied).rule == "denied: *.bad.example.org"
    assert decide("a.example.org", 22, Way.TUNNEL, allowed, denied).opaque
    assert not decide("a.example.org", 443, Way.TUNNEL, allowed, denied).opaque


_NOT_DIALLED = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.8.9.1 169.254.1.1 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
240.0.0.1 255.255.255.255 100.100.100.200 168.63.129.16 :: ::1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd00:ec2::254
fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 ff02::1 2001:db8::1 3fff::1 100::1 64:ff9b:1::1 64:ff9b::127.0.0.1
64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::ffff:169.254.169.254 ::127.0.0.1 ::8.8.8.8
::ffff:0:127.0.0.1 2002:7f00:1:: 2002:0808:0808:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:7f00:1::
2606:4700::5efe:127.0.0.1 2606:4700::200:5efe:10.0.0.1
"""
REFUSED = _NOT_DIALLED.split()


@pytest.mark.parametrize("text", REFUSED)
def test_addresses_that_are_not_dialled(text: str) -> None:
    assert refusal(parse_address(text), AddressRules()) is not None


@pytest.mark.parametrize("text", ["8.8.8.8", "140.82.121.3", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_addresses_that_are(text: str) -> None:
    assert refusal(parse_address(text), AddressRules()) is None


@given(st.ip_addresses())
def test_nothing_is_dialled_that_the_standard_library_does_not_call_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global and getattr(address, "ipv4_mapped", None) is None:
        assert refusal(address, AddressRules()) is not None


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_like_the_one_inside(inner: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(f"::ffff:{inner}")
    assert refusal(mapped, AddressRules()) == refusal(inner, AddressRules())


def test_an_opened_network_opens_itself_but_never_what_serves_metadata() -> None:
    rules = AddressRules(opened=[ipaddress.ip_network(text) for text in ("0.0.0.0/0", "::/0")])
    assert refusal(parse_address("10.0.0.1"), rules) is None
    assert refusal(parse_address("127.0.0.1"), rules) is None
    for text in ("169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "168.63.129.16"):
        assert refusal(parse_address(text), rules) == "metadata service"


def test_a_refused_network_is_refused_inside_what_is_opened_and_inside_ipv6() -> None:
    rules = AddressRules(
        [ipaddress.ip_network("10.0.0.0/8")], [ipaddress.ip_network("10.96.0.0/12"), ipaddress.ip_network("8.8.0.0/16")]
    )
    assert refusal(parse_address("10.1.0.1"), rules) is None
    for text in ("10.96.0.1", "8.8.8.8", "::ffff:10.96.0.1", "64:ff9b::8.8.8.8"):
        assert refusal(parse_address(text), rules) == "refused network"


def test_one_bad_answer_refuses_all() -> None:
    answers = [parse_address(text) for text in ("8.8.8.8", "2606:4700::1111", "127.0.0.1")]
    assert refusal_of_any(answers, AddressRules()) == "loopback"
    assert refusal_of_any(answers[:2], AddressRules()) is None
