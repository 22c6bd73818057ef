"""The HTTP API on 9440: thin handlers over `ControlPlane` and `Observer`, OpenAPI at `/openapi.json`.

Everything under `/v1` but `/v1/health` needs the bearer token. Errors are JSON: `message`, `hint`, `where`.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from typing import Final

import msgspec
from litestar import Litestar, Request, Response, Router, delete, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OpenAPIMediaType, RequestBody, Schema, SecurityScheme
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.openapi.spec.operation import Operation
from litestar.params import FromPath, FromQuery, JSONBody, RawBody

import atoll
from atoll.config.spec import DEFAULT_TENANT, FunctionSpec
from atoll.control import applying
from atoll.control.answers import (
    Adoption,
    Applied,
    ApplyOrder,
    Change,
    Function,
    Health,
    Pop,
    PopAction,
    Problem,
    ProcessKill,
    Purge,
    PurgeWish,
    RollbackOrder,
    Sites,
    Status,
    Version,
)
from atoll.control.deployments import ControlPlane, existing
from atoll.control.observe import Observer
from atoll.errors import AtollError, RemoteError
from atoll.functions.workers.bundle import MAX_BUNDLE
from atoll.wire.messages import CatchmentTable

PORT: Final = 9440

_log = logging.getLogger("atoll.api")


class Services(msgspec.Struct, frozen=True):
    """What handlers work with."""

    plane: ControlPlane
    observer: Observer


@dataclass
class _BundleBody(Operation):
    """An operation whose body is a bundle's bytes."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = RequestBody(
            {"application/octet-stream": OpenAPIMediaType(schema)}, "a bundle", required=True
        )


@get("/health", opt={"public": True}, summary="Does the API answer")
async def health(services: NamedDependency[Services]) -> Health:
    return Health(ok=True, store=services.plane.connected)


@get("/status", summary="The whole network and what is wrong with it")
async def status(services: NamedDependency[Services]) -> Status:
    specs = None
    if services.plane.connected:
        try:
            specs = (await services.plane.store.load()).specs
        except RemoteError as error:
            _log.warning("status without the store: %s", error)
    return await services.observer.status(specs)


@get("/pops", summary="Every PoP")
async def pops(services: NamedDependency[Services]) -> tuple[Pop, ...]:
    return await services.observer.pops()


@post("/pops/{pop:str}/{action:str}", status_code=200, summary="kill, start, stop, drain or undrain a PoP")
async def pop_action(
    services: NamedDependency[Services],
    pop: FromPath[str],
    action: FromPath[str],
    force: FromQuery[bool] = False,
) -> PopAction:
    return await services.observer.act(pop, action, force=force)


@post("/processes/{name:str}/kill", status_code=200, summary="SIGKILL one process: nats, gateway")
async def kill_process(services: NamedDependency[Services], name: FromPath[str]) -> ProcessKill:
    await services.observer.kill_process(name)
    return ProcessKill(name=name)


@post(
    "/processes/{pop:str}/{name:str}/kill", status_code=200, summary="SIGKILL a PoP's: lhr/agent, lhr/edge-0"
)
async def kill_pop_process(
    services: NamedDependency[Services], pop: FromPath[str], name: FromPath[str]
) -> ProcessKill:
    await services.observer.kill_process(f"{pop}/{name}")
    return ProcessKill(name=f"{pop}/{name}")


@get("/catchment", summary="Where each city's network goes, or would go without some PoPs")
async def catchment(
    services: NamedDependency[Services], without: FromQuery[list[str] | None] = None
) -> CatchmentTable:
    codes = [code for item in without or [] for code in item.split(",") if code]
    return await services.observer.catchment(tuple(codes))


@get("/functions", summary="Functions and the versions that serve")
async def functions(services: NamedDependency[Services]) -> tuple[Function, ...]:
    specs = (await services.plane.store.load()).specs
    return tuple(_function(spec) for spec in specs.functions if spec.tenant == DEFAULT_TENANT)


@get("/functions/{name:str}/versions", summary="A function's versions, newest last")
async def versions(services: NamedDependency[Services], name: FromPath[str]) -> tuple[Version, ...]:
    return _versions(existing((await services.plane.store.load()).specs, name))


