"""Where a host's users and its cluster keep what they log in with: files, and directories with them in it. Pure.

Paths are as `mounts.host_path` writes them. What is in a home goes by the programs whose it is (`programs`), and by the
names of files; what is the host's own by its places.
"""

import re

from claude_sandbox.compliance.host_files.homes import below_home, is_home
from claude_sandbox.compliance.host_files.programs import is_harmless, place_of_logins

# In a home or anywhere else: nobody calls anything else so.
_ANYWHERE = re.compile(
    r".*/(?:\.ssh|\.kube|\.aws|\.azure|\.oci|\.gnupg|\.docker|\.config/gcloud|\.config/gh|\.password-store"
    r"|\.netrc|_netrc|\.git-credentials|\.npmrc|\.pypirc|\.vault-token|\.pgpass|\.my\.cnf|\.mylogin\.cnf|\.s3cfg|\.boto"
    r"|\.databrickscfg|\.smbcredentials|\.terraformrc|\.authinfo(?:\.gpg)?|\.kaggle|\.gitcookies)(?:/.*)?"
)

_OF_THE_HOST = (
    "/run/secrets", "/run/credentials", "/run/secrets.d", "/run/agenix", "/run/agenix.d", "/run/sops-nix",
    "/etc/kubernetes", "/var/lib/kubelet", "/etc/rancher", "/var/lib/rancher", "/var/lib/etcd", "/var/lib/minikube",
    "/etc/k0s", "/var/lib/k0s", "/var/snap/microk8s/current/credentials", "/etc/origin/master",
    "/var/lib/rancher/k3s/server", "/var/lib/rancher/k3s/agent", "/var/lib/rancher/rke2/server",
    "/var/lib/rancher/rke2/agent", "/var/lib/containerd", "/etc/shadow", "/etc/gshadow", "/etc/master.passwd",
    "/etc/security/opasswd", "/etc/krb5.keytab", "/etc/ssl/private", "/etc/pki/tls/private", "/etc/letsencrypt",
    "/etc/acme.sh", "/etc/dehydrated", "/var/lib/caddy", "/var/lib/acme", "/etc/wireguard", "/etc/openvpn",
    "/etc/ipsec.secrets", "/etc/ppp/chap-secrets", "/etc/networkmanager/system-connections", "/etc/wpa_supplicant",
    "/var/lib/iwd", "/etc/docker/certs.d", "/etc/vault.d", "/var/lib/vault", "/etc/gitlab-runner", "/etc/ceph",
    "/etc/postfix/sasl_passwd", "/etc/mysql/debian.cnf", "/etc/salt/pki", "/etc/puppetlabs/puppet/ssl", "/etc/pve",
    "/var/lib/docker/volumes", "/var/lib/docker/swarm", "/var/lib/containers", "/var/lib/cloud", "/var/lib/tailscale",
    "/var/lib/zerotier-one", "/var/lib/jenkins", "/var/lib/samba/private", "/var/lib/sss/secrets", "/var/lib/sss/db",
    "/var/lib/sss/pipes/private", "/var/lib/gssproxy", "/var/lib/amazon/ssm",
    "/library/keychains", "/run/credstore", "/etc/credstore", "/etc/credstore.encrypted",
)  # fmt: skip
# Whose volumes are there, and may be anybody's.
_WITH_VOLUMES = ("/var/lib/docker/volumes", "/var/lib/rancher", "/var/lib/containers")
_OF_THE_HOST_S_FILES = re.compile(
    r"/etc/ssh(?:/ssh_host_[^/]*key)?|/tmp/krb5cc_[^/]*|/run/user/\d+/(?:krb5cc.*|containers(?:/auth\.json)?)"
    r"|/etc/apt/auth\.conf(?:\.d(?:/.*)?)?|/etc/containers/auth\.json|/etc/cni/net\.d(?:/[^/]*kubeconfig[^/]*)?"
    r"|(?:/mnt)?/c/(?:programdata/ssh|windows/system32/config)(?:/.*)?"
    # What an engine writes down of all of its containers: their files and variables.
    r"|/var/lib/docker(?:/(?!volumes(?:/|\Z)).*)?"
)

# Where programs keep what is theirs in a home.
_PRIVATE = re.compile(r"(?:\.[^/]+|snap|library|appdata)(?:/.*)?")
_LOGIN_FILE = (
    r"(?:tokens?|credentials?|creds|auth|oauth2?|secrets?|passwords?|passwd|logins?|api[_-]?keys?|private[_-]?keys?"
    r"|client[_-]?secret|cookies)"
)
_ENDING = r"(?:\.(?:json|ya?ml|toml|ini|xml|properties|conf|cfg|txt|db|sqlite3?|dat|bin|enc|gpg|age|plist|lock))?"
# A program's file that is called after what it holds, whatever the program.
_CALLED_LOGIN = re.compile(
    rf".*/(?:\.?[a-z0-9]+[._-])*{_LOGIN_FILE}{_ENDING}|.*/id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"
    r"|.*\.(?:kdbx|pem|p12|pfx|key|jks|keystore|ppk|keytab|tfrc\.json)"
)
# Among what is fetched and can be fetched again only the file of the program itself is called so.
_CALLED_LOGIN_IN_CACHE = re.compile(rf"(?:\.cache|library/caches|\.pub-cache)(?:/[^/]+)?/{_LOGIN_FILE}{_ENDING}")


def login(host: str) -> str:
    """What is wrong with showing this path of the host: the end of a sentence that begins with its place, or empty."""
    path = host.casefold()
    if is_home(path) or any(_holds(path, one) for one in ("/home", "/root", "/users")):
        return f"holds what users of the host log in with, in its {host}"
    if _ANYWHERE.fullmatch(path) or _OF_THE_HOST_S_FILES.fullmatch(path):
        return f"is the host's {host}"
    for one in _OF_THE_HOST:
        if _holds(path, one):
            return f"holds what the host or its users log in with, in its {host}"
        if _holds(one, path) and one not in _WITH_VOLUMES:
            return f"is the host's {host}"
    below = below_home(path)
    match below and place_of_logins(below):
        case "is":
            return f"is the host's {host}"
        case "holds":
            return f"holds what a user of the host logs in with, in its {host}"
    return f"is by its name a login of a program's, the host's {host}" if below and _is_called_login(below) else ""


def doubtful(host: str) -> str:
    """Why it isn't known whether this path of the host, which `login` says nothing of, holds what users log in with."""
    below = below_home(host)
    if not _PRIVATE.fullmatch(below) or is_harmless(below):
        return ""
    return f"is a program's own, the host's {host}: whether users of the host log in with something in it is not known"


def _is_called_login(below: str) -> bool:
    if is_harmless(below):
        return bool(_CALLED_LOGIN_IN_CACHE.fullmatch(below))
    return bool(_PRIVATE.fullmatch(below) and _CALLED_LOGIN.fullmatch(below))


def _holds(path: str, other: str) -> bool:
    return path == "/" or f"{other}/".startswith(f"{path}/")
