"""Envoy: as a forward proxy, its HTTP dynamic forward proxy with a virtual host for the names that are allowed; as a
broker, a route for one path, the filters `api_key_auth` and `credential_injector`."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.bench.gateway.peers.running import Running, Wanted, free_port, process

_TYPE = "type.googleapis.com/envoy.extensions."
_FILTERS = f"{_TYPE}filters.http."
_ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_FILTERS}router.v3.Router"}}


@contextlib.asynccontextmanager
async def envoy(program: Path, directory: Path, wanted: Wanted) -> AsyncIterator[Running]:
    """It, with one thread, as both."""
    proxy, broker = free_port(), free_port()
    configuration = directory / "envoy.json"
    configuration.write_text(json.dumps(_configuration(wanted, proxy, broker)))
    argv = (str(program), "-c", str(configuration), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id")
    async with process(argv, directory, proxy) as started:
        yield Running(started.pid, f"127.0.0.1:{proxy}", f"127.0.0.1:{broker}")


def _configuration(wanted: Wanted, proxy: int, broker: int) -> dict[str, Any]:
    cache = {
        "name": "names",
        "dns_lookup_family": "V4_PREFERRED",
        "typed_dns_resolver_config": {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": f"{_TYPE}network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [_address(wanted.dns)],
                "dns_resolver_options": {"no_default_search_domain": True},
            },
        },
    }
    return {
        "static_resources": {
            "secrets": [{"name": "key", "generic_secret": {"secret": {"inline_string": wanted.key}}}],
            "listeners": [
                _listener("proxy", proxy, _proxy_routes(wanted), [_dynamic(cache)], {"upgrade_configs": [_CONNECT]}),
                _listener("broker", broker, _broker_routes(), _broker_filters(wanted), {}),
            ],
            "clusters": [
                {
                    "name": "dynamic",
                    "lb_policy": "CLUSTER_PROVIDED",
                    "cluster_type": {
                        "name": "envoy.clusters.dynamic_forward_proxy",
                        "typed_config": {
                            "@type": f"{_TYPE}clusters.dynamic_forward_proxy.v3.ClusterConfig",
                            "dns_cache_config": cache,
                        },
                    },
                },
                {
                    "name": "provider",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "provider",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(wanted.provider)}}]}],
                    },
                },
            ],
        }
    }


_CONNECT = {"upgrade_type": "CONNECT"}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(name: str, port: int, host: dict[str, Any], filters: list[Any], more: dict[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, **host}]},
        "http_filters": [*filters, _ROUTER],
        **more,
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": _address(port), "filter_chains": [chain]}


def _proxy_routes(wanted: Wanted) -> dict[str, Any]:
    return {
        "domains": [f"{name}:{port}" for name in wanted.names for port in wanted.ports],
        "routes": [
            {"match": {"connect_matcher": {}},
             "route": {"cluster": "dynamic", "upgrade_configs": [{**_CONNECT, "connect_config": {}}]}},
            {"match": {"prefix": "/"}, "route": {"cluster": "dynamic"}},
        ],
    }  # fmt: skip


def _dynamic(cache: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.dynamic_forward_proxy",
        "typed_config": {"@type": f"{_FILTERS}dynamic_forward_proxy.v3.FilterConfig", "dns_cache_config": cache},
    }


def _broker_routes() -> dict[str, Any]:
    return {
        "domains": ["*"],
        "routes": [{"match": {"path": "/v1/messages"}, "route": {"cluster": "provider", "timeout": "0s"}}],
    }


def _broker_filters(wanted: Wanted) -> list[dict[str, Any]]:
    known = {
        "credentials": [{"key": wanted.placeholder, "client": "sandbox"}],
        "key_sources": [{"header": "x-api-key"}],
    }
    generic = {
        "@type": f"{_TYPE}http.injected_credentials.generic.v3.Generic",
        "credential": {"name": "key"},
        "header": "x-api-key",
    }
    injected = {
        "overwrite": True,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
    }
    return [
        {"name": "envoy.filters.http.api_key_auth",
         "typed_config": {"@type": f"{_FILTERS}api_key_auth.v3.ApiKeyAuth", **known}},
        {"name": "envoy.filters.http.credential_injector",
         "typed_config": {"@type": f"{_FILTERS}credential_injector.v3.CredentialInjector", **injected}},
    ]  # fmt: skip
