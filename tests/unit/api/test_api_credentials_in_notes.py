"""Which labels and annotations hold a credential, and which say what has it, or that it changed.

Names and values of the second table are from the documents of what reads them: Vault's and Dapr's injectors, Reloader,
cert-manager, ingress-nginx, Datadog, Traefik, clouds' webhooks. `§R` is a random text, as no scanner takes for a leak.
"""

import pytest

from claude_sandbox.api.credentials.notes import holds_credential
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site

_RANDOM = "q7Zt4m" + "Xv2Kp9Ws3Ln8"

CREDENTIALS = {
    "traefik.http.middlewares.a.plugin.b.token": "word", "homepage.widget.a.apiKey": "word",
    "db-password": "hunter2", "example.com/db-password": "hunter2", "db.password": "hunter2", "dbPassword": "hunter2",
    "api-key": "abc", "example.com/api_key": "abc123", "token": "abc", "x/token": "12345", "secret": "hunter2",
    "client-secret": "correct-horse", "auth-token": "x", "github-token": "abc", "pass": "hunter2",
    "corp/pass": "hunter2", "passphrase": "a b c", "credentials": "me:hunter2", "basic-auth": "me:hunter2",
    "password": "hunter2", "PASSWORD": "letmein", "mysql-root-password": "root", "redis.auth": "x",
    "aws-secret-access-key": "abc", "aws/access-key-id": "AKIAX", "sa-password": "P", "jwt-secret": "my-secret-word",
    "webhook-secret": "x-y", "app-secret": "s3cr3t-value", "url": "https://u:pw@h/x", "hook": "https://h/x?token=abc",
    "ad.datadoghq.com/redis.instances": '[{"host":"%%host%%","password":"hunter2"}]',
    "pre.hook.backup.velero.io/command": '["mysqldump","-phunter2","x"]',
    "kubectl.kubernetes.io/last-applied-configuration": '{"spec":{"containers":[{"env":[{"name":"DB_PASSWORD","value":"x"}]}]}}',  # noqa: E501
    "homepage.widget.password": "hunter2", "homepage.widget.key": "§R",
    "traefik.http.middlewares.a.headers.customrequestheaders.Authorization": "Basic dTpzd29yZGZpc2g=",
    "ofelia.job-exec.x.command": "mysqldump --password=hunter2", "session-cookie": "abc", "smtp.pass": "x",
    "vpn.psk": "x", "deploy.ssh-key": "xx", "x.private-key": "MIIEv", "run": "TOKEN=abc make",
}  # fmt: skip
OTHERS = {
    "traefik.http.routers.api-key.rule": "Host(`x`)", "vault.hashicorp.com/agent-inject-perms-token": "0400",
    "vault.hashicorp.com/agent-inject-command-password": "kill -HUP 1", "last-password-change": "2026-01-01",
    "conjur.org/secrets-destination": "file", "traefik.http.services.token-api.loadbalancer.server.port": "80",
    "checksum/secret": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
    "checksum/credentials": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
    "secret-hash": "0f0f0f0f0f0f0f0f", "secret.hash": "abcdef12",
    "vault.hashicorp.com/agent-inject-secret-db-creds": "database/creds/app",
    "vault.hashicorp.com/agent-inject-token": "true", "vault.hashicorp.com/tls-secret": "vault-tls",
    "vault.hashicorp.com/agent-inject-template-db-password": '{{- with secret "database/creds/x" -}}{{ .Data.password }}{{ end }}',  # noqa: E501
    "vault.hashicorp.com/agent-inject-secret-password.txt": "secret/data/password",
    "vault.hashicorp.com/secret-volume-path-api-key": "/vault/x", "vault.hashicorp.com/auth-path": "auth/kubernetes",
    "vault.hashicorp.com/client-key": "/vault/tls/client.key",
    "vault.hashicorp.com/agent-inject-file-token": "token.txt",
    "secret.reloader.stakater.com/reload": "db-credentials,foo", "reloader.stakater.com/auto": "true",
    "dapr.io/app-token-secret": "app-api-token", "dapr.io/api-token-secret": "dapr-api-token",
    "eks.amazonaws.com/token-expiration": "86400", "azure.workload.identity/service-account-token-expiration": "3600",
    "cert-manager.io/private-key-algorithm": "ECDSA", "cert-manager.io/private-key-rotation-policy": "Always",
    "nginx.ingress.kubernetes.io/auth-secret": "default/basic-auth", "nginx.ingress.kubernetes.io/auth-type": "basic",
    "app": "secret-manager", "app.kubernetes.io/name": "token-service",
    "app.kubernetes.io/component": "password-reset", "secret-type": "opaque", "credentials": "managed",
    "uses-secrets": "true", "api-key": "required",
    "ad.datadoghq.com/x.instances": '[{"password":"%%env_REDIS_PASSWORD%%"}]', "db-password": "${DB_PASSWORD}",
    "traefik.http.middlewares.auth.basicauth.usersfile": "/run/users",
    "com.docker.compose.project.config_files": "/x/secret.yaml",
    "kubernetes.io/config.hash": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", "rotated-secret-at": "2026-01-01",
    "password-rotated": "2026-01-01T00:00:00Z", "secret-version": "3", "tokens": "5", "max-tokens": "100",
    "cookie-policy": "strict", "keyword": "x", "keycloak": "y", "key": "value", "public-key": "abc",
    "cache-key": "x1", "claudesandbox.dev/api-key": "true", "claudesandbox.dev/api-key-generation": "12",
    "claudesandbox.dev/api-key-secrets": "anthropic,other", "claudesandbox.dev/pull-secrets": "regcred",
    "imagePullSecret": "regcred",
    "kubectl.kubernetes.io/last-applied-configuration": '{"spec":{"volumes":[{"name":"k","secret":{"secretName":"anthropic"}}],"containers":[{"env":[{"name":"DB_PASSWORD","valueFrom":{"secretKeyRef":{"name":"a","key":"password"}}}]}],"imagePullSecrets":[{"name":"regcred"}],"serviceAccountName":"token-svc"}}',  # noqa: E501
    "sidecar.istio.io/userVolume": '[{"name":"s","secret":{"secretName":"x"}}]',
    "description": "Rotates the password and token of the API", "docs": "https://wiki/x?page=password#token",
    "sealedsecrets.bitnami.com/managed": "true", "external-secrets.io/force-sync": "1",
    "replicator.v1.mittwald.de/replicate-from": "ns/secret", "iam.amazonaws.com/role": "x", "team": "auth",
    "tier": "auth", "password-policy": "strong", "secrets-store": "vault", "token-issuer": "x",
    "prometheus.io/path": "/metrics?auth=none", "co.elastic.logs/json.keys_under_root": "true",
    "linkerd.io/inject": "enabled", "secret": "db-credentials", "secrets": "db-auth,smtp-auth",
    "com.github.credentials": "none", "org.opencontainers.image.title": "password-manager",
    "password-manager": "bitwarden",
}  # fmt: skip


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_label_that_is_called_a_credential_or_holds_one(name: str) -> None:
    assert holds_credential(name, CREDENTIALS[name].replace("§R", _RANDOM))


