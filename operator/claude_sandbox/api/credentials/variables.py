"""Which names of environment variables say that the value is a credential, and which only speak about one. Pure.

The name decides, not what the value looks like: a password may look like a path, a number or a word. The names are
from the documents of the services and libraries whose they are, and from the rules of secret scanners.
"""

import re

from claude_sandbox.api.rules import literal

# All upper-case: names are compared without regard to case.
_KINDS = (
    "PASSWORD|PASSWD|PASSPHRASE|PASSCODE|CREDENTIAL|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SIGNING_?KEY"
    "|ENCRYPTION_?KEY|SERVICE_?KEY|DEPLOY_?KEY|ACCOUNT_?KEY|MASTER_?KEY|AUTH_?KEY|SSH_?KEY|CLIENT_?KEY"
    "|SUBSCRIPTION_?KEY|APPLICATION_?KEY|LICEN[CS]E_?KEY|COOKIE"
    "|(?:ACCESS|API|AUTH|BEARER|ID|IDENTITY|OAUTH|REFRESH|SESSION|FEDERATED)_?TOKEN|AUTHORIZATION|AUTH_CONFIG"
    "|AUTH_HEADER|OAUTH|TOKEN$|(?:^|_)TF_TOKEN_|_TOKEN_?[0-9]+$|_(?:PWD|PW|PASS|PAT|PSK|AUTH|DSN|CREDS)$"
)
# Of services that call their key just that. Any other may be a key of a cache, a table or a fingerprint.
_KEYS_OF = (
    "(?:^|_)(?:OPENAI|ANTHROPIC|CLAUDE|GEMINI|MISTRAL|GROQ|COHERE|OPENROUTER|AZURE|AWS|GCP|STRIPE|SENDGRID|TWILIO"
    "|DATADOG|DD|COSMOS|STORAGE|SAS|HMAC|AES|FERNET|CRYPTO?|APP|TLS|SSL)_KEY$"
)
_CREDENTIAL = f"{_KINDS}|{_KEYS_OF}"

# The last word says what is told about the credential: how long, how many, how, whose, where.
_ABOUT = (
    "_(?:TTL|EXPIRY|EXPIRES?|EXPIRATION|LIFETIME|MAX_?AGE|AGE|TIMEOUT|INTERVAL|PERIOD|ROTATION|DELAY|WINDOW|LEEWAY"
    "|COUNT|LIMITS?|MAX|MIN|MAXIMUM|MINIMUM|SIZE|LENGTH|LEN|BITS|BUDGET|COST|ROUNDS|ITERATIONS|RETRIES|ATTEMPTS"
    "|VERSION|ENABLED?|DISABLED?|REQUIRED|ALLOWED|SECURE|HTTPONLY|SAMESITE|DOMAIN|NAMES?|PREFIX|SUFFIX|FIELD|PARAM"
    "|PATTERN|TYPE|KIND|FORMAT|ALGORITHMS?|ALG|METHODS?|MODE|FLOW|POLICY|STRATEGY|PROVIDERS?|BACKEND|STORE|STORAGE"
    "|MANAGER|ENGINE|HELPER|SOURCE|SCOPES?|ISSUER|AUDIENCE|CALLBACK|REDIRECT|URLS?|URIS?|ENDPOINT|HOST|PORT|SERVER"
    "|FILES?|FILENAME|JAR|PATHS?|DIR|DIRECTORY|SOCKET|SOCK|LOCATION|REGION|ARN|REF|REFERENCE|ALIAS|USER|USERNAME"
    "|EMAIL|FINGERPRINT|THUMBPRINT|DESCRIPTION|COMMAND|CMD|PROMPT|LEVEL)"
    "(?:_?(?:IN|AT|AFTER|MS|MILLIS|MILLISECONDS|S|SEC|SECS|SECONDS|MINS?|MINUTES|HOURS?|DAYS|BYTES|CHARS))?$"
    "|(?:KEY|TOKEN)_HEADER$|(?:CLIENT|OAUTH|TENANT|PROVIDER|APP)_ID$"
    "|(?:API|SIGNING|ENCRYPTION|MASTER|SSH|PRIVATE|SERVICE|DEPLOY|APPLICATION)_?KEY_ID$"
    "|^(?:MAX|MIN|NUM|USE|ENABLE|DISABLE|ALLOW|REQUIRE|SKIP|FORCE|HAS|IS|NO|SHOW|HIDE|MASK|REDACT)_"
    "|_(?:MAX|MIN|NUM|USE|ENABLE|DISABLE|ALLOW|REQUIRE|SKIP|ALLOW_EMPTY|RANDOM_ROOT)_"
    "(?:[A-Z0-9]+_)?(?:PASSWORD|TOKEN|API_?KEY|SECRET|COOKIES?|OAUTH|AUTH)$|^SMTP_AUTH$"
)
# What is an identifier by its last word, and half of a credential all the same.
_HALF = "ACCESS_?KEY_?ID$"

CREDENTIAL, ABOUT, _IS_HALF = map(re.compile, (_CREDENTIAL, _ABOUT, _HALF))
"""What names a credential, and what only speaks about one; of names in upper case."""

NAMES_CREDENTIAL = (
    f"(self.upperAscii().matches({literal(_HALF)}) || self.upperAscii().matches({literal(_CREDENTIAL)})"
    f" && !self.upperAscii().matches({literal(_ABOUT)}))"
)
"""`names_credential` in CEL, of `self`."""


def names_credential(name: str) -> bool:
    """Whether a variable called so holds a credential. ASCII."""
    name = name.upper()
    return bool(_IS_HALF.search(name) or (CREDENTIAL.search(name) and not ABOUT.search(name)))
