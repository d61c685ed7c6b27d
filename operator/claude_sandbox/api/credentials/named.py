"""Which variables hold a credential, by what their names say and by what else a value tells of them. Pure.

For measurements. A spec is refused by the name alone (`variables`): there a wrong refusal costs another name. Here
names of all programs are met, and what a name says is weighed: by its last word, by how programs write it, and by
whether a value can be what it is called.
"""

import re

from claude_sandbox.api.credentials.variables import ABOUT, CREDENTIAL, names_credential

_NOTHING = re.compile(r"|true|false|yes|no|on|off|none|null|undefined|enabled?|disabled?", re.IGNORECASE)
"""What is no credential, whatever the name: nothing at all, or a switch."""

# Words and programs whose names have that of a credential in them.
_OTHER_WORDS = re.compile(
    r"COOKIECUTTER|PASSWORDLESS|SECRETLINT|SECRETARY|TOKENI[SZ]ER|^(?:PASSWORD_STORE|GOPASS)_|OAUTH2?_PROXY_|OAUTH2?_(?!$)"
)
# What else of names says that the value is a credential; rarer, or of one program.
_MORE = re.compile(
    r"^(?:SSHPASS|NETRC|MNEMONIC|PASS|PSK)$|BIND_?PW$|(?:^|_)BEARER$|ACCESS_?CODE$|KUBECONFIG_(?:DATA|CONTENTS?|B64|BASE64)$"
    r"|(?:^|_)(?:STORE|KEY|DB|SMTP|MAIL|USER|ROOT|ADMIN|LDAP|FTP|SSH|SQL|PG|SA|KEYSTORE|TRUSTSTORE|HTTP|IMAP)(?:PASS|PWD|PW)$"
    r"|AUTH_IDENT$|_PYPI_TOKEN_|(?:SERVICE_ROLE|ADMIN)_KEY$|(?:PRE_?SHARED|UNSEAL|JWT|SHARED_ACCESS|WEBHOOK|SA)_KEY$|SEED_PHRASE$"
    r"|(?:WALLET|BIP39)_MNEMONIC$|RECOVERY_(?:CODES?|PHRASE)$|(?:^|_)CREDS_|(?:TOTP|HOTP|OTP|MFA)_SEED$"
    r"|^AZURE_BATCH_KEY$|_KEY_CONTENT$|^PAGERDUTY_(?:ROUTING|INTEGRATION|SERVICE)_KEY$|(?:^|_)AUTH_CODE$"
    r"|^(?:WORDPRESS_)?(?:(?:SECURE_)?AUTH|LOGGED_IN|NONCE)_SALT$"
)
# What else of last words speaks about a credential.
_MORE_ABOUT = re.compile(
    r"_(?:NAMESPACES?|MOUNT|OPTS|OPTIONS?|ARGS|FLAGS|TIME|UMASK|DESCRIPTOR|DOMAINS|UPSTREAMS?|ADDRESS(?:ES)?|ORG|TEAMS?|GROUPS?"
    r"|ROLES?|CONNECTIONS|CONCURRENCY|CHECKING|CHECKS?|REGEXP?|CLAIMS?|LABELS?|HASHERS?|HASHING|PAGE|SCAN|SCANNING|RATE|RATES"
    r"|TEMPLATE|PLACEHOLDER|HINT|COLUMN|TABLE|CLASS|VALIDATORS?|GENERATOR|ENCODING|CHARSET|ALPHABET|STRENGTH|QUOTA|SYMBOL"
    r"|DECIMALS|LOCALE|LANGUAGE|RENEWAL|GRACE|SKEW|MINUTES|DAYS|HOURS|BASELINE|PROJECT|DRIVER|PLUGIN|HANDLER|ADAPTER"
    r"|EXPORT|REFRESH|DESTINATION|ROTATOR|GETTER|FETCHER"
    r"|FILE_OVERRIDE)$"
    r"|(?:PULL|EXISTING)_SECRETS?$|(?:^|_)(?:PAD|EOS|BOS|UNK|SEP|MASK|CLS|STOP|START|END|SPECIAL|NEXT|PAGE|CONTINUATION|PER|IMAGE)_TOKEN$"
    r"|(?:^|_)(?:SKIP|USE|ENABLE|DISABLE|REQUIRE)_(?:[A-Z0-9]+_){0,4}(?:AUTH|PASSWORD|TOKEN|API_KEY)$"
)

