"""Credentials in command lines: as the value of an option, beside it or after it, and as clients take them. Pure.

A command line is a list of arguments, of which one may be a shell's whole script, or a text that a person wrote for the
agent. So in the middle of an argument only what no sentence has is taken for a credential, and as an argument of its
own whatever follows an option that takes one. References (`$X`, `@file`) pass.

The patterns mean the same to RE2 and to Python's re, and take time linear in the text. What an API server may spend on
the rules of a resource goes with their length, and is nearly used up: the rarer clients are known to measurements only.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from claude_sandbox.api.credentials.words import is_text, parted
from claude_sandbox.api.rules import Rule, literal

END = "\x1f"
"""Stands between arguments where they are looked at together: ASCII's own unit separator, which nobody writes."""

# What begins a reference, a placeholder or another option is no value. `\x27` is a quote, where a text of CEL ends.
_VALUE = f"[^$@{{<* {END}-]"
# Two numbers apart with letters between them, and then more: as no word is written.
_OPAQUE = "[\\w.-]*\\d[A-Za-z]+\\d[\\w.+/-]{6}"

IN_ARGUMENT = (
    # As environment variables are written; an upper-case name is no word of a sentence.
    '(?:API_?KEY|ACCESS_KEY|SECRET_KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|_PASS)=["\\x27]?[^"\\x27$` ]'
    "|(?:^|[^\\w.-])--?[\\w.-]*(?:(?:api|access|secret|auth)[-_]?[kK]ey|[tT]oken|[pP]ass(?:word|wd|phrase)|[\\w.][-_]?[sS]ecret)="
    # Of Docker's builds a secret is told by where it is: id=NAME,src=FILE.
    '["\\x27]?(?:[^"\\x27$ {<i]|i[^d])'
    # Variables in JSON, for example of an MCP server.
    '|"[A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD)" ?: ?"[^"$<{]'
)
"""In one argument, by itself."""

# Options that take a credential as their value.
_OPTIONS = (
    "--?(?:[a-z_-]*(?:api|access|secret)[-_]?[kK]ey"
    "|(?:[a-z]*(?:access|api|auth|bot|hub|lab|user)[-_]?)?[tT]oken"
    "|(?:[a-z]*(?:db|user|admin|proxy|key)[-_]?)?[pP]ass(?:word|wd|phrase)"
    "|[a-z]+(?:[-_]s|S)ecret)"
)
_AFTER_OPTION = f"(?:^|[ {END}]){_OPTIONS}(?:{END}(?:i[^d]|[^$@{{<*i {END}-])| +{_OPAQUE})"

_S = f"[ {END}]"

