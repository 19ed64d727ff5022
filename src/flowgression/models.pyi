# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.autoencoders.loading import load_autoencoder as load_autoencoder
from flowgression.families.arflow.model import ARFlow as ARFlow
from flowgression.families.flowar.model import FlowAR as FlowAR
from flowgression.families.flowar.to_lowrank import to_lowrank as to_lowrank
from flowgression.families.hofar.model import HOFAR as HOFAR
from flowgression.families.sit.model import SiT as SiT
from flowgression.registry import FAMILIES as FAMILIES
from flowgression.registry import build_model as build_model
from flowgression.registry import find_family as find_family
