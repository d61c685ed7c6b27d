"""Forms of credentials that measurements know and a schema has no room for: what an API server may spend is bounded.

Pure. What services' keys look like is from their own documentation and the rules of secret scanners. The patterns take
time linear in the text: no unbounded repetition after a prefix that can repeat.
"""

import re

_ANYWHERE = (
    r"https?://[\w.~-]{32,}@|:[^ :@/$<{\"']+@(?:tcp|unix)\("
    r"|; ?(?:[Pp]assword|PASSWORD|[Pp]wd|PWD)=[^;\"'$<{* ]{3}"
    r"|(?:^|[^A-Za-z0-9_])_(?:authToken|auth|password)=[^$\" <{]"
    # A parameter of an address; a login of Java's; a line of a .netrc; a signed address; a bot of Telegram's.
    r"|[?&](?:password|passwd|pwd|client_secret|secret)=[^&$<{%\s\"'*]"
    r"|LoginModule required [^;\n]{0,300}\bpassword=[\"']?[^\"'$<{ ]"
    r"|machine +[\w.-]+ +login +[^ ]+ +password +[^$<{ ]|[?&]X-(?:Amz|Goog)-Signature=[0-9a-f]{16}"
    r"|api\.telegram\.org/bot[0-9]+:[\w-]{20}|\.webhook\.office\.com/webhookb2/[\w@.-]+/IncomingWebhook/\w{16}"
    r"|hooks\.slack\.com/(?:services|workflows)/\w+/\w+/\w{8}|/api/webhooks/[0-9]+/[\w-]{20}"
    r"|PuTTY-User-Key-File-|-----BEGIN PGP PRIVATE KEY"
)
# At the beginning of a word: what stands before a service's random text, of which some part is a digit.
_PREFIXED = (
    r"(?:gl(?:rt|ptt|dt|cbt|soat|ft|agent|oas|imt)-|AT[AC]TT3|lin_(?:api|oauth)_|ntn_|figd_|shp(?:at|ca|pa|ss)_"
    r"|sntry[su]_|pul-|NRAK-|gls?a_|glc_|sbp_|sb_secret_|PMAK-|rubygems_|AKCp|sk_(?:test|prod)_|rk_test_|whsec_"
    r"|xkeysib-|r8_|gsk_|pplx-|xai-|nvapi-|tvly-|fc-|csk-|lsv2_(?:pt|sk)_|pcsk_|e2b_|dckr_oat_|sgp_|CFPAT-|GOCSPX-"
    r"|tskey-(?:auth|api|client)-|ops_eyJ|HRKU-|nfp_|hvr\.|fm[12]_|EAACEdEose0cBA|sq0(?:atp|csp)-|jina_|sl\.u\.|EZAK"
    r"|do[or]_v1_|1//0|sk-lf-|phx_|rnd_|sha256~)(?=[A-Za-z_.+/=-]{0,40}\d)[\w.+/=-]{18}"
)
_WHOLE = (
    r"dapi[0-9a-f]{32}|oy2[a-z0-9]{43}|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{20}|LTAI[A-Za-z0-9]{18}|SK[0-9a-f]{32}"
    r"|A(?:BIA|CCA|3T[A-Z0-9])[A-Z0-9]{16}|amzn\.mws\.[0-9a-f-]{36}|pat-(?:na|eu)\d-[0-9a-f-]{36}"
    r"|dp\.(?:pt|st|ct|scim|audit)\.[\w.-]{18}|\w{10,20}\.atlasv1\.[\w-]{30}|sdk-[0-9a-f]{8}-[0-9a-f-]{27}"
    r"|otpauth://[^ ]{0,300}[?&]secret=[A-Z2-7]{8}"
)
_RARE = re.compile(f"{_ANYWHERE}|(?:^|[^A-Za-z0-9.-])(?:{_PREFIXED}|{_WHOLE})", re.ASCII)


def shows(text: str) -> bool:
    """Whether the text has one of these forms in it."""
    return bool(_RARE.search(text))
