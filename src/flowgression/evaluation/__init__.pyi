# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.evaluation.comparison import Comparison as Comparison
from flowgression.evaluation.comparison import Estimate as Estimate
from flowgression.evaluation.comparison import compare as compare
from flowgression.evaluation.features.registry import load_extractor as load_extractor
from flowgression.evaluation.images import ImageSet as ImageSet
from flowgression.evaluation.images import open_image_set as open_image_set
from flowgression.evaluation.model import sample_and_measure as sample_and_measure
from flowgression.evaluation.run import Evaluation as Evaluation
from flowgression.evaluation.run import evaluate as evaluate
from flowgression.evaluation.statistics import Statistics as Statistics
from flowgression.evaluation.statistics import collect as collect
from flowgression.evaluation.storage import load_statistics as load_statistics
from flowgression.evaluation.storage import save_statistics as save_statistics