# Where the last word is not the credential's, a short number is how many, how long or which.
_QUALIFIERS = (
    "(?:_(?:PROD|PRODUCTION|DEV|DEVELOPMENT|STAGING|STAGE|TEST|LOCAL|MAIN|PRIMARY|SECONDARY|BACKUP|OLD|NEW|BASE|B64"
    "|BASE64|JSON|VALUE|DATA|RAW|TEXT|STRING|CONTENTS?|[A-Z]|[0-9]+))*$"
)
_LAST = re.compile(
    f"(?:PASSWORD|PASSWD|PASSPHRASE|PASSCODE|CREDENTIALS?|SECRETS?|KEYS?|TOKEN|COOKIE|PWD|PASS|PIN|PW|PAT|PSK"
    f"|AUTH|CREDS|AUTH_CONFIG|ACCESS_KEY_ID){_QUALIFIERS}|(?:^|_)TF_TOKEN_"
)
_NUMBER = re.compile(r"-?[0-9]{1,5}(?:\.[0-9]+)?(?:ms|s|m|h|d|%)?")

# Of a key, a jar or a set of credentials the value is often the file that has them. Only below a directory that hosts
# and images have is it taken for one: one in 64 of all random texts in Base64 begins with a slash.
_NAMES_FILE_OR_VALUE = re.compile(
    r"(?:PRIVATE|SIGNING|ENCRYPTION|SSH|CLIENT|DEPLOY|MASTER|TLS|SSL|SERVICE)_?KEY$|CREDENTIALS?$|COOKIES?$|_CREDS$|_PWD$"
)
_FILE = re.compile(
    r"(?:/(?:app|certs?|config|data|etc|home|keys|mnt|opt|root|run|secrets|srv|tmp|usr|var|vault|workspace|workspaces)/"
    r"|~/|\.{1,2}/|[A-Za-z]:[\\/])[\w .@/\\+-]*"
)
# The name of a file has a separator or an ending, and a switch is short: a long text without either is neither.
_NAMES_FILE_OR_SWITCH = re.compile(
    r"_(?:FILES?|FILENAME|JAR|PATHS?|DIR|DIRECTORY|SOCKET|SOCK|LOCATION)$|^(?:USE|ENABLE|DISABLE|ALLOW|REQUIRE|SKIP)_"
)
_NEITHER = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9+=_-]{16,}")

# A value that can't be what a name of this form is for when it is a credential: how to log in, a header's name, a glob.
_OF_OTHER_KINDS = (
    (
        re.compile(r"_AUTH$"),
        re.compile(
            r"basic|digest|ntlm|negotiate|kerberos|oauth2?|bearer|plain|login|saml|oidc|ldap|mtls|jwt|iam|token|password"
            r"|md5|peer|trust|ident|scram-sha-(?:1|256)",
            re.IGNORECASE,
        ),
    ),
    (re.compile(r"HEADER$"), re.compile(r"[A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)+|Authorization|Cookie")),
    (re.compile(r"_PAT$"), re.compile(r"[^ ]*[*?\[][^ ]*")),
)
_KEPT_ELSEWHERE = re.compile(
    r"(?:projects/[^/]+/secrets/|arn:aws[a-z-]*:(?:secretsmanager|ssm):|op://|ref\+[a-z]+://|@Microsoft\.KeyVault\()"
    r"[ -~]+"
    r"|vault:[\w/.-]+#[\w.-]+"
)
"""A name under which a keeper of secrets has one."""

