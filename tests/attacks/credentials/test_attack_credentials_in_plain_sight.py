"""Credentials where everybody who may read a spec or inspect a container reads them, and what only looks like one.

The attack is a leak: a key that looks like a path, a number or a word, stands percent-encoded in a list of headers,
or
is the argument after its option, was measured as no credential and accepted in a spec. On the other side prompts,
references and settings that only speak of credentials were refused. What is one is decided by names and by context,
and
the same rules hold for specs, for pods and for containers of anybody; each list here is tried as all of them.
"""

import itertools
from collections.abc import Sequence

import pytest
from compliant_container import World, changed
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.credentials import leaks
from claude_sandbox.api.credentials.measured import command_line_holds_credential, variable_holds_credential
from claude_sandbox.api.status import Result
from claude_sandbox.api.validate import InvalidSpec, parse_spec

# Nobody's. In the middle of other texts, so that no scanner takes this file for a leak.
RANDOM = "q7Zt4m" + "Xv2Kp9Ws3Ln8"

CREDENTIAL_NAMES = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY",
    "OPENAI_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "NPM_TOKEN", "PYPI_TOKEN",
    "HF_TOKEN", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "MYSQL_ROOT_PASSWORD", "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "RABBITMQ_DEFAULT_PASS", "SMTP_PASS", "DB_PW", "JWT_SECRET", "SECRET_KEY", "SECRET_KEY_BASE", "CLIENT_SECRET",
    "AZURE_CLIENT_SECRET", "TF_TOKEN_APP", "CARGO_REGISTRY_TOKEN", "VAULT_TOKEN", "SLACK_BOT_TOKEN", "SONAR_TOKEN",
    "DOCKER_AUTH_CONFIG", "DATADOG_API_KEY", "DD_API_KEY", "STRIPE_KEY", "GPG_PASSPHRASE", "SSH_PRIVATE_KEY",
    "AZURE_DEVOPS_PAT", "ENCRYPTION_KEY", "APP_KEY", "SESSION_COOKIE", "apiKey", "github_token", "dbPassword",
    "LINEAR_API_KEY", "AWS_ACCESS_KEY_ID", "TWILIO_AUTH_TOKEN", "OCP_APIM_SUBSCRIPTION_KEY", "B2_APPLICATION_KEY",
)  # fmt: skip
# How a credential's value may look, none of which says that it is one.
INNOCENT_VALUES = (
    "/Qm7vT2kLr9sXw4bN8cZ1dF6gH3jK5mP0oR2tYuV", "/Qm7v/T2kLr9sXw4b", "483920", "12", "3600000", "hunter", "swordfish",
    "correct-horse", "Correct horse battery", "00000000-0000-4000-8000-000000000000", "admin", "10s", "a.b.c",
)  # fmt: skip

# In a spec such a name passes: there is no room for more of them. Measured all the same.
RARE_VARIABLES = {
    "SSHPASS": "swordfish", "LDAP_BINDPW": "swordfish", "BEARER": "swordfish", "ACCESS_CODE": "1234",
    "NETRC": "machine example.org login me password swordfish", "ANY": "machine example.org login me password x",
    "KUBECONFIG_DATA": "YXBpVmVyc2lvbjog", "HOOK": f"https://x.webhook.office.com/webhookb2/a@b/IncomingWebhook/{RANDOM}",
}  # fmt: skip

