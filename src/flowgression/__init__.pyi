# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.errors import InputError as InputError
from flowgression.evaluation.run import evaluate as evaluate
from flowgression.families.arflow.model import ARFlow as ARFlow
from flowgression.families.arflow.pipeline import ARFlowPipeline as ARFlowPipeline
from flowgression.families.flowar.model import FlowAR as FlowAR
from flowgression.families.flowar.pipeline import FlowARPipeline as FlowARPipeline
from flowgression.families.hofar.model import HOFAR as HOFAR
from flowgression.families.sit.model import SiT as SiT
from flowgression.families.sit.pipeline import SiTPipeline as SiTPipeline
from flowgression import flow as flow
from flowgression import ops as ops
from flowgression.sampling.loading import load_pipeline as load_pipeline
from flowgression.sampling.loading import make_pipeline as make_pipeline
from flowgression.training.config import TrainConfig as TrainConfig
from flowgression.training.loop import train as train

__version__: str
