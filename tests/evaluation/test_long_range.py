"""benchmarks/long_range.py: what it calls an error of covariance is one, by closed forms."""

from types import ModuleType

import pytest
import torch

from tests.scripts import ROOT, load_script

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="not in a checkout")


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("benchmarks/long_range.py", monkeypatch)
    monkeypatch.setattr(module, "CLASSES", 1)
    return module


def grey_images(count: int, seed: int) -> torch.Tensor:
    """Fields of one random grey each: every pair of pixels has the covariance 1."""
    return torch.randn(count, 1, 1, generator=torch.Generator().manual_seed(seed)).expand(count, 28, 28)


def test_the_error_is_the_share_of_pairs_that_lost_their_covariance(tool: ModuleType) -> None:
    """Halves of two images: pairs across the middle are strangers, the others as before. Chance adds (2 / 200)^(1/2)
    squared at most a few times: 0.05.
    """
    bands, truth, labels = tool.masks(), torch.ones(1, 784, 784), torch.zeros(400, dtype=torch.int64)
    whole = tool.errors(grey_images(400, 0), labels, truth, bands)
    assert max(abs(value) for value in whole.values()) < 0.05
    halves = tool.mixed(1.0, [14])(grey_images(400, 1), torch.Generator().manual_seed(2))
    found = tool.errors(halves, labels, truth, bands)
    upper = torch.arange(784) < 14 * 28
    across = upper[:, None] != upper
    for band, mask in bands.items():
        share = (across & mask).sum() / mask.sum()
        assert found[band] == pytest.approx(share.item(), abs=0.05), band
    assert found["15 and more"] > 5 * found["1 to 3"]


def test_noise_of_each_pixel_for_itself_is_no_error(tool: ModuleType) -> None:
    """All covariance is lost, so the error is 1. A biased estimate would add the variance of a covariance of 200
    images, 1 / 200 beside the truth's square of 0.0025: 2.
    """
    bands, labels = tool.masks(), torch.zeros(400, dtype=torch.int64)
    noise = torch.randn(400, 28, 28, generator=torch.Generator().manual_seed(3))
    found = tool.errors(noise, labels, torch.full((1, 784, 784), 0.05), bands)
    assert all(value == pytest.approx(1.0, abs=0.1) for value in found.values())


def test_bands_hold_every_pair_once(tool: ModuleType) -> None:
    count = sum(mask.long() for mask in tool.masks().values())
    assert torch.equal(count, 1 - torch.eye(784, dtype=torch.int64))


def test_forms_of_guidance_take_equal_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/guidance.py: at most 16 rows an image; two where guidance applies, one where it does not."""
    tool = load_script("benchmarks/guidance.py", monkeypatch)
    for family in tool.FAMILIES:
        for name, chosen in tool.forms(family).items():
            steps = chosen["num_inference_steps"]
            first, last = chosen.get("guidance_interval", (0.0, 1.0))
            every, both = chosen.get("guidance_every", 1), family == "arflow"
            guided = [
                chosen.get("guidance_scale") != 1 and (both or (first <= step / steps <= last and step % every == 0))
                for step in range(steps)
            ]
            assert 15 <= sum(2 if two else 1 for two in guided) <= 16, (family, name)
