"""A family of models that the package does not know: one folder, and the entry below."""

from flowgression.registry import Family

FAMILY = Family(
    name="drift",
    title="Drift",
    paper="none: invented for these tests",
    model="tests.families.invented.model:Drift",
    pipeline="tests.families.invented.pipeline:DriftPipeline",
    objective="tests.families.invented.training:drift_objective",
    presets="tests.families.invented.presets",
    export="tests.families.invented.export:exported",
    sampling={"num_inference_steps": 10, "guidance_scale": 1.5},
)
