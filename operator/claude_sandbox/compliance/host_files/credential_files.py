"""Where a host's users and its cluster keep what they log in with: files, and directories with them in it. Pure.

Paths are as `mounts.host_path` writes them. The places are those of each program's own documents: of editors and
agents, clouds, packages, code hosts, databases, containers, browsers and keyrings, on Linux, macOS and Windows.
"""

import re

# Of a home in any of the ways that hosts, Docker Desktop and WSL show one.
_HOME = re.compile(
    r"(?:/mnt)?(?:/[a-z])?/(?:home|users|var/home|export/home|usr/home)/[^/]+(?:/(.*))?|(?:/var)?/root(?:/(.*))?"
)
_HOMES = re.compile(
    r"(?:/mnt)?(?:/[a-z])?/(?:home|users|var/home|export/home|usr/home)(?:/[^/]+)?|(?:/var)?/root|(?:/mnt)?/c"
)

# In a home or anywhere else: nobody calls anything else so.
_ANYWHERE = re.compile(
    r".*/(?:\.ssh|\.kube|\.aws|\.azure|\.oci|\.gnupg|\.docker|\.config/gcloud|\.config/gh|\.password-store"
    r"|\.netrc|_netrc|\.git-credentials|\.npmrc|\.pypirc|\.vault-token|\.pgpass|\.my\.cnf|\.mylogin\.cnf|\.s3cfg|\.boto"
    r"|\.databrickscfg|\.smbcredentials|\.terraformrc|\.authinfo(?:\.gpg)?|\.kaggle|\.gitcookies)(?:/.*)?"
)

# Below a home only: a project has some of these names for its own settings.
_IN_HOME = """
.claude .claude.json .anthropic .codex .gemini .cursor .windsurf .codeium .continue .copilot .aider .aider.conf.yml
.qwen .kiro .amazonq .openai .cline .roo .augment .trae .factory .grok .fly .cloudflared .ngrok2 .wrangler .netlify
.vercel .railway .render .supabase .pulumi .databricks .snowflake .snowsql .dbt .influxdbv2 .cassandra .odbc.ini
.1password .bitwarden .lastpass .electrum .bitcoin .ethereum .step .pki .cert .huggingface .modal.toml .replicate
.wandb .comet.config .android .expo .chef .vagrant.d .tsh .age .xauthority .iceauthority .jupyter .sentryclirc
.circleci .twilio-cli .serverlessrc .arcrc .hgrc .p4tickets .subversion .composer/auth.json .m2/settings.xml
.m2/settings-security.xml .gradle/gradle.properties .sbt/.credentials .ivy2/.credentials .nuget/NuGet
.cargo/credentials .cargo/credentials.toml .gem/credentials .bundle/config .pip/pip.conf .yarnrc .yarnrc.yml
.bunfig.toml .condarc .hex/hex.config .terraform.d .rancher .crc .minikube .argocd .talos .lima .colima .orbstack .rd
.finch .mozilla .thunderbird .librewolf .purple .weechat .irssi .remmina .filezilla .davfs2 .fetchmailrc .msmtprc
.mbsyncrc .offlineimaprc .muttrc .wgetrc .curlrc .dropbox .config/git/credentials .config/containers .config/helm
.config/argocd .config/doctl .config/hcloud .config/linode-cli .config/flyctl .config/heroku .config/netlify
.config/stripe .config/op .config/1Password .config/Bitwarden .config/Bitwarden-CLI .config/rbw .config/lpass
.config/gopass .config/keybase .config/keepassxc .config/rclone .config/s3cmd .config/sops .config/age
.config/github-copilot .config/glab-cli .config/hub .config/tea .config/Code .config/VSCodium .config/Cursor
.config/Windsurf .config/zed .config/JetBrains .config/aider .config/goose .config/opencode .config/amp .config/crush
.config/claude .config/Claude .config/anthropic .config/openai .config/codex .config/gemini .config/mods .config/kiro
.config/cody .config/codeium .config/io.datasette.llm .config/shell_gpt .config/fabric .config/pip .config/pypoetry
.config/composer .config/NuGet .config/uv .config/hex .config/configstore .config/firebase .config/supabase
.config/railway .config/.wrangler .config/wrangler .config/ngrok .config/snyk .config/cachix .config/wandb
.config/kaggle .config/modal .config/google-chrome .config/chromium .config/BraveSoftware .config/microsoft-edge
.config/vivaldi .config/opera .config/Slack .config/discord .config/Signal .config/Element .config/solana
.config/msmtp .config/mutt .config/remmina .config/filezilla .config/FileZilla .config/openvpn .config/syncthing
.config/Nextcloud .config/twilio-cli .config/.jira .config/atlassian .config/pgcli .config/azure .config/aws
.config/tailscale .local/share/keyrings .local/share/kwalletd .local/share/keybase .local/share/gopass
.local/share/rbw .local/share/lpass .local/share/com.vercel.cli .local/share/opencode .local/share/amp
.local/share/goose .local/share/crush .local/share/claude .local/share/amazon-q .local/share/uv .local/share/remmina
.local/share/TelegramDesktop .local/share/DBeaverData .local/share/pypoetry .local/share/JetBrains .local/state/gh
.cache/huggingface/token .kde/share/apps/kwallet .kde4/share/apps/kwallet snap/firefox snap/chromium snap/code
snap/bitwarden .var/app Library/Keychains Library/Cookies Library/Safari Library/Accounts Library/Containers
Library/Group_Containers Library/Application_Support/Google Library/Application_Support/Firefox
Library/Application_Support/BraveSoftware Library/Application_Support/Microsoft_Edge Library/Application_Support/Arc
Library/Application_Support/Code Library/Application_Support/Cursor Library/Application_Support/Windsurf
Library/Application_Support/Claude Library/Application_Support/Zed Library/Application_Support/JetBrains
Library/Application_Support/Slack Library/Application_Support/1Password Library/Application_Support/Bitwarden
Library/Application_Support/com.openai.chat Library/Application_Support/io.datasette.llm
Library/Application_Support/pypoetry Library/Preferences/pypoetry Library/Application_Support/com.vercel.cli
Library/Application_Support/sops Library/Application_Support/doctl AppData/Roaming/gcloud AppData/Roaming/GitHub_CLI
AppData/Roaming/Docker AppData/Roaming/Code AppData/Roaming/Cursor AppData/Roaming/Windsurf AppData/Roaming/Claude
AppData/Roaming/Mozilla AppData/Roaming/NuGet AppData/Roaming/pip AppData/Roaming/postgresql AppData/Roaming/Bitwarden
AppData/Roaming/1Password AppData/Roaming/Slack AppData/Roaming/rclone AppData/Roaming/doctl AppData/Roaming/gnupg
AppData/Roaming/Microsoft/Credentials AppData/Roaming/Microsoft/Protect AppData/Roaming/Microsoft/Crypto
AppData/Roaming/JetBrains AppData/Roaming/MySQL AppData/Roaming/Composer AppData/Roaming/pypoetry AppData/Local/Google
AppData/Local/Microsoft AppData/Local/BraveSoftware AppData/Local/1Password AppData/Local/Packages
AppData/Local/Programs/claude AppData/Local/github-copilot AppData/Local/Docker
"""
_LOGINS = tuple(place.replace("_", " ").casefold() for place in _IN_HOME.split())

