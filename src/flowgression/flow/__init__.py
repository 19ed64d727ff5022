"""Flow matching: paths, time grids, solvers, guidance, losses. Torch only; it sees a callable, never a model."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "GVPPath": "flowgression.flow.paths",
        "Guidance": "flowgression.flow.guidance",
        "LinearPath": "flowgression.flow.paths",
        "SOLVERS": "flowgression.flow.solvers",
        "Solver": "flowgression.flow.solvers",
        "SolverOutput": "flowgression.flow.solvers",
        "VPPath": "flowgression.flow.paths",
        "diffusion_coefficient": "flowgression.flow.diffusion",
        "dopri5": "flowgression.flow.solvers",
        "euler": "flowgression.flow.solvers",
        "euler_maruyama": "flowgression.flow.solvers",
        "flow_matching_loss": "flowgression.flow.losses",
        "get_path": "flowgression.flow.paths",
        "get_solver": "flowgression.flow.solvers",
        "given_times": "flowgression.flow.times",
        "heun": "flowgression.flow.solvers",
        "midpoint": "flowgression.flow.solvers",
        "noise_images": "flowgression.flow.sequence",
        "noise_sequence": "flowgression.flow.sequence",
        "sde_times": "flowgression.flow.times",
        "shifted_times": "flowgression.flow.times",
        "taylor": "flowgression.flow.solvers",
        "uniform_times": "flowgression.flow.times",
    },
)