SETTINGS = {
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "3600000", "MAX_THINKING_TOKENS": "31999",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "64000", "CLAUDE_CODE_FILE_READ_MAX_OUTPUT_TOKENS": "25000",
    "MAX_MCP_OUTPUT_TOKENS": "50000", "ACCESS_TOKEN_TTL": "15m", "ACCESS_TOKEN_EXPIRES_IN": "900",
    "JWT_REFRESH_TOKEN_LIFETIME_DAYS": "30", "PASSWORD_MIN_LENGTH": "12", "PASSWORD_RESET_TIMEOUT": "259200",
    "PASSWORD_HASH_ROUNDS": "12", "SESSION_COOKIE_AGE": "1209600", "SESSION_COOKIE_NAME": "sid",
    "SESSION_COOKIE_SECURE": "1", "CSRF_COOKIE_SECURE": "True", "COOKIE_DOMAIN": "example.com",
    "API_KEY_HEADER": "X-Api-Key", "API_KEY_NAME": "ci", "SECRET_NAME": "anthropic", "SECRETS_PROVIDER": "vault",
    "AUTH_TOKEN_URL": "https://login.example.com/oauth/token", "OAUTH_CLIENT_ID": "web", "OAUTH_SCOPES": "openid",
    "OAUTH_REDIRECT_URI": "https://app.example.com/back", "SIGNING_KEY_ID": "2024-01", "SSH_KEY_TYPE": "ed25519",
    "ENCRYPTION_KEY_ROTATION_DAYS": "90", "ACCESS_KEY_COUNT": "2", "API_KEY_CACHE_SIZE": "100",
    "MYSQL_ALLOW_EMPTY_PASSWORD": "yes", "MYSQL_RANDOM_ROOT_PASSWORD": "1", "USE_API_KEY": "1",
    "DISABLE_COST_WARNINGS": "1", "CARGO_REGISTRY_CREDENTIAL_PROVIDER": "cargo:token", "SMTP_AUTH": "login",
    "API_KEY_FILE": "/run/claude-sandbox/api-key/api-key", "TOKEN_FILE": "token.txt", "SECRET_PATH": "kv/data/agent",
    "POSTGRES_PASSWORD_FILE": "/run/secrets/db", "COOKIE_JAR": "/tmp/jar", "SSH_AUTH_SOCK": "/ssh-agent",
    "GIT_ASKPASS": "/usr/bin/askpass", "XAUTHORITY": "/tmp/x", "GPG_KEY": "A035C8C19219BA821ECEA86B64E628F8D684696D",
    "TOKENIZERS_PARALLELISM": "false", "CACHE_KEY": "v1-linux", "PRIMARY_KEY": "id", "SORT_KEY": "created",
    "AUTHOR": "somebody", "KEYRING_BACKEND": "null", "PATTERN": "*.py", "COMPASS": "n", "OLDPWD": "/", "MONKEY": "1",
    "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "OTEL_EXPORTER_OTLP_HEADERS": "x-scope-orgid=tenant1",
    "NETRC": "/home/me/.netrc", "COMPASSBEARER": "n", "STANDARD_BEARERS": "4",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com:4318", "PASSWORD_COMMAND": "pass show x",
}  # fmt: skip
# Fine in a container. In a spec such a name stays refused: there the name alone decides.
FILES = {
    "GOOGLE_APPLICATION_CREDENTIALS": "/run/secrets/gcp.json", "TLS_KEY": "/certs/tls.key",
    "SSL_PRIVATE_KEY": "./key.pem",
    "SSH_PRIVATE_KEY": "~/.ssh/id_ed25519", "DB_PASSWORD": "", "API_TOKEN": "false",
    "DB_DSN": "sqlite:///data/app.db",
}  # fmt: skip