_OF_THE_HOST = (
    "/run/secrets", "/run/credentials",
    "/etc/kubernetes", "/var/lib/kubelet", "/etc/rancher", "/var/lib/rancher", "/etc/shadow", "/etc/gshadow",
    "/etc/krb5.keytab", "/etc/ssl/private", "/etc/wireguard", "/etc/networkmanager/system-connections",
    "/etc/docker/certs.d",
    "/var/lib/docker/volumes", "/var/lib/containers", "/var/lib/cloud",
)  # fmt: skip
_OF_THE_HOST_S_FILES = re.compile(
    r"/etc/ssh(?:/ssh_host_[^/]*key)?|/tmp/krb5cc_[^/]*|/run/user/\d+/(?:krb5cc.*|containers(?:/auth\.json)?)"
)

# Where programs keep what is theirs in a home. Nobody can list all programs, so what is not known to be harmless is
# not known at all.
_PRIVATE = re.compile(r"(?:\.[^/]+|snap|library|appdata)(?:/.*)?")
_HARMLESS = """
.cache .npm .nvm .pyenv .rbenv .rustup .sdkman .asdf .volta .deno .bun/bin .bun/install .go .julia .conda/pkgs
.nix-profile .cargo/bin .cargo/registry .cargo/git .m2/repository .m2/wrapper .gradle/caches .gradle/wrapper
.ivy2/cache .sbt/boot .nuget/packages .gem/ruby .bundle/cache .composer/cache .hex/packages .pub-cache .pnpm-store
.yarn .venv .virtualenvs .local/bin .local/lib .local/share/fonts .local/share/man .local/share/pnpm
.local/share/virtualenvs .local/share/mise .vim .vimrc .nanorc .inputrc .tmux.conf .screenrc .editorconfig .gitignore
.gitignore_global .gitattributes .clang-format .terminfo .fonts .themes .icons .config/nvim .config/vim
.config/fontconfig .config/starship.toml .config/git/ignore library/caches library/fonts
"""
_PLAIN = tuple(_HARMLESS.split())


def is_home(path: str) -> bool:
    """Whether a path of the host is that of all homes, or of one, or the drive that has them."""
    return _HOMES.fullmatch(path.casefold()) is not None


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
        if _holds(one, path) and one not in ("/var/lib/docker/volumes", "/var/lib/rancher", "/var/lib/containers"):
            return f"is the host's {host}"
    found = _HOME.fullmatch(path)
    below = next((part for part in found.groups() if part), "") if found else ""
    for place in _LOGINS if below else ():
        if _holds(place, below):
            return f"is the host's {host}"
        if _holds(below, place):
            return f"holds what a user of the host logs in with, in its {host}"
    return ""


def doubtful(host: str) -> str:
    """Why it isn't known whether this path of the host, which `login` says nothing of, holds what users log in with."""
    found = _HOME.fullmatch(host.casefold())
    below = next((part for part in found.groups() if part), "") if found else ""
    if not _PRIVATE.fullmatch(below) or any(_holds(place, below) for place in _PLAIN):
        return ""
    return f"is a program's own, the host's {host}: whether users of the host log in with something in it is not known"


def _holds(path: str, other: str) -> bool:
    return path == "/" or f"{other}/".startswith(f"{path}/")
