"""Which programs keep in their users' homes what these log in with, and where programs keep what is theirs. Pure.

The names are those of the programs' own documents: editors and agents, clouds, packages, code hosts, databases,
containers, browsers, keyrings and chats, on Linux, macOS and Windows. A program is looked for in every place in which
one has its files: which of them it uses, goes with the system and the version.
"""

# `+` stands for a space.
_NAMES = """
1password aichat aider akeyless aliyun amazon-q amazonq amp anaconda android anthropic antigravity anydesk aptos arc
argocd atuin auggie augment aws aws-sso aws-vault awsvault azd azure azuredevops bitcoin bitwarden bitwarden-cli bluemix
boundary brave bravesoftware cachix cf chromium circleci civo claude cline cloudflare cloudflared cloudsmith code
code+-+insiders code+-+oss code-server codebuddy codeium codex cody colima com.openai.chat com.vercel.cli composio
conan configstore continue copilot coursier crc crush cursor cursor-agent cursor-server databricks dbeaver dbeaverdata
dbt deepseek digitalocean discord doctl doppler earthly electrum element ethereum evolution exoscale expo factory
fastlane filezilla finch firebase firefox fly flyctl garden gcloud gemini gh git-credential-manager github+cli
github-copilot githubcopilot gitlab-runner glab-cli gnupg goa-1.0 google-chrome goose gopass gptme granted grok
hashicorp hcloud hcp helm heroku hetzner hex hexchat hub huggingface identityservice iflow infisical influxdbv2
infracost insomnia io.datasette.llm irssi jetbrains jfrog junie jupyter k3d kaggle keepassxc keybase kilo-code
kilocode kimi kiro kiro-cli kwalletd lastpass leapp lens librewolf lightning lima linode-cli litellm lnd lpass
mattermost mcp-auth microsoft+edge microsoft-edge mistral modal mods mongodb mozilla msmtp mutt mysql neomutt netlify
nextcloud ngrok ngrok2 nuget okteto ollama op openai opencode openhands openlens openstack opera orbstack ovh pearai
pgadmin pgcli plandex-home platformsh poetry positron postgresql postman pulumi purple pypoetry qoder qwen railway
rancher rbw rclone rd remmina render replicate rest-client roo rovodev runpod rustdesk s3cmd saml2aws scalr scw
secretive sentrycli sf sfdx shell_gpt shopify shopify-cli-kit-nodejs signal slack smithery snowflake snowsql snyk
solana sops sourcegraph-cli spacelift step stripe sui supabase supermaven syncthing tabnine tailscale talos tanzu tea
teamviewer telegramdesktop teleport terraform.d thunderbird trae tsh twilio-cli upsun vagrant.d vastai vcluster vercel
vibe vivaldi vscodium vultr-cli wandb warp-terminal weechat windsurf windsurf-server wrangler xai yandex-cloud zed
zeditor
"""
_NAMED = frozenset(name.replace("+", " ") for name in _NAMES.split())

# Where a program has its files in a home, with the dot that it may have before its name there.
_BASES = (
    "", ".config", ".local/share", ".local/state", "snap", "library/application support", "library/preferences",
    "appdata/roaming", "appdata/local",
)  # fmt: skip