HEADER_LISTS = (
    "Authorization=Basic%20" + "b3BzOnNlc2FtZS1vcGVu", "Authorization=Bearer%20" + RANDOM,
    "authorization=Bearer " + RANDOM,
    "api-key=" + RANDOM, "x-source=agent,api-key=" + RANDOM, "x-honeycomb-team=" + RANDOM,
    "Authorization: Bearer " + RANDOM, "X-One: 1\nAuthorization: Bearer word", "X-Api-Key: hunter",
    "DD-API-KEY=hunter",
    "signoz-access-token=hunter", "x-source=agent%2Capi-key%3Dhunter", "lightstep-access-token=hunter,x=y",
    '{"Authorization":"Bearer hunter"}', "Cookie: session=hunter", "authorization=hunter%3D%3D",
    "uptrace-dsn=https://x@y/2",
)  # fmt: skip
HEADER_VARIABLES = (
    "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS", "ANTHROPIC_CUSTOM_HEADERS", "CUSTOM_HEADER",
)  # fmt: skip
FINE_HEADER_LISTS = (
    "", "x-scope-orgid=tenant1", "X-Source: agent", "x-honeycomb-dataset=claude,x-environment=prod",
    "Authorization=Bearer ${TOKEN}", "Authorization: Bearer $TOKEN", "api-key=$KEY",
    "anthropic-beta: context-1m-2025-08-07",
    "x-client=keyboard", "x-team=tokens", "content-type=application/json",
)  # fmt: skip

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("tunnel", "run", "--token", RANDOM), ("agent", "--api-key", "hunter"), ("agent", "--token", "12345"),
    ("agent", "--api_key", "/Qm7vT2"), ("agent", "--apiKey", RANDOM), ("agent", "--openai-api-key", RANDOM),
    ("agent", "-token", RANDOM), ("agent", "--auth-token", RANDOM), ("agent", "--github-token", "word"),
    ("agent", "--password", "swordfish"), ("agent", "--db-password", "swordfish"), ("agent", "--passphrase", "x"),
    ("agent", "--client-secret", RANDOM), ("agent", "--secret-key", RANDOM), ("agent", "--access-key", RANDOM),
    ("agent", "--token=word"), ("agent", "--auth-token='word'"), ("agent", "-password=word"),
    ("java", "-Djavax.net.ssl.keyStorePassword=changeit", "-jar", "x.jar"),
    ("sh", "-c", f"cloudflared tunnel run --token {RANDOM}"), ("sh", "-c", "export DB_PASSWORD=word; run"),
    ("sh", "-c", f"GITHUB_TOKEN={RANDOM} claude"), ("env", "API_KEY=word", "claude"),
    ("curl", "-u", "alice:swordfish", "https://example.org"), ("curl", "-ualice:swordfish", "https://example.org"),
    ("curl", "-sSu", "alice:swordfish", "x"), ("curl", "--user", "alice:swordfish", "x"),
    ("sh", "-c", "curl -u a:b x"),
    ("/usr/bin/curl", "-H", f"X-Api-Key: {RANDOM}", "x"), ("curl", "-H", f"PRIVATE-TOKEN: {RANDOM}", "x"),
    ("curl", "-H", "Authorization: Basic " + "YWxpY2U6c3dvcmRmaXNo", "x"), ("curl", f"https://h/x?api_key={RANDOM}"),
    ("mysql", "-u", "root", "-pswordfish", "db"), ("mysqldump", "-pswordfish"), ("sh", "-c", "mysql -pswordfish <x"),
    ("git", "clone", "https://alice:swordfish@git.example.org/x.git"), ("run", "redis://:swordfish@cache:6379"),
    ("claude", "--mcp-config", '{"mcpServers":{"gh":{"command":"x","env":{"GITHUB_TOKEN":"word"}}}}'),
    ("claude", "--mcp-config", '{"mcpServers":{"a":{"url":"x","headers":{"Authorization":"Bearer ' + RANDOM + '"}}}}'),
)  # fmt: skip
# Of clients that the schema has no room for; measured all the same.
RARE_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("sshpass", "-p", "swordfish", "ssh", "h"), ("sshpass", "-pswordfish", "ssh", "h"),
    ("redis-cli", "-a", "swordfish"),
    ("docker", "login", "-u", "me", "-p", "swordfish"), ("mongosh", "-u", "me", "-p", "swordfish"),
    ("sqlcmd", "-U", "sa", "-P", "swordfish"), ("ldapsearch", "-D", "cn=x", "-w", "swordfish"),
    ("smbclient", "//h/s", "-U", "me%swordfish"), ("http", "-a", "me:swordfish", "example.org"),
    ("lftp", "-u", "me,swordfish", "h"), ("skopeo", "copy", "--src-creds", "me:swordfish", "a", "b"),
    ("openssl", "rsa", "-passin", "pass:swordfish"), ("curl", "--user=me:swordfish", "x"),
    ("psql", "host=db user=me password=swordfish"), ("aws", "configure", "set", "aws_secret_access_key", "x/y"),
    ("helm", "install", "--set", "auth.rootPassword=swordfish"), ("app", "--dsn", "root:swordfish@tcp(db:3306)/x"),
    ("app", "--db", "Server=db;User Id=sa;Password=swordfish"), ("npm", "config", "set", "//r/:_authToken=swordfish"),
    ("app", "https://hooks.slack.com/services/" + "T0AAAAAAA/B0AAAAAAA/abcdefgh12345678"),
    ("git", "clone", "https://0123456789abcdef0123456789abcdef@git.example.org/x"),
    ("curl", "--proxy-user", "me:swordfish", "x"), ("curl", "--oauth2-bearer", "swordfish", "x"),
    ("curl", "-b", "session=swordfish", "x"), ("curl", "--cookie", "session=swordfish", "x"),
    ("wget", "--http-password", "swordfish", "x"), ("wget", "--ftp-password=swordfish", "x"),
    ("npm", "config", "set", "//r/:_authToken", "swordfish"), ("helm", "--kube-token", "swordfish", "ls"),
    ("app", f"https://api.telegram.org/bot123456:{RANDOM}{RANDOM}/getMe"),
    ("app", "https://b.s3.example.org/k?X-Amz-Date=20260101&X-Amz-Signature=" + "0123456789abcdef" * 4),
)  # fmt: skip

