# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.training.config import TrainConfig as TrainConfig
from flowgression.training.errors import BatchError as BatchError
from flowgression.training.errors import LostProcessError as LostProcessError
from flowgression.training.errors import LostReaderError as LostReaderError
from flowgression.training.errors import NonFiniteError as NonFiniteError
from flowgression.training.errors import RunError as RunError
from flowgression.training.loop import train as train
from flowgression.training.nested import config_from_dict as config_from_dict
from flowgression.training.nested import config_to_dict as config_to_dict
from flowgression.training.planner import find_gpu as find_gpu
from flowgression.training.planner import make_plan as make_plan
from flowgression.training.session import TrainResult as TrainResult
from flowgression.training.settings import EmaConfig as EmaConfig
from flowgression.training.settings import LoraConfig as LoraConfig
from flowgression.training.settings import ModelConfig as ModelConfig
from flowgression.training.settings import OptimizerConfig as OptimizerConfig
from flowgression.training.settings import PreviewConfig as PreviewConfig
from flowgression.training.settings import ScheduleConfig as ScheduleConfig
from flowgression.training.settings import TimesConfig as TimesConfig
