"""Ways to use a service's credential for what was not declared: each succeeds by what people write, in the same test.

The agent writes the bytes. It may GET and POST below `/api/` of one service, and wants what is elsewhere there, another
method, to be taken for somebody else, to see the credential, or to have it sent to a server of its own; by paths and
queries that servers read otherwise, by headers that frameworks heed, by a second request, by a redirect.
What closes them: paths that anybody could read otherwise are refused, headers and cookies that make a request another
one end at the gateway, which follows nothing, and what was judged is all that goes (`gateway/services/`).

The attacks, the service and the forwarder are in tests/support/gateway_attacks/service_attacks.py.
"""

from pathlib import Path

from gatewaykit import authority, basic, document, running
from service_attacks import ELSEWHERE, HEADER, HOST, TOKEN, attacks, generous, plain_forwarder, succeeds


async def test_each_succeeds_by_a_plain_forwarder_and_not_by_the_gateway(tmp_path: Path) -> None:
    trust = authority(tmp_path, HOST, ELSEWHERE)
    (tmp_path / "credential").write_text(TOKEN)
    async with generous(trust) as place, plain_forwarder(place) as plain:
        header = {"name": HEADER, "file": str(tmp_path / "credential")}
        service = {"name": "issues", "host": f"{HOST}:{place.port}", "header": header, "paths": ["/api/*"],
                   "methods": ["GET", "POST"]}  # fmt: skip
        configuration = document(tmp_path, services=[service])
        configuration["provider"]["caFile"] = str(trust.bundle)
        configuration["egress"]["hosts"] = {HOST: ["127.0.0.1"], ELSEWHERE: ["127.0.0.1"]}
        with running(tmp_path, configuration) as gateway:
            listed = attacks()
            assert len(listed) >= 35
            for attack in listed:
                assert await succeeds(attack, place, plain), f"{attack.name}: as an attack it does not work"
                assert not await succeeds(attack, place, gateway.proxy, basic()), attack.name
            # What is refused above is not refused for another reason.
            allowed = next(one for one in listed if one.name == "a cookie that is to be kept")
            await succeeds(allowed, place, gateway.proxy, basic())
            assert [(one.method, one.path, one.who) for one in place.asked] == [("GET", "/api/a", [TOKEN])]