INNOCENT_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("claude", "-p", "Add basic authentication/authorization to the web API"),
    ("claude", "-p", "Replace basic authentication by bearer token-authentication in OAuth2/OIDC"),
    ("claude", "-p", "Explain the --api-key option and why Authorization: Bearer is required"),
    ("claude", "-p", "Does curl -u need a colon? Use basic auth, not --token"),
    ("claude", "-p", "//TODO:ask@bob and mail me@example.org: see http://docs:8080/a@b"),
    ("claude", "--mcp-config", '{"mcpServers":{"docs":{"type":"http","url":"http://docs-mcp:8080"},'
     '"files":{"command":"npx","args":["-y","@modelcontextprotocol/server-filesystem","/workspace"]}}}'),
    ("claude", "--mcp-config", '{"mcpServers":{"gh":{"command":"x","env":{"GITHUB_TOKEN":"${GITHUB_TOKEN}"}}}}'),
    ("claude", "--mcp-config", "{'a':'http://x:80','b':'@scope/pkg'}"), ("run", "http://a:8080,@b/c"),
    ("npx", "-y", "@anthropic-ai/claude-code@2.1.331"), ("git", "clone", "git@github.com:team/x.git"),
    ("git", "clone", "ssh://git@github.com:22/team/x.git"),
    ("docker", "run", "docker://alpine:3.19@sha256:" + "a" * 64),
    ("skopeo", "inspect", "docker://registry.example.org:5000/x:1@sha256:" + "a" * 64),
    ("curl", "-u", "$USER:$PASSWORD", "https://example.org"), ("curl", "-H", "Authorization: Bearer $TOKEN", "x"),
    ("curl", "-H", "Authorization: Bearer ${TOKEN}", "x"), ("curl", "-uL", "https://example.org:8443/x"),
    ("agent", "--token", "$TOKEN"), ("agent", "--token-file", "/run/token"), ("agent", "--max-tokens", "500"),
    ("agent", "--pad-token", "0"), ("agent", "--password-stdin"), ("agent", "--api-key-helper", "/bin/x"),
    ("docker", "build", "--secret", "id=npm,src=.npmrc", "."), ("docker", "build", "--secret=id=npm", "."),
    ("gh", "auth", "login", "--with-token"), ("agent", "--token", "@/run/token"), ("agent", "--token", "--verbose"),
    ("mysql", "-p", "db"), ("mysql", "-P3306", "-h", "db"), ("pytest", "-p", "no:cacheprovider"),
    ("claude", "-p", "hi"),
    ("curl", "-b", "cookies.txt", "x"), ("curl", "--cookie", "$JAR", "x"), ("npm", "config", "get", "//r/:registry"),
    ("curl", "--oauth2-bearer", "$TOKEN", "x"), ("kubectl", "get", "secret"), ("wget", "--http-password", "$P", "x"),
    ("mkdir", "-p", "/workspace/x"), ("docker", "run", "-p", "8080:80", "-u", "1000:1000", "x"),
    ("ssh", "-p", "22", "h"),
    ("agent", "postgres://user@db/app"), ("agent", "jdbc:postgresql://db:5432/app?user=me"), ("agent", "user:group"),
    ("claude", "-p", "Implement a login with a username and a password for the zip and helm commands"),
    ("sh", "-c", "GITHUB_TOKEN=`cat /run/token` claude"),
    ("sh", "-c", "GITHUB_TOKEN=$(cat /run/token) claude"), ("agent", "--tokenizer", "x"), ("agent", "MAX_TOKENS=5"),
    ("claude", "-p", 'Return {"token_type": "bearer", "maxTokens": 5, "key": "a"} as JSON'),
    ("agent", "https://example.com:8443/path?at=@me"), ("agent", "key=value"), ("agent", "sha256:" + "a" * 64),
)  # fmt: skip


