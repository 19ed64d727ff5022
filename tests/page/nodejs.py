"""Running the page's modules in node, without a browser."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import flowgression

PAGE = Path(flowgression.__file__).parent / "web" / "page"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def run_module(code: str, given: Any = None) -> Any:
    """What `export default` of a module would be: `code` is the body of an async function of `given` and `load`, which
    imports a module of the page by its path below js/.
    """
    script = f"""
    const given = JSON.parse(await new Promise((resolve) => {{
      let text = ""; process.stdin.on("data", (part) => (text += part)).on("end", () => resolve(text)); }}));
    const load = (path) => import({json.dumps((PAGE / "js").as_uri() + "/")} + path);
    const result = await (async () => {{ {code} }})();
    console.log(JSON.stringify(result));
    """
    done = subprocess.run(
        ["node", "--experimental-default-type=module", "--input-type=module", "-e", script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
