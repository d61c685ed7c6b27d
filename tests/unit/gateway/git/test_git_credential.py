"""A Secret's data is one credential, or the message names the key and the remedy; nothing of it is told."""

import pytest
from cryptography.hazmat.primitives import serialization
from github_api import private_key
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.git.credentials.credential import (
    SECRET_KEYS,
    AppKey,
    CredentialError,
    Password,
    read_credential,
)

PRIVATE, PUBLIC = private_key()
_FORM = serialization.PublicFormat.SubjectPublicKeyInfo
PUBLIC_PEM = PUBLIC.public_bytes(serialization.Encoding.PEM, _FORM)
SHORT, _ = private_key(1024)
APP = {"app-id": b"12345", "installation-id": b"678\n", "private-key": PRIVATE.encode()}


@pytest.mark.parametrize(
    ("data", "header"),
    [
        ({"token": b"s3cret\n"}, "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"),
        ({"username": b"deploy", "password": b"p\xc3\xa4ss word: x"}, "Basic ZGVwbG95OnDDpHNzIHdvcmQ6IHg="),
        ({"token": b"s3cret", "ca.crt": b"anything"}, "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"),
    ],
)
def test_a_token_or_a_password(data: dict[str, bytes], header: str) -> None:
    found = read_credential(data)
    assert isinstance(found, Password)
    assert found.header() == header
    assert "s3cret" not in repr(found)


def test_the_key_of_an_app() -> None:
    found = read_credential(APP)
    assert found == AppKey("12345", 678, PRIVATE.strip())
    assert "PRIVATE" not in repr(found)
    assert isinstance(read_credential(APP | {"app-id": b"Iv23liAbC.9"}), AppKey)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "data: no credential is in it: write token or username and password or app-id and"),
        ({"api-key": b"x"}, "data: no credential is in it"),
        ({"username": b"x"}, "password: it is missing: username and password go together"),
        ({"password": b"x"}, "username: it is missing"),
        ({"app-id": b"1", "installation-id": b"2"}, "private-key: it is missing"),
        ({"token": b"s3cret", "password": b"x"}, "password: it is there beside token"),
        ({"token": b"s3cret", **APP}, "app-id: it is there beside token"),
        ({"token": b" \n"}, "token: it is empty"),
        ({"token": b"s3cret more"}, "token: it has characters"),
        ({"token": "s3crét".encode()}, "token: it has characters"),
        ({"token": b"s3cret\nx: y"}, "token: it is more than one line"),
        ({"token": b"\xff\xfes3cret"}, "token: it is no text"),
        ({"token": b"s3cret" * 4000}, "token: it has more than 16384 bytes"),
        ({"username": b"a:b", "password": b"x"}, "username: a name has no colon"),
        (APP | {"app-id": b"my app"}, "app-id: it has characters"),
        (APP | {"app-id": b"my/app"}, "app-id: write the App's number"),
        (APP | {"installation-id": b"-1"}, "installation-id: write the number"),
        (APP | {"installation-id": b"../678"}, "installation-id: write the number"),
        (APP | {"private-key": b"s3cret"}, "private-key: it is no private RSA key in PEM"),
        (APP | {"private-key": PUBLIC_PEM}, "private-key: it is a public key"),
        (APP | {"private-key": SHORT.encode()}, "private-key: it has less than 2048 bits"),
    ],
)
def test_what_is_none_is_told_with_the_remedy(data: dict[str, bytes], words: str) -> None:
    with pytest.raises(CredentialError) as caught:
        read_credential(data)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(SECRET_KEYS), st.binary(max_size=40)))
def test_whatever_is_in_it_what_goes_into_a_header_is_one_line(data: dict[str, bytes]) -> None:
    try:
        found = read_credential(data)
    except CredentialError:
        return
    assert isinstance(found, Password)
    assert found.header().isprintable()
    assert ":" not in found.user
