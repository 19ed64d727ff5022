"""What pipelines can do between two of their images."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Generator

from flowgression.errors import InputError
from flowgression.flow.solvers import get_solver
from flowgression.sampling.between import Label, labels_between
from flowgression.sampling.noise import image_generators


class Interpolating:
    """A part of `ClassConditionalPipeline`."""

    scheduler: Any
    sampling_options: Any
    class_ids: Any

    def interpolate(
        self,
        first: int | str,
        second: int | str,
        *,
        num_frames: int = 24,
        generator: Generator | Sequence[Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        **settings: Any,
    ) -> Any:
        """Images on the way from one to another: spherical in their noise, linear in the embeddings of their labels.

        Args:
            first, second: class ids or names.
            num_frames: at least 2; the first and the last are what the pipeline draws of these labels and noises.
            generator: of the noise of both ends, one for each or one for both.
            output_type, return_dict, settings: as in a call of the pipeline.

        Returns:
            `SampledImages`, or a tuple with return_dict=False.

        Raises:
            InputError: whatever cannot work, such as a solver that draws noise at each step.
        """
        options = self.sampling_options(settings)
        if self.scheduler is None and get_solver(options.solver).needs_noise:
            raise InputError(
                f"solver {options.solver!r} draws new noise at each step: frames would flicker; use 'euler'."
            )
        ids = self.class_ids([first, second], null=True)
        labels = labels_between(ids[0], ids[1], num_frames)
        ends = image_generators(generator, 2)
        return self.draw_between(labels, ends, settings, output_type=output_type, return_dict=return_dict)

    @abstractmethod
    def draw_between(
        self, labels: Sequence[Label], ends: Sequence[Generator], settings: Mapping[str, Any], **how: Any
    ) -> Any:
        """An image for each label, their noise from that of one end to that of the other; how: output and its kind."""
