"""What builds software fetches by the gateway, told of it only by what the operator sets in a sandbox, and without a
password: cargo, Java by itself, Maven, Gradle, Node's own `fetch`; and curl by each spelling of the variables alone.
"""

import hashlib
import subprocess
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from client_lab import Lab, needs, sandbox_lab
from clients_image import node_and_npm
from published_packages import ARTIFACT, NAME, POM, cargo, maven

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

EMPTY = f"0 {hashlib.sha256().hexdigest()}"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with sandbox_lab(tmp_path) as found:
        yield found


@needs("curl")
async def test_each_spelling_of_the_variables_by_itself(lab: Lab) -> None:
    for way, name in (("secure", "HTTPS_PROXY"), ("secure", "https_proxy"), ("plain", "http_proxy")):
        url = f"{getattr(lab, way)}/digest"
        alone = ("env", "-i", f"{name}={lab.environment[name]}", "curl", "-sS", "--cacert", str(lab.trust.bundle), url)
        found = await lab.run(*alone)
        assert (found.stdout.strip(), found.stderr) == (EMPTY, ""), name


@needs("cargo")
async def test_cargo_fetches_a_crate(lab: Lab) -> None:
    cargo(lab.files, f"{lab.secure}/files")
    (lab.home / "src").mkdir()
    (lab.home / "src/lib.rs").touch()
    (lab.home / "Cargo.toml").write_text(
        f'[package]\nname = "here"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\n{NAME} = {{ version = "1", registry = "here" }}\n'
    )
    (lab.home / ".cargo").mkdir()
    (lab.home / ".cargo/config.toml").write_text(
        f'[registries.here]\nindex = "sparse+{lab.secure}/files/index/"\n[http]\ncainfo = "{lab.trust.bundle}"\n'
    )
    rustup = {"RUSTUP_HOME": lab.environment.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}
    found = await lab.run("cargo", "fetch", "--quiet", **rustup)
    assert found.returncode == 0, found.stderr
    assert list((lab.home / ".cargo/registry/cache").glob(f"*/{NAME}-1.0.0.crate"))
    assert {line["verdict"] for line in await lab.gateway.audited(1)} == {"Allowed"}


JAVA = """
import java.net.*; import java.net.http.*;
public class Fetch {
  public static void main(String[] urls) throws Exception {
    for (String url : urls) {
      System.out.print(new String(new URL(url).openStream().readAllBytes()));
      var request = HttpRequest.newBuilder(URI.create(url)).version(HttpClient.Version.HTTP_1_1).build();
      System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
  }
}
"""


def trusting(lab: Lab) -> list[str]:
    """Java's options to believe the CA of the test."""
    store = lab.home / "trust.p12"
    subprocess.run(
        ("keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", str(lab.trust.bundle), "-keystore", str(store),
         "-storetype", "PKCS12", "-storepass", "changeit"), check=True, capture_output=True,
    )  # fmt: skip
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]


@needs("javac")
async def test_java_by_both_of_its_clients(lab: Lab) -> None:
    (lab.home / "Fetch.java").write_text(JAVA)
    found = await lab.run("java", *trusting(lab), "Fetch.java", f"{lab.secure}/digest", f"{lab.plain}/digest")
    assert found.stdout.split("\n")[:-1] == [EMPTY] * 4, found.stderr


@needs("mvn")
async def test_maven_resolves_what_a_project_needs(lab: Lab) -> None:
    pom = maven(lab.files)
    (lab.home / "pom.xml").write_text(
        f"{POM}<parent>{ARTIFACT}<relativePath/></parent><artifactId>here</artifactId><packaging>pom</packaging>"
        f"<repositories><repository><id>here</id><url>{lab.secure}/files/maven</url></repository></repositories>"
        "</project>"
    )
    options = " ".join((*trusting(lab), f"-Duser.home={lab.home}"))
    found = await lab.run("mvn", "--batch-mode", "--quiet", "validate", MAVEN_OPTS=options)
    assert found.returncode == 0, found.stdout + found.stderr
    assert (lab.home / f".m2/repository/org/example/{NAME}/1.0" / pom.name).read_bytes() == pom.read_bytes()


@pytest.fixture
def gradle(needs_root: None, tmp_path: Path) -> str:
    """The distribution's, 4.4, which looks for itself where it is installed: it is there for the program alone."""
    try:
        root = ensure(Needed(("gradle",), ("gradle",)), print).root
    except LocalClusterError as error:
        pytest.skip(error.message)
    script = tmp_path / "gradle"
    there = f'mount -t overlay -o lowerdir={root}/usr:/usr own /usr && exec /usr/bin/gradle "$@"'
    script.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{there}' sh \"$@\"\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.slow
@needs("java")
async def test_gradle_resolves_what_a_build_needs_and_so_does_its_daemon(lab: Lab, gradle: str) -> None:
    with zipfile.ZipFile(maven(lab.files).with_suffix(".jar"), "w") as jar:
        jar.writestr("nothing", "")
    (lab.home / "settings.gradle").touch()
    (lab.home / "build.gradle").write_text(
        f"repositories {{ maven {{ url '{lab.secure}/files/maven' }} }}\n"
        f"configurations {{ wanted }}\ndependencies {{ wanted 'org.example:{NAME}:1.0' }}\n"
        "task fetch { doLast { println configurations.wanted.files } }\n"
    )
    # What is told to the program is not told to the daemon that does the work: that has it from its environment.
    (lab.home / "gradle.properties").write_text(f"org.gradle.jvmargs={' '.join(trusting(lab))}\n")
    own = {"GRADLE_USER_HOME": str(lab.home / ".gradle")}
    try:
        found = await lab.run(gradle, "--quiet", "fetch", **own)
        assert found.returncode == 0, found.stdout + found.stderr
        assert f"{NAME}-1.0.jar" in found.stdout
    finally:
        await lab.run(gradle, "--stop", **own)
    assert {line["verdict"] for line in await lab.gateway.audited(1)} == {"Allowed"}


@pytest.fixture(scope="session")
def node() -> Path:
    """A Node that knows proxies; the distribution's does not."""
    try:
        return node_and_npm() / "bin/node"
    except LocalClusterError as error:
        pytest.skip(error.message)


FETCH = """
(async () => {
  for (const url of process.argv.slice(1)) {
    process.stdout.write(await (await fetch(url)).text());
    const client = require(new URL(url).protocol.slice(0, -1));
    await new Promise((done, failed) => client.get(url, found => {
      found.on('end', done).pipe(process.stdout, {end: false});
    }).on('error', failed));
  }
})();
"""


async def test_nodes_own_fetch_and_its_https(lab: Lab, node: Path) -> None:
    found = await lab.run(str(node), "-e", FETCH, f"{lab.secure}/digest")
    assert found.stdout.split("\n")[:-1] == [EMPTY] * 2, found.stderr
