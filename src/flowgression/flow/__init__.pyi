# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.flow.diffusion import diffusion_coefficient as diffusion_coefficient
from flowgression.flow.guidance import Guidance as Guidance
from flowgression.flow.losses import flow_matching_loss as flow_matching_loss
from flowgression.flow.paths import GVPPath as GVPPath
from flowgression.flow.paths import LinearPath as LinearPath
from flowgression.flow.paths import VPPath as VPPath
from flowgression.flow.paths import get_path as get_path
from flowgression.flow.sequence import noise_images as noise_images
from flowgression.flow.sequence import noise_sequence as noise_sequence
from flowgression.flow.solvers import SOLVERS as SOLVERS
from flowgression.flow.solvers import Solver as Solver
from flowgression.flow.solvers import SolverOutput as SolverOutput
from flowgression.flow.solvers import dopri5 as dopri5
from flowgression.flow.solvers import euler as euler
from flowgression.flow.solvers import euler_maruyama as euler_maruyama
from flowgression.flow.solvers import get_solver as get_solver
from flowgression.flow.solvers import heun as heun
from flowgression.flow.solvers import midpoint as midpoint
from flowgression.flow.solvers import taylor as taylor
from flowgression.flow.times import given_times as given_times
from flowgression.flow.times import sde_times as sde_times
from flowgression.flow.times import shifted_times as shifted_times
from flowgression.flow.times import uniform_times as uniform_times
