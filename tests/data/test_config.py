import subprocess
import sys

import pytest

from flowgression import InputError
from flowgression.data import DataConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", ""),
        ("path", "hf:"),
        ("split", ""),
        ("image_size", 0),
        ("image_size", 32.5),
        ("image_size", True),
        ("channels", 2),
        ("num_workers", -1),
        ("cache_limit_mb", -1),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"data\.{field}"):
        DataConfig(**{field: value})


def test_reading_a_configuration_loads_no_torch() -> None:
    code = "import sys; from flowgression.data import DataConfig; DataConfig(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
