"""What may be given as a document, and how what may not is refused."""

import json

import pytest
from compliant_container import compliant

from claude_sandbox.compliance.containers.inspected import DocumentError, parse

CONTAINER = compliant().container
NETWORK = compliant().networks[0]
VOLUME = {"Name": "x", "Driver": "local", "Mountpoint": "/var/lib/docker/volumes/x/_data", "Options": None}
IMAGE = {"Id": "sha256:1", "RepoTags": ["x:1"], "RepoDigests": [], "RootFS": {"Type": "layers"}, "Config": {}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([CONTAINER]),
        json.dumps(CONTAINER),
        json.dumps([CONTAINER], indent=4) + "\n",
        "\ufeff" + json.dumps([CONTAINER]),
    ],
    ids=["a list", "an object", "as docker inspect prints it", "as PowerShell saves it"],
)
def test_a_container_is_found_however_it_is_written(text: str) -> None:
    assert parse(text).containers == (CONTAINER,)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([CONTAINER, NETWORK, VOLUME, CONTAINER]),
        json.dumps([CONTAINER, CONTAINER]) + "\n" + json.dumps([NETWORK]) + json.dumps([VOLUME]),
        "\n".join(map(json.dumps, (NETWORK, CONTAINER, VOLUME, CONTAINER))),
    ],
    ids=["one list", "the output of several commands", "one object a line"],
)
def test_several_documents_are_told_apart(text: str) -> None:
    found = parse(text)
    assert found.containers == (CONTAINER, CONTAINER)
    assert found.networks == (NETWORK,)
    assert found.volumes == (VOLUME,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no document of a container"),
        ("[]", "docker inspect found none"),
        ("services: {agent: {image: x}}", "not JSON (line 1"),
        (json.dumps([CONTAINER])[:-20], "not JSON"),
        ('"text"', "a text where an object belongs"),
        ("[[]]", "where an object belongs"),
        ("[null]", "null where an object belongs"),
        ("{}", "document 1 is neither of a container"),
        (json.dumps([CONTAINER, IMAGE]), "document 2 is an image"),
        (json.dumps(NETWORK), "there is no container, only a network"),
        (json.dumps(VOLUME), "there is no container, only a volume"),
        (json.dumps({"Id": "1", "Names": ["/x"], "ImageID": "", "HostConfig": {"NetworkMode": "x"}}), "the summary of"),
        (json.dumps(CONTAINER | {"OCIConfigPath": "/x", "EffectiveCaps": []}), "of Podman"),
        (json.dumps(CONTAINER | {"ImageName": "x", "Pod": ""}), "of Podman"),
        (json.dumps(CONTAINER | {"HostsPath": "/run/containers/storage/overlay-containers/1/hosts"}), "of Podman"),
        (json.dumps(CONTAINER | {"AppArmorProfile": "containers-default-0.57.4"}), "of Podman"),
        (json.dumps(CONTAINER | {"NetworkSettings": {"SandboxKey": "/run/netns/netns-1"}}), "of Podman"),
        (json.dumps(CONTAINER | {"Config": {"Labels": {"nerdctl/namespace": "default"}}}), "of nerdctl"),
        (json.dumps({"apiVersion": "v1", "kind": "Pod"}), "a Kubernetes Pod; for a pod use: claude-sandbox check pod"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_container_is_refused_with_what_it_is(text: str, why: str) -> None:
    with pytest.raises(DocumentError) as refused:
        parse(text)
    assert why in str(refused.value)


def test_every_refusal_says_what_to_do() -> None:
    for text in ("", "{}", "x", "[1]", json.dumps(IMAGE), json.dumps(NETWORK)):
        with pytest.raises(DocumentError, match="docker inspect NAME"):
            parse(text)


def test_a_refusal_does_not_repeat_the_document() -> None:
    with pytest.raises(DocumentError) as refused:
        parse('{"ANTHROPIC_API_KEY": sk-ant-api03-secret}')
    assert "sk-ant" not in str(refused.value)