# What is no directory of the program's own name.
_FILES = """
.claude.json .aider .aider.conf.yml .modal.toml .odbc.ini .pki .cert .age .xauthority .iceauthority .sentryclirc
.serverlessrc .arcrc .hgrc .p4tickets .subversion .composer/auth.json .config/composer .m2/settings.xml
.m2/settings-security.xml .gradle/gradle.properties .sbt/.credentials .ivy2/.credentials .cargo/credentials
.cargo/credentials.toml .gem/credentials .bundle/config .pip/pip.conf .config/pip .yarnrc .yarnrc.yml .bunfig.toml
.condarc .conda/.anaconda .config/pnpm/rc .config/nix .cabal/config .stack/upload .pause .luarocks .renviron
.julia/servers .config/dart .minikube .cassandra .comet.config .clearml.conf clearml.conf .vast_api_key .weechat
.irssi .davfs2 .fetchmailrc .msmtprc .mbsyncrc .offlineimaprc .muttrc .wgetrc .curlrc .dropbox .dockercfg .rclone.conf
.mc .config/mc .lftp .passwd-s3fs .ovh.conf .civo.json .vultr-cli.yaml .b2_account_info .config/b2 .config/upctl.yaml
.clasprc.json .appstoreconnect .vscode-server .vscode-server-insiders .vscode-remote .cdsapirc .config/uv
.local/share/uv .config/git/credentials .cache/git/credential .git-credential-cache .config/age .config/azure
.config/openvpn .config/.jira .jira.d .config/atlassian .tccli .near-credentials .foundry/keystores .starkli-wallets
.config/starknet .vault_pass .vault_pass.txt .ansible/galaxy_token .envrc .env .acme.sh .config/kubelogin .regctl
.jenkins-cli .sonar .dbtcloud .chef .snowsql .keychain .local/share/keyrings .local/state/gh .local/share/gopass
.cache/huggingface/token .cache/huggingface/stored_tokens .kde/share/apps/kwallet .kde4/share/apps/kwallet .var/app
.local/share/amazon-q library/keychains library/cookies library/safari library/accounts library/containers
library/group+containers library/application+support/google library/application+support/firefox
appdata/roaming/microsoft/credentials appdata/roaming/microsoft/protect appdata/roaming/microsoft/crypto
appdata/roaming/microsoft/usersecrets .microsoft/usersecrets appdata/roaming/pip appdata/roaming/composer
appdata/local/google appdata/local/microsoft appdata/local/packages appdata/local/programs/claude .config/containers
.config/docker appdata/roaming/docker appdata/local/docker .config/fabric .config/io.datasette.llm
"""
_PLACES = tuple(place.replace("+", " ") for place in _FILES.split())

# Nobody can list all programs, so what is not known to be harmless is not known at all.
_HARMLESS = """
.cache .npm .nvm .pyenv .rbenv .rustup .sdkman .asdf .volta .deno .bun/bin .bun/install .go .julia .conda/pkgs
.nix-profile .cargo/bin .cargo/registry .cargo/git .m2/repository .m2/wrapper .gradle/caches .gradle/wrapper
.ivy2/cache .sbt/boot .nuget/packages .gem/ruby .bundle/cache .composer/cache .hex/packages .pub-cache .pnpm-store
.yarn .venv .virtualenvs .local/bin .local/lib .local/share/fonts .local/share/man .local/share/pnpm
.local/share/virtualenvs .local/share/mise .vim .vimrc .nanorc .inputrc .tmux.conf .screenrc .editorconfig .gitignore
.gitignore_global .gitattributes .clang-format .terminfo .fonts .themes .icons .config/nvim .config/vim
.config/fontconfig .config/starship.toml .config/git/ignore library/caches library/fonts .ollama/models
.android/avd .terraform.d/plugins .terraform.d/plugin-cache .conan/data .conan2/p .helm/cache
"""
_PLAIN = tuple(_HARMLESS.split())


def place_of_logins(below: str) -> str:
    """What is wrong with showing this part of a home: that it "is" a login, or "holds" some; empty where nothing is."""
    if any(_holds(place, below) for place in _PLACES):
        return "is"
    if any(_holds(below, place) for place in _PLACES):
        return "holds"
    if is_harmless(below):
        return ""
    if any(_names_one(below, base) for base in _BASES):
        return "is"
    # A directory above has those of all programs that have one there.
    return "holds" if any(_holds(below, base) for base in _BASES if base) else ""


def is_harmless(below: str) -> bool:
    """Whether nobody keeps what he logs in with there: caches, toolchains, what programs look like."""
    return any(_holds(place, below) for place in _PLAIN)


def _names_one(below: str, base: str) -> bool:
    """Whether the part of a home is a program's own directory or file, or below it."""
    if base and not below.startswith(f"{base}/"):
        return False
    name = below.removeprefix(f"{base}/" if base else "").partition("/")[0]
    # What is right in a home has a dot; another directory of such a name is a project's.
    return (bool(base) or name.startswith(".")) and name.removeprefix(".") in _NAMED


def _holds(path: str, other: str) -> bool:
    return f"{other}/".startswith(f"{path}/")
