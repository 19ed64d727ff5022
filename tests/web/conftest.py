"""A server of two small models, in a thread."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

from flowgression import ARFlow, FlowAR, make_pipeline
from flowgression.web.models import Served, describe
from flowgression.web.server import PageServer


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def small_models() -> dict[str, Served]:
    arflow = ARFlow(sample_size=8, patch_size=4, in_channels=1, hidden_size=16, depth=2, num_heads=2, num_classes=4)
    flowar = FlowAR(
        sample_size=8, patch_size=2, in_channels=1, scales=(1, 2, 4), hidden_size=16, encoder_depth=1, decoder_depth=1,
        num_heads=2, flow_width=16, flow_depth=1, flow_num_heads=1, num_classes=4,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    models = {}
    for name, model in (("a", arflow), ("f", flowar)):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15, generator=generator)
        pipe = make_pipeline(model.eval(), id2label={0: "zero", 1: "one, uno"})
        pipe.set_progress_bar_config(disable=True)
        models[name] = Served(pipe, describe(name, pipe))
    return models


@pytest.fixture(scope="session")
def models() -> dict[str, Served]:
    return small_models()


@pytest.fixture
def server(models: dict[str, Served]) -> Iterator[PageServer]:
    server = PageServer(models)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ask(server: PageServer) -> Callable[..., Answer]:
    """A request with the right Host and token, unless other headers are given (None leaves one out)."""

    def send(method: str, path: str, content: Any = None, body: bytes | None = None, **headers: str | None) -> Answer:
        given = {
            "Host": f"127.0.0.1:{server.server_port}",
            "Authorization": f"Bearer {server.token}",
            "Content-Type": "application/json",
        }
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            content = json.dumps(content).encode() if content is not None else body
            if content is not None:
                given.setdefault("Content-Length", str(len(content)))
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(content)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    return send