@post(
    "/functions/{name:str}/deploy",
    status_code=200,
    request_max_body_size=MAX_BUNDLE,
    operation_class=_BundleBody,
    summary="Bring a bundle into service on every PoP",
)
async def deploy(services: NamedDependency[Services], name: FromPath[str], body: RawBody) -> Change:
    return await services.plane.deploy(name, body)


@post("/functions/{name:str}/rollback", status_code=200, summary="Bring an earlier version back")
async def rollback(
    services: NamedDependency[Services], name: FromPath[str], data: JSONBody[RollbackOrder | None] = None
) -> Change:
    to = data.to if data else None
    return await services.plane.rollback(name, None if to is None else str(to))


@delete("/functions/{name:str}", status_code=200, summary="Take a function out of the network")
async def remove(services: NamedDependency[Services], name: FromPath[str]) -> Change:
    return await services.plane.remove(name)


@post("/purge", status_code=200, summary="Have no PoP serve what was stored, with a receipt from each")
async def purge(services: NamedDependency[Services], data: JSONBody[PurgeWish]) -> Purge:
    down = await services.observer.down()
    return await services.plane.purge(data, down)


@get("/sites", summary="Sites and routes, and the pools and origins there are")
async def sites(services: NamedDependency[Services]) -> Sites:
    return await applying.sites(services.plane)


@post("/sites/apply", status_code=200, summary="Put a policy's sites, pools and origins into the network")
async def apply(services: NamedDependency[Services], data: JSONBody[ApplyOrder]) -> Applied:
    return await applying.apply(services.plane, data)


@post("/store/adopt", status_code=200, summary="Have every PoP follow this store")
async def adopt_store(services: NamedDependency[Services]) -> Adoption:
    return await services.plane.adopt()


def create_app(plane: ControlPlane, observer: Observer, token: str) -> Litestar:
    """The ASGI application."""
    services = Services(plane, observer)
    expected = f"Bearer {token}".encode()

    def require_token(connection: ASGIConnection, handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]
        given = connection.headers.get("authorization", "").encode()
        if not handler.opt.get("public") and not hmac.compare_digest(given, expected):
            raise RemoteError("this needs the network's token", 401, "Authorization: Bearer <token>")

    handlers = [health, status, pops, pop_action, kill_process, kill_pop_process, catchment]
    handlers += [functions, versions, deploy, rollback, remove, purge, adopt_store, sites, apply]
    return Litestar(
        [Router("/v1", route_handlers=handlers, guards=[require_token])],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        exception_handlers={AtollError: _on_error, HTTPException: _on_http_error},
        openapi_config=_openapi(),
        logging_config=None,
    )


def _openapi() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer")
    return OpenAPIConfig(
        title="Atoll",
        version=atoll.__version__,
        path="/",
        render_plugins=[JsonRenderPlugin()],
        components=Components(security_schemes={"token": bearer}),
        security=[{"token": []}],
    )


def _on_error(_request: Request, error: AtollError) -> Response[Problem]:  # type: ignore[type-arg]
    """A user's mistake is 422 unless the error knows better."""
    status_code = error.status if isinstance(error, RemoteError) else 422
    return Response(
        Problem(message=error.message, hint=error.hint, where=error.where), status_code=status_code
    )


def _on_http_error(_request: Request, error: HTTPException) -> Response[Problem]:  # type: ignore[type-arg]
    return Response(Problem(message=error.detail), status_code=error.status_code)


def _function(spec: FunctionSpec) -> Function:
    return Function(
        name=spec.name,
        tenant=spec.tenant,
        version=spec.active,
        number=next((v.number for v in spec.versions if v.id == spec.active), 0),
        previous=spec.previous,
        routes=spec.routes,
        versions=len(spec.versions),
    )


def _versions(spec: FunctionSpec) -> tuple[Version, ...]:
    return tuple(
        Version(
            id=version.id,
            number=version.number,
            created_s=version.created_s,
            size=version.size,
            routes=version.routes,
            active=version.id == spec.active,
            previous=version.id == spec.previous,
        )
        for version in spec.versions
    )