@pytest.mark.parametrize("name", OTHERS)
def test_a_label_that_only_speaks_about_one(name: str) -> None:
    assert not holds_credential(name, OTHERS[name])


@pytest.mark.parametrize("piece", ["user", "a-", "a-b,", "x/", "{{", "%%", "secret=", "?token", "a.b ", "\\ ", "[{"])
def test_it_takes_a_time_that_goes_with_the_length(piece: str) -> None:
    # A quadratic pattern would not end here.
    text = piece * (100_000 // len(piece))
    assert holds_credential("db-secret", text) in (True, False)
    assert holds_credential("inject-password", text) in (True, False)


@pytest.mark.parametrize("delivery", ["Brokered", "Mounted"])
def test_nothing_that_the_operator_writes_down_itself_is_taken_for_one(delivery: str) -> None:
    spec = {"credentials": {"apiKeySecretRef": {"name": "anthropic-api-key"}, "delivery": delivery}}
    site = Site(parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent"))
    made = build(Identity("agents", "alice", "1"), ClaudeSandboxSpec.model_validate(spec), site)
    metadata = objects.pod(made, "12")["metadata"]
    assert metadata["annotations"]
    assert not [one for one in (metadata["annotations"] | metadata["labels"]).items() if holds_credential(*one)]