# Whose it is, a name does not always say. A random text in a variable that is called a key is one all the same, unless
# it is called the key of something that has keys which are no secrets.
_MAYBE = re.compile(r"(?:^|_)(?:KEY|TOKEN|LOGIN|SECRET|PASSWORD)(?:_|$)")
_OF_DATA = re.compile(
    r"(?:CACHE|PUBLIC|GPG|PGP|PRIMARY|FOREIGN|SORT|PARTITION|ROUTING|SHARD|OBJECT|S3|IDEMPOTENCY|MESSAGE|HOST|ROW|MAP"
    r"|GROUP|BUILD|DEDUPLICATION|SURROGATE|TRUSTED|VERIFY|VERIFICATION|VAPID|KMS|SITE|PUBLISHABLE|ANON|REGISTRY)_?KEYS?"
    r"|KEY_?(?:ID|FILE|PATH|NAME|HASH|FINGERPRINT)|_(?:ID|URL|URI|SHA|SHA256|DIGEST|HASH|VERSION|COMMIT|FILE|PATH|NAME|ARN)$"
)
_RANDOM = re.compile(r"[0-9a-f]{32}|(?=[^0-9]*[0-9])(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[A-Za-z0-9_-]{16,200}")
# Bundler writes a host's name so, and has a user and a password for it.
_OF_A_HOST = re.compile(r"BUNDLE_[A-Z0-9_]+__[A-Z0-9_]+")
_PAIR = re.compile(r"[^:/ ]+:[^:/ $]+")
_LOGS_IN = re.compile(r"(?:^|_)(?:USER|LOGIN|USER_?PASS|USER_?PWD)$")
USER_AND_GROUP = re.compile(
    r"([\w.-]+):(?:\1|\d{1,6}|root|wheel|users|staff|daemon|adm|bin|sys|www(?:-data)?|nobody|nogroup|docker|node|sudo|admins?)"
    r"|system:.*"
)
"""What looks like a login and is none: a group that systems have, a number, or one that is called as its user is."""
# A board's pins have two digits or three.
_PIN = re.compile(r"(?:^|_)PIN(?:_?CODE)?$")
_DIGITS = re.compile(r"[0-9]{4,12}")
_OF_A_PROXY = re.compile(r"[^/@: ]+:[^@/ $]+@[^@ ]+")


def holds_credential(name: str, value: str) -> bool:
    """Whether a variable with this name and value holds a credential, by what its name says that it is."""
    if _NOTHING.fullmatch(value):
        return False
    upper, written = name.upper(), written_out(name)
    if _MORE.search(written):
        return not _FILE.fullmatch(value)
    if _PIN.search(written) and _DIGITS.fullmatch(value):
        return True
    if _LOGS_IN.search(written) and _PAIR.fullmatch(value) and not USER_AND_GROUP.fullmatch(value):
        return True
    if (_OF_A_HOST.fullmatch(written) and _PAIR.fullmatch(value)) or (
        written.endswith("PROXY") and _OF_A_PROXY.fullmatch(value)
    ):
        return True
    if not _says_so(name, written):
        return _is_one_all_the_same(upper, written, value)
    if upper.endswith("DSN"):
        return "@" in value or "password" in value.lower()
    if any(kind.search(written) and other.fullmatch(value) for kind, other in _OF_OTHER_KINDS):
        return False
    if _KEPT_ELSEWHERE.fullmatch(value) or (_NUMBER.fullmatch(value) and not _LAST.search(written)):
        return False
    return not (_NAMES_FILE_OR_VALUE.search(written) and _FILE.fullmatch(value))


def written_out(name: str) -> str:
    """A name as environment variables are called: `dbPassword`, `db.password` and `db-password` are DB_PASSWORD."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name) if not name.isupper() else name
    return re.sub(r"[.-]", "_", parted).upper()


def _says_so(name: str, written: str) -> bool:
    plain = _OTHER_WORDS.sub("", written)
    if CREDENTIAL.search(plain):
        return names_credential(plain) and not _MORE_ABOUT.search(plain)
    # Parted in the middle of a word, as in `PassWord`.
    return plain == written and not CREDENTIAL.search(written) and names_credential(name)


def _is_one_all_the_same(upper: str, written: str, value: str) -> bool:
    about_one = CREDENTIAL.search(ABOUT.sub("", upper)) or CREDENTIAL.search(upper)
    if about_one and _NAMES_FILE_OR_SWITCH.search(upper) and _NEITHER.fullmatch(value):
        return True
    return bool(_MAYBE.search(written) and not _OF_DATA.search(written) and _RANDOM.fullmatch(value))