# A short option means what its program says.
_CLIENTS = (
    ("curl", f"[ {END}](?:-[a-zA-Z]*[uU]|--user)[ {END}]?[^$: {END}]+:[^$ {END}]"),
    ("(?:mysql|mariadb)[a-z-]*", f"[ {END}]-p{_VALUE}"),
)
_RARE = (
    ("sshpass|login", f"[ {END}]-p[ ={END}]?[\"']?{_VALUE}"),
    ("curl|wget", f"[ {END}](?:-U|--user|--proxy-user)[ ={END}][\"']?[^$: {END}]+:[^$ {END}]"),
    ("curl|wget", f"[ {END}]--(?:(?:http|ftp|proxy)-password|oauth2-bearer|(?:proxy-)?pass)[ ={END}][\"']?{_VALUE}"),
    ("curl", f"[ {END}](?:-b|--cookie)[ ={END}][\"']?[^$=\"' {END}]+=[^$\"' {END}]"),
    ("curl", f"[ {END}](?:-E|--cert|--proxy-cert)[ ={END}]?[\"']?[^$: {END}]+:[^$/\\\\ {END}]"),
    ("curl", f"[ {END}](?:-x|--proxy|--preproxy|--socks[0-9a-z-]+)[ ={END}]?[\"']?[^$:/@ {END}]+:[^$:/@ {END}]+@"),
    ("npm|pnpm|yarn", f":_(?:authToken|auth|password)[ ={END}][\"']?{_VALUE}"),
    ("helm|flux|k9s", f"[ {END}]--kube-token[ ={END}][\"']?{_VALUE}"),
    ("https?|xhs?", f"[ {END}](?:-a|--auth)[ ={END}][\"']?[^$:/\"' {END}]+:[^$\"' {END}]"),
    ("mycli|xtrabackup|7z|7za|7zz", f"[ {END}]-p{_VALUE}"),
    ("mongo(?:sh|dump|restore|export|import)?|cqlsh|rabbitmqadmin", f"[ {END}]-p[ ={END}]?{_VALUE}"),
    ("sqlcmd|bcp|mosquitto_(?:pub|sub|rr)|zip|unzip|ipmitool", f"[ {END}]-P[ {END}]?{_VALUE}"),
    ("ldap(?:search|add|modify|delete|whoami|passwd|compare)", f"[ {END}]-w[ {END}]?{_VALUE}"),
    ("(?:redis|keydb|valkey)-cli", f"[ {END}](?:-a|--pass)[ {END}]{_VALUE}"),
    ("smbclient|rpcclient|smbget", f"[ {END}](?:-U|--user)[ ={END}]?[^$% {END}]+%[^$ {END}]"),
    ("lftp", f"[ {END}]-u[ {END}][^$, {END}]+,[^$ {END}]"),
    ("host=[^ ]+|dbname=[^ ]+|psql", f"[ \"'{END}]password=[^$\"' {END}]"),
    ("skopeo|buildah|podman|crane", f"[ {END}]--(?:src-|dest-)?creds[ ={END}][^: {END}]+:[^$ {END}]"),
    ("openssl", f"[ {END}]-pass(?:in|out)?[ {END}]pass:[^$ {END}]"),
    ("aws", f"[ {END}]aws_(?:secret_access_key|session_token)[ ={END}][^$\"' {END}]"),
    ("az|twine|oc|poetry|rdesktop|ncftp(?:get|put|ls)?", f"[ {END}]-p[ {END}]{_VALUE}"),
    ("etcdctl", f"[ {END}]--user[ ={END}][^$: {END}]+:[^$ {END}]"),
    ("snyk", f"[ {END}]auth[ {END}][\\w-]{{20}}"),
    ("vault", f"[ {END}]login[ {END}][^$@{{<* ={END}-]{{3,}}(?:[ {END}]|$)"),
    (
        "poetry",
        f"[ {END}](?:pypi-token\\.[^ {END}]+[ {END}]{_VALUE}"
        f"|http-basic\\.[^ {END}]+[ {END}][^ {END}]+[ {END}]{_VALUE})",
    ),
    ("ngrok|cloudflared", f"[ {END}](?:(?:add-)?authtoken|service[ {END}]install)[ {END}]{_VALUE}"),
    ("mcl?i?", f"[ {END}]alias[ {END}]set[ {END}][^ {END}]+[ {END}][^ {END}]+[ {END}][^ {END}]+[ {END}]{_VALUE}"),
    ("sqlplus|sqlldr|expdp|impdp|rman", f"[ {END}][\\w-]+/[^@/$ {END}]+@"),
    ("openssl", f"[ {END}]-k[ {END}]{_VALUE}"),
    ("ssh-keygen", f"[ {END}]-N[ {END}]{_VALUE}"),
    ("htpasswd", f"[ {END}]-[a-zA-Z]*b[a-zA-Z]*[ {END}][^ {END}]+[ {END}][^ {END}]+[ {END}]?{_VALUE}"),
    ("rar", f"[ {END}]-h?p{_VALUE}"),
    ("plink|pscp|psftp", f"[ {END}]-pw[ {END}]{_VALUE}"),
    ("[a-z]*freerdp", f"[ {END}]/p:{_VALUE}"),
    ("doctl|fly|flyctl|codecov", f"[ {END}]-t[ {END}]{_VALUE}"),
    (f"gh{_S}secret{_S}set", f"[ {END}](?:-b|--body)[ ={END}]{_VALUE}"),
    (f"az{_S}keyvault{_S}secret{_S}set", f"[ {END}]--value[ ={END}]{_VALUE}"),
    ("aws", f"[ {END}]--secret-string[ ={END}](?!file:){_VALUE}"),
    (f"create{_S}secret", f"[ {END}]--from-literal[ ={END}][^= {END}]+={_VALUE}"),
    (
        f"vault{_S}kv{_S}(?:put|patch)|(?:doppler|fly|flyctl|supabase){_S}secrets{_S}set",
        f"[ {END}][A-Za-z][\\w.-]*={_VALUE}",
    ),
    ("cargo", f"[ {END}]login[ {END}]{_VALUE}"),
    ("nuget", f"[ {END}](?:set[aA]pi[kK]ey|-k)[ {END}]{_VALUE}"),
    ("user(?:add|mod)", f"[ {END}]-p[ {END}]{_VALUE}"),
    ("ttyd|gotty", f"[ {END}](?:-c|--credential)[ ={END}][^$: {END}]+:[^$ {END}]"),
    (f"bundle{_S}config", f"[ {END}][\\w.-]+[ {END}][^$:/ {END}]+:[^$:/ {END}]"),
    (f"composer{_S}config", f"[ {END}](?:http-basic|[a-z]+-(?:oauth|token))\\.[^ {END}]+[ {END}]{_VALUE}"),
    (f"rabbitmqctl{_S}(?:add_user|change_password|authenticate_user)", f"_[a-z]+[ {END}][^ {END}]+[ {END}]{_VALUE}"),
    ("snmp[a-z]+", f"[ {END}]-[cAX][ {END}]?(?!public[ {END}]){_VALUE}"),
    ("cvs", f":pserver:[^:@ {END}]+:[^$@ {END}]+@"),
    (f"llm{_S}keys{_S}set", f"[ {END}]--value[ ={END}]{_VALUE}"),
    ("nmcli", f"[ {END}]password[ {END}]{_VALUE}"),
    ("wpa_passphrase", f"wpa_passphrase[ {END}][^ {END}]+[ {END}]{_VALUE}"),
    ("sonar-scanner|mvn|gradlew?", f"[ {END}]-Dsonar\\.login={_VALUE}"),
    ("netlify|ntl", f"[ {END}]--auth[ ={END}]{_VALUE}"),
    ("vault", f"[ {END}]secret_id={_VALUE}"),
    ("chpasswd", f"[ {END}][\\w.-]+:[^$ {END}]+ *[{END}|]"),
    (
        "helm",
        f"[ {END}]--set(?:-string)?[ ={END}][^ {END}]*"
        f"(?:[pP]assword|(?<!isting)[sS]ecret|[tT]oken|[aA]pi-?[kK]ey)=[^${{< {END}]",
    ),
)


