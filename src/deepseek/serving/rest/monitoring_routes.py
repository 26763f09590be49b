"""What the monitoring is asked and told over REST: Prometheus' scrape, and true answers that come later.

Labels are joined with predictions by the request's id: the protocol's own ``id``, or the header ``x-request-id``::

    POST /v2/models/{model}[/versions/{version}]/labels
    {"labels": [{"id": "order-17", "truth": "positive"}, {"id": "order-18", "row": 1, "truth": "negative"}]}

The answer counts how many were joined, came too late, and so on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from deepseek.errors import UnknownNameError
from deepseek.monitoring.quality.monitor import Label
from deepseek.serving.errors import RequestError
from deepseek.serving.gateway import Gateway
from deepseek.serving.rest.bodies import BodyReader, decoded
from deepseek.serving.rest.http import Response, Scope, Transport, json_response


class TrueAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """What a row's answer should have been; ``row`` counts the rows of a request from 0."""

    id: str
    truth: str | float | bool
    row: int = 0


class LabelsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a labels request."""

    labels: list[TrueAnswer]


_decoder = msgspec.json.Decoder(LabelsRequest)


class MonitoringRoutes:
    """Handlers of ``/metrics`` and ``/v2/models/{model}/labels``."""

    def __init__(self, gateway: Gateway, bodies: BodyReader) -> None:
        self._gateway = gateway
        self._bodies = bodies

    async def metrics(self, scope: Scope, transport: Transport) -> Response:
        """``GET /metrics`` in Prometheus' text format or OpenMetrics; answers while the server drains, too."""
        monitor = self._gateway.monitor
        if monitor is None:
            raise UnknownNameError("URL", scope.path, (), "This server was started without monitoring.")
        self._gateway.identify(scope.headers)
        kind, body = await monitor.scrape(scope.headers.get("accept") or "")
        return Response(200, [("content-type", kind)], body)

    def labels(self, name: str, version: str = "") -> Callable[[Scope, Transport], Awaitable[Response]]:
        """``POST /v2/models/{model}[/versions/{version}]/labels``."""

        async def handle(scope: Scope, transport: Transport) -> Response:
            with self._gateway.begin("rest", "labels", scope.headers) as call:
                body = await self._bodies.json(scope.headers, transport)
                request = decoded(_decoder.decode, body, "the body is not a list of labels")
                loaded = call.model(name, version)
                monitor = self._gateway.monitor
                if monitor is None or loaded.quality is None:
                    raise RequestError("this server does not watch the quality of models: see monitoring.quality")
                labels = [Label(each.id, each.truth, each.row) for each in request.labels]
                return json_response(await monitor.add_labels(loaded.name, labels, loaded.version))

        return handle
