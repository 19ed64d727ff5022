"""Images to begin with, masks and interpolation, in every family: what must hold whatever the weights."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flowgression import InputError
from flowgression.sampling.between import noise_between
from tests.families.cases import FAMILY_CASES, SIDE, FamilyCase, every_family
from tests.families.test_families import pipeline, seeded

CALL: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 2.0, "output_type": "pt"}
IMAGE = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
MASK = torch.zeros(SIDE, SIDE)
MASK[3:11, 5:16] = 1
ACROSS_BATCHES = 1e-4  # float32 sums of a few hundred terms in another order, over a few steps


@every_family
def test_all_of_the_strength_or_all_of_the_mask_is_plain_sampling(case: FamilyCase) -> None:
    pipe = pipeline(case)
    plain = pipe([3, 7], generator=seeded(0, 1), **CALL).images
    for given in ({"strength": 1.0}, {"mask_image": torch.ones(SIDE, SIDE)}, {"strength": 1, "mask_image": MASK >= 0}):
        assert torch.equal(pipe([3, 7], image=IMAGE, generator=seeded(0, 1), **given, **CALL).images, plain)


@every_family
def test_what_a_mask_keeps_is_the_image(case: FamilyCase) -> None:
    pipe = pipeline(case)
    nothing = pipe([3, 7], image=IMAGE, mask_image=MASK * 0, generator=seeded(0, 1), **CALL).images
    assert torch.equal(nothing, IMAGE.expand(2, -1, -1, -1))
    for strength in (None, 0.5):
        drawn = pipe([3, 7], image=IMAGE, mask_image=MASK, strength=strength, generator=seeded(0, 1), **CALL).images
        assert torch.equal(drawn[..., MASK == 0], nothing[..., MASK == 0])
        assert (drawn - nothing)[..., MASK == 1].abs().mean() > 0.05


@every_family
def test_less_strength_stays_nearer_to_the_image(case: FamilyCase) -> None:
    pipe = pipeline(case)

    def drawn(strength: float) -> torch.Tensor:
        return pipe([3], image=IMAGE, strength=strength, generator=seeded(0), **CALL).images

    if case.description.draws_scales:  # the coarse scales are kept, at least all but the last
        latents = 2 * IMAGE[None] - 1
        for strength, kept in ((0.05, 2), (0.4, 2), (0.6, 1)):
            coarse = pipe([3], coarse_latents=latents, num_coarse_scales=kept, generator=seeded(0), **CALL)
            torch.testing.assert_close(drawn(strength), coarse.images, atol=1e-6, rtol=0)
        return
    distances = [float((drawn(strength) - IMAGE).square().mean()) for strength in (0.05, 0.4, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < 0.5 * distances[-1]


@every_family
def test_an_edited_image_does_not_depend_on_its_batch(case: FamilyCase) -> None:
    pipe = pipeline(case)
    for given in ({"strength": 0.6}, {"mask_image": MASK}):
        together = pipe([3, 7, 10], image=IMAGE, generator=seeded(0, 1, 2), **given, **CALL).images
        alone = pipe([7], image=IMAGE, generator=seeded(1), **given, **CALL).images
        torch.testing.assert_close(together[1:2], alone, atol=ACROSS_BATCHES, rtol=0)
        assert (together[0] - together[1]).abs().max() > 1e-2


@every_family
def test_the_ends_of_an_interpolation_are_samples_and_its_steps_are_small(case: FamilyCase) -> None:
    pipe = pipeline(case)
    ends = pipe([3, 7], generator=seeded(0, 1), **CALL).images
    frames = pipe.interpolate("three", 7, num_frames=7, generator=seeded(0, 1), **CALL).images
    torch.testing.assert_close(frames[[0, -1]], ends, atol=ACROSS_BATCHES, rtol=0)
    steps = (frames[1:] - frames[:-1]).square().mean(dim=(1, 2, 3))
    assert steps.max() < 0.5 * (ends[1] - ends[0]).square().mean()
    same = pipe.interpolate(3, 3, num_frames=3, generator=seeded(0, 0), **CALL).images
    torch.testing.assert_close(same, ends[:1].expand(3, -1, -1, -1), atol=ACROSS_BATCHES, rtol=0)


@every_family
def test_labels_are_mixed_in_their_embeddings(case: FamilyCase) -> None:
    """With one noise at both ends the middle frame is that of a class whose embedding is the mean of both."""
    pipe = pipeline(case)
    middle = pipe.interpolate(3, 7, num_frames=3, generator=seeded(0, 0), **CALL).images[1]
    parts = pipe.transformer.label_table.split(".")
    table = pipe.transformer.get_parameter(".".join(parts))
    with torch.no_grad():
        table[5] = (table[3] + table[7]) / 2
    torch.testing.assert_close(middle, pipe(5, generator=seeded(0), **CALL).images[0], atol=ACROSS_BATCHES, rtol=0)


def test_noise_between_keeps_its_length() -> None:
    ends = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    way = noise_between(ends, 5)
    assert torch.equal(way[[0, -1]], ends)
    lengths = way.flatten(1).norm(dim=1)
    low, high = lengths[[0, -1]].aminmax()
    # Lengths of two noises of 3,072 numbers differ by a few percent, and those between lie about between them.
    assert low * 0.99 < lengths.min() <= lengths.max() < high * 1.01
    straight = (ends[0] + ends[1]) / 2
    assert float(straight.norm()) < 0.8 * float(low)  # what a straight line would do
    assert torch.equal(noise_between(ends[[0, 0]], 4), ends[[0, 0, 0, 0]])


def test_arflow_reads_the_steps_that_it_leaves_out() -> None:
    """A velocity that points from the noise to the image everywhere: the state then is that of the whole walk."""
    pipe = pipeline(FAMILY_CASES["arflow"])
    call = {**CALL, "guidance_scale": 1.0}
    with_state = pipe([3], image=IMAGE, strength=0.5, generator=seeded(0), **call).images
    without = pipe([3], image=IMAGE, strength=0.5, history="none", generator=seeded(0), **call).images
    assert (with_state - without).abs().max() > 1e-3
    grid = {"times": [0.5, 0.75, 1.0]}  # of which the same steps are left, but none is left out
    bare = pipe([3], image=IMAGE, strength=0.5, generator=seeded(0), **{**call, **grid}).images
    assert (with_state - bare).abs().max() > 1e-3
    own = pipe([3], image=IMAGE, strength=0.5, history="none", generator=seeded(0), **{**call, **grid}).images
    torch.testing.assert_close(own, without, atol=1e-6, rtol=0)


def test_pictures_of_any_kind_say_the_same() -> None:
    pipe = pipeline(FAMILY_CASES["sit"])
    grey = (IMAGE * 255).round().byte()
    picture = Image.fromarray(grey[0].numpy())
    mask = Image.fromarray((MASK * 255).byte().numpy())

    def drawn(image: Any, mask_image: Any) -> torch.Tensor:
        return pipe([1, 2], image=image, mask_image=mask_image, generator=seeded(0, 1), **CALL).images

    expected = drawn(grey, MASK)
    for image, mask_image in (
        (picture, mask),
        ([picture, picture], [mask, mask]),
        (grey[0].numpy()[..., None], MASK.numpy()),
        (grey.expand(2, 1, -1, -1), MASK.expand(2, 1, -1, -1)),
        (grey.float() / 255, MASK.bool()),
        (np.stack([grey.permute(1, 2, 0)] * 2), MASK.numpy()[..., None]),
    ):
        torch.testing.assert_close(drawn(image, mask_image), expected, atol=1e-6, rtol=0)
    large = picture.resize((64, 64), Image.Resampling.NEAREST)
    assert drawn(large, mask.resize((64, 64), Image.Resampling.NEAREST)).shape == expected.shape


def test_what_cannot_work_is_said_before_the_network_runs() -> None:
    sit, flowar = (pipeline(FAMILY_CASES[name]) for name in ("sit", "flowar"))
    for pipe, given, words in (
        (sit, {"strength": 0.5}, "give image"),
        (sit, {"image": IMAGE, "strength": 0.0}, "strength must be above 0"),
        (sit, {"image": IMAGE, "strength": 1.5}, "strength must be above 0"),
        (sit, {"image": IMAGE[:, :8]}, "image must be one image of 1 x 16 x 16"),
        (sit, {"image": IMAGE + 1}, r"must be floats in \[0, 1\]"),
        (sit, {"image": IMAGE, "mask_image": MASK[:4]}, "mask_image must be one image of 1 x 16 x 16"),
        (sit, {"image": IMAGE, "mask_image": MASK, "solver": "dopri5"}, "has no steps after which"),
        (sit, {"image": IMAGE, "strength": 0.01, "solver": "sde"}, "give more strength"),
        (flowar, {"image": IMAGE, "mask_image": MASK, "num_scales": 2}, "num_scales=2 stops before"),
        (flowar, {"image": IMAGE, "coarse_latents": IMAGE[None]}, "give one of them"),
    ):
        with pytest.raises(InputError, match=words):
            pipe([1], **{**CALL, **given})
    with pytest.raises(InputError, match="give class_labels"):
        sit(**CALL)
    with pytest.raises(InputError, match="without a null label"):
        pipeline(FAMILY_CASES["sit"], class_dropout_prob=0.0)(image=IMAGE, num_inference_steps=2)
    with pytest.raises(InputError, match="flicker"):
        sit.interpolate(1, 2, solver="sde")
    with pytest.raises(InputError, match="2 or more frames"):
        sit.interpolate(1, 2, num_frames=1)


def test_other_solvers_edit_too() -> None:
    pipe = pipeline(FAMILY_CASES["sit"])
    for solver in ("heun", "midpoint", "sde", "dopri5"):
        kept = {} if solver == "dopri5" else {"mask_image": MASK}
        drawn = pipe([1], image=IMAGE, strength=0.5, generator=seeded(0), **{**CALL, **kept, "solver": solver}).images
        assert (drawn - IMAGE).abs().max() > 0.05
        if kept:
            assert torch.equal(drawn[0][..., MASK == 0], IMAGE[..., MASK == 0])


def test_schedulers_of_diffusers_keep_what_a_mask_keeps() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = pipeline(FAMILY_CASES["sit"])
    euler = pipe([1], image=IMAGE, mask_image=MASK, generator=seeded(0), **CALL).images
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    theirs = pipe([1], image=IMAGE, mask_image=MASK, generator=seeded(0), **CALL).images
    torch.testing.assert_close(theirs, euler, atol=ACROSS_BATCHES, rtol=0)
    with pytest.raises(InputError, match=r"set pipe\.scheduler = None"):
        pipe([1], image=IMAGE, strength=0.5, generator=seeded(0), **CALL)
