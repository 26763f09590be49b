"""LitServe: one API with a batch of the size and time that its command line gives.

python -m benchmarks.serving_parts.peer_litserve_server '{"port": 8000, "max_batch_size": 64, ...}'
"""

import json
import sys
from typing import Any

import litserve

from benchmarks.serving_parts.models import chosen, numpy_rows


class Api(litserve.LitAPI):
    """The model behind LitServe's hooks; a batch of one comes as a single row."""

    def setup(self, device: Any) -> None:
        """Build it in the worker's process."""
        _, self.model = chosen()

    def decode_request(self, request) -> Any:  # noqa: ANN001  # LitServe takes an annotation for the body's schema
        """The numbers of one request."""
        return request["x"]

    def batch(self, inputs: Any) -> Any:
        """Rows of one batch."""
        return numpy_rows(inputs)

    def predict(self, x: Any) -> Any:
        """A batch of rows, or one row where batching is off."""
        rows = numpy_rows(x)
        return self.model(rows) if rows.ndim == 2 else self.model(rows[None])[0]

    def unbatch(self, output: Any) -> Any:
        """One answer a request."""
        return list(output)

    def encode_response(self, output: Any) -> Any:
        """The body of one answer."""
        return {"y": output.tolist()}


def main() -> None:
    """Serve until SIGTERM."""
    given = json.loads(sys.argv[1])
    api = Api(max_batch_size=given["max_batch_size"], batch_timeout=given["batch_timeout"])
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=1, fast_queue=given["fast_queue"], timeout=False
    )
    server.run(
        host="127.0.0.1",
        port=given["port"],
        num_api_servers=given["api_servers"],
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
