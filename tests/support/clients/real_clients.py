"""Programs as they are, in a sandbox: how each is asked to fetch something, what it says then, and what of a name that
is not allowed.

They are told nothing of a proxy here: what is set in every sandbox has to do. They are told whom to believe, each in
its own way, since the server's certificate is by an authority of the test's.
"""

import hashlib
import shlex
from dataclasses import dataclass

from published_packages import ARTIFACT, MODULE, NAME, POM

ALLOWED, REFUSED = "packages.example.org", "elsewhere.example.org"
"""Names of one server; its sandboxes may reach the first."""
MEGABYTES = 32
"""Of a large request."""
STREAMS = 200

TRUST = "/workspace/ca.pem"
"""Where the authority's certificate is in the sandbox."""
_BELIEVES = (
    *("CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "SSL_CERT_FILE", "CARGO_HTTP_CAINFO", "NODE_EXTRA_CA_CERTS"),
    "npm_config_cafile",
)


@dataclass(frozen=True)
class Client:
    """`script` runs in an empty directory, with the server's two URLs in SECURE and PLAIN, and all that it says has to
    hold `says`. Of a name that is not allowed it says `refused`."""

    name: str
    script: str
    says: str
    refused: str

    def __str__(self) -> str:
        return self.name

    def command(self, host: str, secure: int, plain: int) -> str:
        """For `sh -c`: both of its outputs are one, and so is how it ends, which is `ended N` on the last line."""
        given = {"SECURE": f"https://{host}:{secure}", "PLAIN": f"http://{host}:{plain}", "TRUST": TRUST}
        exports = " ".join(f"{name}={value}" for name, value in {**given, **dict.fromkeys(_BELIEVES, TRUST)}.items())
        script = f'set -e; cd "$(mktemp -d -p /workspace)"; export {exports}\n{self.script}'
        return f"sh -c {shlex.quote(script)} 2>&1 </dev/null; echo ended $?"


def _digest(size: int) -> str:
    return f"{size} {hashlib.sha256(bytes(size)).hexdigest()}"


def _file(name: str, content: str) -> str:
    return f"mkdir -p $(dirname {name}); cat >{name} <<END\n{content}\nEND\n"


EMPTY = _digest(0)
_TRUSTING = "-Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit"
_TRUST_STORE = (
    'keytool -importcert -noprompt -alias ca -file "$TRUST" -keystore trust.p12 -storetype PKCS12'
    " -storepass changeit >/dev/null 2>&1\n"
)
_APT = {
    "Dir::Etc::sourcelist": "$PWD/sources.list", "Dir::Etc::sourceparts": "$PWD/empty", "Dir::State": "$PWD/state",
    "Dir::State::lists": "$PWD/lists", "Dir::State::status": "$PWD/status", "Dir::Cache": "$PWD",
    "Dir::Cache::archives": "$PWD/archives", "Dir::Etc::parts": "$PWD/empty", "Dir::Etc::main": "$PWD/none",
    "Acquire::Languages": "none", "Acquire::https::CaInfo": "$TRUST", "Acquire::Retries": "0",
}  # fmt: skip
_JAVA = """
import java.net.*; import java.net.http.*;
public class Fetch {
  public static void main(String[] arguments) throws Exception {
    String url = arguments[1];
    if (arguments[0].equals("URL")) {
      System.out.print(new String(new URL(url).openStream().readAllBytes()));
    } else {
      var request = HttpRequest.newBuilder(URI.create(url)).version(HttpClient.Version.HTTP_1_1).build();
      System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
  }
}"""
_FETCH = "fetch(process.argv[1]).then(found => found.text()).then(console.log)"
_HTTPS = "require('https').get(process.argv[1], found => found.pipe(process.stdout))"
_SOCKET = """
const socket = new WebSocket(process.argv[1].replace('http', 'ws') + '/socket');
let heard = 0;
socket.onopen = () => socket.send('0');
socket.onmessage = message => {
  console.log(message.data);
  if (++heard < 3) socket.send(String(heard)); else socket.close();
};
socket.onerror = error => { console.log(error.message, error.error); process.exit(1); };
"""
_STREAMS = f"""
import os, ssl, threading, urllib.request
context, opened, found = ssl.create_default_context(cafile=os.environ["TRUST"]), threading.Barrier({STREAMS}), []
def stream():
    try:
        answer = urllib.request.urlopen(os.environ["SECURE"] + "/events", context=context)
        opened.wait(120)
        found.append(answer.read().count(b"data: "))
    except Exception as error:
        opened.abort()
        found.append(repr(error))
threads = [threading.Thread(target=stream) for _ in range({STREAMS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*sorted({{f"{{found.count(one)}} streams: {{one}}" for one in found}}), sep="\\n")
"""


def _curl(way: str) -> str:
    return f'curl -sS "${way}/digest"'


def _apt(way: str) -> str:
    options = " ".join(f'-o {name}="{value}"' for name, value in _APT.items())
    return (
        "mkdir -p lists/partial archives/partial state empty; touch status\n"
        f'echo "deb [trusted=yes] ${way}/files/debian ./" >sources.list\n'
        f"apt-get {options} --error-on=any update\napt-get {options} download {NAME}\n"
        f"dpkg-deb --field {NAME}_1.0_all.deb Package"
    )


def _node(script: str, url: str) -> str:
    return f"node -e {shlex.quote(script)} {url}"


def _java(which: str) -> str:
    return _TRUST_STORE + _file("Fetch.java", _JAVA) + f'java {_TRUSTING} Fetch.java {which} "$SECURE/digest"'


GIT = """git clone -q "$SECURE/git/repo.git" work
cd work
git checkout -q -B "$(basename "$(dirname "$PWD")")"
head -c 3000000 /dev/urandom >big; git add big
git -c user.name=n -c user.email=e@example.org commit -qm big
git push -q origin HEAD
git clone -q -b "$(git branch --show-current)" "$SECURE/git/repo.git" ../again
cmp big ../again/big && echo the same"""
CARGO = (
    _file("Cargo.toml", '[package]\nname = "here"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n'
          f'{NAME} = {{ version = "1", registry = "here" }}')
    + _file(".cargo/config.toml", '[registries.here]\nindex = "sparse+$SECURE/files/index/"')
    + "mkdir src; touch src/lib.rs; export CARGO_HOME=$PWD/home\n"
    f"cargo fetch; ls home/registry/cache/*/{NAME}-1.0.0.crate"
)  # fmt: skip
MAVEN = (
    _TRUST_STORE
    + _file("pom.xml", f"{POM}<parent>{ARTIFACT}<relativePath/></parent><artifactId>here</artifactId>"
            "<packaging>pom</packaging><repositories><repository><id>here</id><url>$SECURE/files/maven</url></repository>"
            "</repositories></project>")
    + f'MAVEN_OPTS="{_TRUSTING} -Duser.home=$PWD" mvn --batch-mode --quiet validate\n'
    f"ls .m2/repository/org/example/{NAME}/1.0/{NAME}-1.0.pom"
)  # fmt: skip

# Without TLS a client gets the gateway's words as a page. Node's WebSocket has no words for why it failed.
CLIENTS = (
    Client("curl", _curl("SECURE"), EMPTY, "CONNECT tunnel failed, response 403"),
    Client("curl without TLS", _curl("PLAIN"), EMPTY, "is not among the destinations of this sandbox"),
    Client("git", GIT, "the same", "CONNECT tunnel failed, response 403"),
    Client(
        "pip",
        "python3 -m venv own; own/bin/pip install --disable-pip-version-check --retries 1"
        f' --index-url "$SECURE/files/simple/" {NAME}\n'
        "own/bin/python -c 'import nothing_here; print(nothing_here.SAID)'",
        "\nnothing\n",
        "Tunnel connection failed: 403",
    ),
    Client(
        "npm",
        "npm install --no-audit --no-fund --no-update-notifier --fetch-retries 0"
        f' --registry "$SECURE/files/npm/" {NAME}; cat node_modules/{NAME}/package.json',
        '"version": "1.0.0"',
        "403",
    ),
    Client("apt", _apt("SECURE"), NAME, "403"),
    Client("apt without TLS", _apt("PLAIN"), NAME, "403"),
    Client(
        "go",
        "export GOPROXY=$SECURE/files/go GOSUMDB=off GOFLAGS=-modcacherw GOPATH=$PWD/go GOCACHE=$PWD/cache\n"
        f"go mod download -json {MODULE}@v1.0.0",
        f"/{MODULE}@v1.0.0",
        ": Refused",
    ),
    Client("cargo", CARGO, f"{NAME}-1.0.0.crate", "CONNECT tunnel failed, response 403"),
    Client("node's fetch", _node(_FETCH, '"$SECURE/digest"'), EMPTY, "Proxy response (403)"),
    Client("node's https", _node(_HTTPS, '"$SECURE/digest"'), EMPTY, "HTTP/1.1 403 Refused"),
    Client("a websocket", _node(_SOCKET, '"$SECURE"'), "0 again\n1 again\n2 again", "failWebsocketConnection"),
    Client("java's URL", _java("URL"), EMPTY, 'Proxy returns "HTTP/1.1 403 Refused"'),
    Client("java's HttpClient", _java("HttpClient"), EMPTY, "Tunnel failed, got: 403"),
    Client("maven", MAVEN, f".m2/repository/org/example/{NAME}/1.0/{NAME}-1.0.pom", "status: 403 Refused"),
)
LARGE = (
    Client(
        "a request of 32 MB",
        f'head -c {MEGABYTES << 20} /dev/zero >body; curl -sS -T body "$SECURE/digest"',
        _digest(MEGABYTES << 20),
        "CONNECT tunnel failed, response 403",
    ),
    Client(
        "a gigabyte",
        'curl -sS -o /dev/null -w "%{size_download}\\n" "$SECURE/bytes/1024"',
        str(1 << 30),
        "CONNECT tunnel failed, response 403",
    ),
    Client(
        "200 streams at once",
        f"python3 -c {shlex.quote(_STREAMS)}",
        f"{STREAMS} streams: 20",
        "Tunnel connection failed: 403",
    ),
)