def _program(names: str) -> str:
    return f"(?:^|[ /{END}])(?:{names})[ {END}]"


_COMPILED = re.compile(_AFTER_OPTION, re.ASCII)
_COMPILED_CLIENTS = tuple(
    (re.compile(_program(names)), re.compile(option, re.ASCII)) for names, option in (*_CLIENTS, *_RARE)
)
# What a program of PostgreSQL's is told of a connection is one word with spaces.
_CONNECTION = re.compile(r"\w+=\S+ ")
# None of them is in most command lines, which are then done with.
_ANY_CLIENT = re.compile(_program("|".join(names for names, _ in (*_CLIENTS, *_RARE))))


def takes_credential(words: Sequence[str]) -> bool:
    """Whether an argument is a credential because of those around it: of its option, or of its program."""
    if _COMPILED.search(END.join(words)):
        return True
    # A program that a text only speaks about does not run.
    line = END.join(word if _CONNECTION.match(word) or not is_text(word) else "" for word in parted(words)) + END
    return bool(_ANY_CLIENT.search(line)) and any(
        program.search(line) and option.search(line) for program, option in _COMPILED_CLIENTS
    )


def taken_credentials(of: Callable[[Any], Sequence[str]], message: str) -> tuple[Rule, ...]:
    """The rules of a model with a `command` and `args`, of which `of` gives the words, one after the other."""
    line = "(self.command.join('\\u001f') + '\\u001f' + self.args.join('\\u001f'))"

    def rule(*patterns: str) -> Rule:
        compiled = [re.compile(pattern, re.ASCII) for pattern in patterns]
        return Rule(
            " || ".join(f"!{line}.matches({literal(pattern.replace(END, chr(92) + 'x1f'))})" for pattern in patterns),
            lambda model: not all(one.search(END.join(of(model))) for one in compiled),
            message,
            field="args",
            confidential=True,
        )

    return (rule(_AFTER_OPTION), *(rule(_program(names), option) for names, option in _CLIENTS))