def spec_accepts(**fields: object) -> bool:
    """Whether a ClaudeSandbox may be so."""
    try:
        parse_spec({"spec": {"credentials": {"apiKeySecretRef": {"name": "key"}}} | fields})
    except InvalidSpec:
        return False
    return True


def measured(env: Sequence[str] = (), command: Sequence[str] = ()) -> Result:
    """What SEC-01 says of a container that is compliant in everything else."""

    def mutate(world: World) -> None:
        world.config["Env"].extend(env)
        if command:
            world.config["Cmd"] = list(command)

    return changed(mutate).results()["SEC-01"]


def split(words: tuple[str, ...]) -> tuple[dict[str, list[str]], ...]:
    """The same command line as command and args of a spec, parted wherever it can be."""
    return (
        {"args": list(words)},
        *({"command": list(words[:at]), "args": list(words[at:])} for at in range(1, len(words) + 1)),
    )


@pytest.mark.parametrize("name", CREDENTIAL_NAMES)
def test_the_name_says_that_it_is_a_credential_however_its_value_looks(name: str) -> None:
    assert not leaks.NAME_IS_NO_CREDENTIAL.holds(name)
    assert {value for value in INNOCENT_VALUES if not variable_holds_credential(name, value)} == set()
    assert measured([f"{name}={INNOCENT_VALUES[0]}"]) is Result.FAIL


@given(st.sampled_from(["DB_PASSWORD", "GITHUB_TOKEN", "X_SECRET", "ANTHROPIC_API_KEY"]), st.text(min_size=6))
def test_no_value_excuses_the_name_of_a_credential(name: str, value: str) -> None:
    assert variable_holds_credential(name, value) or value.lower() in ("undefined",)


@pytest.mark.parametrize("name", RARE_VARIABLES)
def test_a_rarer_variable_fails(name: str) -> None:
    assert measured([f"{name}={RARE_VARIABLES[name]}"]) is Result.FAIL


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_only_speaks_of_a_credential_is_none(name: str) -> None:
    assert measured([f"{name}={SETTINGS[name]}"]) is Result.PASS
    assert leaks.NAME_IS_NO_CREDENTIAL.holds(name)


@pytest.mark.parametrize("name", FILES)
def test_what_names_a_file_or_nothing_is_none(name: str) -> None:
    assert measured([f"{name}={FILES[name]}"]) is Result.PASS


