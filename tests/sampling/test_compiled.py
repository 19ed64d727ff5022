"""Compiled sampling: how many graphs it makes, and the same images."""

from typing import Any

import pytest
import torch
import torch._inductor.config

from flowgression import InputError, make_pipeline
from flowgression.sampling import compiled
from flowgression.sampling.compiled import compile_for_sampling, with_own_outputs
from tests.families.cases import FAMILY_CASES
from tests.graphs.checks import Graphs

CALL: dict[str, Any] = {"class_labels": [1, 2, 2], "num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "pt"}
SCALES_OF_FLOWAR = 3
CASES = [
    ("arflow", {}, 1),
    ("arflow", {"solver": "heun"}, 1),
    ("sit", {}, 1),
    ("sit", {"guidance_interval": (0.3, 1.0)}, 2),  # with the null half and without
    ("flowar", {}, SCALES_OF_FLOWAR),
    ("fastflowar", {}, SCALES_OF_FLOWAR),
    ("hofar", {"solver": "taylor"}, SCALES_OF_FLOWAR),  # two heads, which share them
]


def draw(pipe: Any, **changes: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe(generator=torch.Generator().manual_seed(0), **(CALL | changes)).images


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a page of torch's when the first image is drawn."""
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/nonexistent/g++",))
    pipe = make_pipeline(FAMILY_CASES["sit"].model())
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler on a CPU"):
        pipe.compile()
    pipe.compile(backend="eager")


@pytest.mark.parametrize(("name", "changes", "count"), CASES)
def test_one_graph_for_all_steps(name: str, changes: dict[str, Any], count: int) -> None:
    case, graphs = FAMILY_CASES[name], Graphs()
    torch._dynamo.reset()
    pipe = make_pipeline(case.model()).compile(backend=graphs)
    for steps in (3, 5):
        found = draw(pipe, **changes, num_inference_steps=steps)
        expected = draw(make_pipeline(case.model()), **changes, num_inference_steps=steps)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(graphs.found) == count


def test_more_scales_than_torch_allows_by_default() -> None:
    """Nine scales are nine graphs; torch stops at eight."""
    case, graphs = FAMILY_CASES["flowar"], Graphs()
    torch._dynamo.reset()
    model = case.model(sample_size=9, patch_size=1, scales=list(range(1, 10)))
    draw(make_pipeline(model).compile(backend=graphs), num_inference_steps=1)
    assert len(graphs.found) == 9


def test_a_growing_state_is_not_a_graph_for_every_step() -> None:
    case, graphs = FAMILY_CASES["arflow"], Graphs()
    torch._dynamo.reset()
    draw(make_pipeline(case.model(context="full")).compile(backend=graphs), num_inference_steps=12)
    assert len(graphs.found) <= 3  # without a state, with one, with one of any size


def test_outputs_are_kept_from_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a CUDA graph does, the call writes its output where the last one is; on CUDA models are called like that."""
    memory, steps = torch.zeros(2), []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(1))
    call = with_own_outputs(lambda value: {"output": memory.fill_(value)})
    first, second = call(1.0), call(2.0)
    assert first["output"].tolist() == [1, 1]
    assert second["output"].tolist() == [2, 2]
    assert len(steps) == 2


def test_on_cuda_with_cuda_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = FAMILY_CASES["sit"].model(), {}

    def note(self: Any, **options: Any) -> None:
        seen.update(options)
        self._compiled_call_impl = lambda: None

    monkeypatch.setattr(torch.nn.Module, "compile", note)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    wrapped: list[Any] = []
    monkeypatch.setattr(compiled, "with_own_outputs", lambda call: wrapped.append(call) or call)
    compile_for_sampling(model)
    assert seen == {"fullgraph": True, "dynamic": False, "mode": "reduce-overhead"}
    assert len(wrapped) == 1
