# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.circuits.calibrate import measured_precision as measured_precision
from flowgression.circuits.compile import build as build
from flowgression.circuits.compile import count as count
from flowgression.circuits.compile import outline as outline
from flowgression.circuits.dit_spec import DiTSpec as DiTSpec
from flowgression.circuits.dit_spec import random_dit as random_dit
from flowgression.circuits.flowar_spec import FlowARSpec as FlowARSpec
from flowgression.circuits.flowar_spec import random_spec as random_spec
from flowgression.circuits.frontend import read_dit as read_dit
from flowgression.circuits.frontend import read_flowar as read_flowar
from flowgression.circuits.ir import Circuit as Circuit
from flowgression.circuits.ir import load as load
from flowgression.circuits.lower.precision import Precision as Precision
from flowgression.circuits.programs import dit_program as dit_program
from flowgression.circuits.programs import flowar_program as flowar_program
from flowgression.circuits.programs import layer_program as layer_program
from flowgression.circuits.simulate import evaluate as evaluate
