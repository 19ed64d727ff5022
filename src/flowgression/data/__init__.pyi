# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.data.config import DataConfig as DataConfig
from flowgression.data.dataset import LabeledImages as LabeledImages
from flowgression.data.loader import make_loader as make_loader
from flowgression.data.loader import make_sampler as make_sampler
from flowgression.data.mnist import MnistSplit as MnistSplit
from flowgression.data.mnist import load_mnist as load_mnist
from flowgression.data.opening import open_dataset as open_dataset
from flowgression.data.sampler import SequenceBatchSampler as SequenceBatchSampler
