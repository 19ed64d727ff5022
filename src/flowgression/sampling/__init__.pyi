# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.families.arflow.pipeline import ARFlowPipeline as ARFlowPipeline
from flowgression.families.flowar.pipeline import FlowARPipeline as FlowARPipeline
from flowgression.families.sit.pipeline import SiTPipeline as SiTPipeline
from flowgression.sampling.batches import sample_batches as sample_batches
from flowgression.sampling.folders import builtin_models as builtin_models
from flowgression.sampling.images import make_grid as make_grid
from flowgression.sampling.images import save_gif as save_gif
from flowgression.sampling.images import save_npz as save_npz
from flowgression.sampling.images import save_png as save_png
from flowgression.sampling.loading import load_pipeline as load_pipeline
from flowgression.sampling.loading import make_pipeline as make_pipeline
from flowgression.sampling.lora import load_adapter as load_adapter
from flowgression.sampling.options import SamplingOptions as SamplingOptions
from flowgression.sampling.pipeline import ClassConditionalPipeline as ClassConditionalPipeline
from flowgression.sampling.pipeline import SampledImages as SampledImages
