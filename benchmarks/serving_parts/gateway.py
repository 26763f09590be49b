"""Claims: 15,000 requests a second and more in every protocol with everything on, client on the same cores; many times
what peers answer. The model is the identity, so these are the rates of the gateways.

Every server answers the same 16 numbers: ours and MLServer by the Open Inference Protocol, the others in a JSON of
their own that is smaller. Ours is started once a round and loaded in five ways; then with grpc.aio as its transport,
and with TLS.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Figure
from benchmarks.serving_parts import certificate
from benchmarks.serving_parts.contest import Rows, best_settings, contest
from benchmarks.serving_parts.contestants import (
    BENTOML,
    BOTH,
    FASTAPI,
    GRPC_AIO,
    GRPC_STREAM,
    GRPC_UNARY,
    LITSERVE,
    MLSERVER,
    PEERS,
    REST_BINARY,
    REST_JSON,
    Contestant,
    ours,
)
from benchmarks.serving_parts.context import CONNECTIONS, Context
from benchmarks.serving_parts.load import Row
from benchmarks.serving_parts.models import IDENTITY

OURS, GRPCIO, TLS = "ours", "ours with grpcio", "ours with TLS"
KEYS = {
    REST_JSON: "rest_json_rps", REST_BINARY: "rest_binary_rps", GRPC_UNARY: "grpc_unary_rps",
    GRPC_STREAM: "grpc_stream_rps", BOTH: "both_rps",
}  # fmt: skip
PROMISED = {REST_JSON: 15_000.0, REST_BINARY: 15_000.0, GRPC_UNARY: 15_000.0, BOTH: 15_000.0}
PROMISED_P99_MS = 15.0
RIVALS: tuple[tuple[str, Contestant, str, float | None], ...] = (
    ("vs_fastapi", FASTAPI, REST_JSON, None),
    ("vs_mlserver", MLSERVER, REST_JSON, 10.0),
    ("vs_litserve", LITSERVE, REST_JSON, 10.0),
    ("vs_bentoml", BENTOML, REST_JSON, 30.0),
    ("vs_grpc_aio", GRPC_AIO, GRPC_UNARY, None),
    ("vs_mlserver_grpc", MLSERVER, GRPC_UNARY, None),
    ("vs_grpc_aio_stream", GRPC_AIO, GRPC_STREAM, None),
)
"""Figure, peer, kind of load on both sides, times that were promised."""
LOAD = (
    f"{CONNECTIONS} connections, one request at a time on each, one thread of the load generator, everything on the "
    "same two cores"
)


def run(context: Context) -> dict[str, Figure]:
    """All figures of the gateway."""
    chosen = PEERS[:1] if context.quick else PEERS
    settings, tried = best_settings(context, IDENTITY, chosen)
    rows = contest(context, IDENTITY, [*our_servers(context), *chosen], settings=settings)
    return figures(rows, tried)


def our_servers(context: Context) -> list[Contestant]:
    """Ours as it is, by grpc.aio, and with TLS."""
    tls = certificate.made(context.workspace("certificate"))
    return [
        ours(OURS, loads=tuple(KEYS)),
        ours(GRPCIO, loads=(GRPC_UNARY, GRPC_STREAM), transport="grpcio"),
        ours(TLS, loads=(REST_JSON, GRPC_UNARY), tls=tls),
    ]


def figures(rows: Rows, tried: str) -> dict[str, Figure]:
    """Figures of a contest; ``tried`` says in words which settings the peers had."""
    mine = rows[OURS]
    found = {key: _rate(kind, mine[kind]) for kind, key in KEYS.items()}
    worst = max(mine, key=lambda kind: mine[kind].p99_ms)
    found["p99_ms"] = Figure(
        value=mine[worst].p99_ms,
        unit="ms",
        baseline=PROMISED_P99_MS,
        baseline_name="promised at most",
        note=f"smaller is better. The worst of five, {worst}: "
        + ", ".join(f"{kind} {row.p99_ms:.2f}" for kind, row in mine.items())
        + f". {LOAD}.",
    )
    found |= {
        "grpcio_unary_rps": _beside(GRPCIO, GRPC_UNARY, rows),
        "grpcio_stream_rps": _beside(GRPCIO, GRPC_STREAM, rows),
        "tls_rest_json_rps": _beside(TLS, REST_JSON, rows),
        "tls_grpc_unary_rps": _beside(TLS, GRPC_UNARY, rows),
    }
    for key, peer, kind, promised in RIVALS:
        if kind in rows.get(peer.name, {}):
            found[key] = _times(mine[kind], rows[peer.name][kind], f"{peer.name} {peer.version}", kind, promised, tried)
    return found


def _rate(kind: str, row: Row) -> Figure:
    promised = PROMISED.get(kind)
    how = f"{kind}: REST JSON and gRPC unary, half of the connections each" if kind == BOTH else kind
    return Figure(
        value=row.rate,
        unit="requests/s",
        baseline=promised,
        baseline_name="promised at least" if promised else "",
        note=f"bigger is better. {how}, identity of 16 numbers, everything on; {LOAD}. {row}.",
    )


def _beside(name: str, kind: str, rows: Mapping[str, Mapping[str, Row]]) -> Figure:
    """Another way to run ours beside the usual one."""
    row, usual = rows[name][kind], rows[OURS][kind]
    return Figure(
        value=row.rate,
        unit="requests/s",
        baseline=usual.rate,
        baseline_name=f"{OURS}, {kind}",
        note=f"bigger is better. {name}, {kind}: {row}; {OURS}: {usual}.",
    )


def _times(mine: Row, theirs: Row, peer: str, kind: str, promised: float | None, tried: str) -> Figure:
    return Figure(
        value=mine.rate / theirs.rate,
        unit="times the requests a second",
        baseline=promised or 1.0,
        baseline_name=f"{'promised at least' if promised else 'as many'}; {peer}",
        note=f"bigger is better. {kind}, identity of 16 numbers; {LOAD}. Ours {mine}; {peer} {theirs}. "
        f"Peers' settings: {tried}.",
    )