def test_a_key_in_a_variable_for_a_file_or_a_switch_is_one_all_the_same() -> None:
    for name in ("API_KEY_FILE", "TOKEN_PATH", "USE_API_KEY"):
        assert measured([f"{name}={RANDOM}"]) is Result.FAIL


@pytest.mark.parametrize(("name", "value"), itertools.product(HEADER_VARIABLES, HEADER_LISTS))
def test_a_credential_in_a_list_of_headers_is_found(name: str, value: str) -> None:
    assert variable_holds_credential(name, value)


@pytest.mark.parametrize(
    ("options", "result"),
    [
        ({"splunk-token": "word", "splunk-url": "https://h"}, Result.FAIL),
        ({"loki-url": "https://me:" + "swordfish@h/x"}, Result.FAIL),
        ({"max-size": "10m", "tag": "{{.Name}}"}, Result.PASS),
        ({"splunk-url": "https://h", "splunk-insecureskipverify": "true"}, Result.PASS),
    ],
)
def test_what_the_driver_of_a_log_logs_in_with_is_seen_by_whoever_may_inspect(
    options: dict[str, str], result: Result
) -> None:
    world = changed(lambda world: world.host["LogConfig"].update(Type="splunk", Config=options))
    assert world.results()["SEC-01"] is result


@pytest.mark.parametrize(
    ("label", "result"),
    [({"db.password": "swordfish"}, Result.FAIL), ({"io.example.secret-name": "db", "team": "tokens"}, Result.PASS)],
)
def test_so_is_a_label(label: dict[str, str], result: Result) -> None:
    assert changed(lambda world: world.config["Labels"].update(label)).results()["SEC-01"] is result


@pytest.mark.parametrize("value", HEADER_LISTS)
def test_a_list_of_headers_with_a_credential_fails_and_is_refused(value: str) -> None:
    assert measured([f"OTEL_EXPORTER_OTLP_HEADERS={value}"]) is Result.FAIL
    assert not spec_accepts(env=[{"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": value}])


@pytest.mark.parametrize("value", FINE_HEADER_LISTS)
def test_other_headers_are_fine(value: str) -> None:
    assert measured([f"OTEL_EXPORTER_OTLP_HEADERS={value}"]) is Result.PASS
    assert spec_accepts(env=[{"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": value}])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_credential_in_a_command_line_fails_and_is_refused(words: tuple[str, ...]) -> None:
    assert measured(command=words) is Result.FAIL
    assert [fields for fields in split(words) if spec_accepts(**fields)] == []


@pytest.mark.parametrize("words", RARE_COMMANDS, ids=" ".join)
def test_a_rarer_client_s_fails(words: tuple[str, ...]) -> None:
    assert measured(command=words) is Result.FAIL


@pytest.mark.parametrize("words", INNOCENT_COMMANDS, ids=" ".join)
def test_ordinary_words_and_references_are_no_credentials(words: tuple[str, ...]) -> None:
    assert measured(command=words) is Result.PASS
    assert [fields for fields in split(words) if not spec_accepts(**fields)] == []


@pytest.mark.parametrize(
    "piece",
    ["mysql ", "--token ", "--token\x1f", "://a:", "curl -u a", "-", "--a-", ";KEY=", '"A', "Bearer 1a", "basic a",
     "X-TOKEN", "a=", "https://", "?TOKEN=", "-p", "host=a ", " ", "\n", "\t", ",\n ", "{\n",
     "auth ", "x-auth \n", " =", "-key ", "1a1a"],
)  # fmt: skip
@pytest.mark.timeout(30)
def test_whoever_writes_a_text_can_not_make_its_judgement_take_long(piece: str) -> None:
    # A second; a quadratic pattern takes more than half a minute.
    text = piece * (200_000 // len(piece))
    variable_holds_credential("X_HEADERS", text)
    command_line_holds_credential(["mysql", "curl", text, text])
    variable_holds_credential(text, "x")
