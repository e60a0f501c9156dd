"""The discovery document: who we are, what can be had, and at what price (§9)."""

from typing import Any

from tilt.orchestrator.offer import BYOC
from tilt.orchestrator.orchestrator import Orchestrator
from tilt.orchestrator.runners import Runner


def discovery_document(orchestrator: Orchestrator, origin: str) -> list[dict[str, Any]]:
    """List our runners under the origin that was asked.

    Models are told under the TLS origin, even if plain HTTP was asked: clients reach them by gRPC.
    """
    runners = [_runner(runner, orchestrator, origin) for runner in orchestrator.runners if runner.ready]
    models = [model.key for model in orchestrator.offer.models.values() if model.pipeline != BYOC]
    apps = [runner["app"] for runner in runners]
    if origin == orchestrator.tls_url:
        return [_entry(origin, [*apps, *models], runners)]
    entries = [_entry(origin, apps, runners)]
    if orchestrator.tls_url is not None:
        entries.append(_entry(orchestrator.tls_url, models, []))
    return entries


def _entry(address: str, capabilities: list[str], runners: list[dict[str, Any]]) -> dict[str, Any]:
    entry = {"address": address, "score": 1, "capabilities": sorted(set(capabilities)), "runners": runners}
    return {key: value for key, value in entry.items() if value != []}


def _runner(runner: Runner, orchestrator: Orchestrator, origin: str) -> dict[str, Any]:
    """Tell what clients need; what is unknown about a runner is left out, not empty."""
    used = orchestrator.sessions.in_use(runner.id)
    price = runner.price.fraction
    described = {
        "url": f"{origin}{runner.path}",
        "gpu": runner.gpu,
        "app": runner.app,
        "version": runner.version,
        "metadata": runner.metadata,
        "mode": runner.mode,
    }
    return {
        **{key: value for key, value in described.items() if value},
        "capacity": runner.capacity,
        "capacity_used": used,
        "capacity_available": runner.capacity - used,
        "price_info": {
            "price": int(price) if price.is_integer() else float(price),
            "currency": "wei",
            "unit": runner.unit,
        },
    }
