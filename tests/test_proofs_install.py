"""proofs/check.sh and .ci/run where Coq is not installed: a PATH without it, and an apt-get that notes its calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROOFS = ROOT / "proofs"
pytestmark = pytest.mark.skipif(not PROOFS.exists() or os.name == "nt", reason="not in a checkout")
TOOLS = ("bash", "cat", "chmod", "cp", "dirname", "env", "grep", "id", "mkdir", "mktemp", "tail", "tee", "touch")
COQ = ("coqc", "ocamlopt")

COQC = """if [ "$1" = Assumptions.v ]; then
  while read -r word _; do [ "$word" != Print ] || echo "Closed under the global context"; done <Assumptions.v
fi
touch "${1%.v}.vo"
"""
OCAMLOPT = """for last; do :; done
cat >"$last" <<'EOF'
#!/bin/sh
case $1 in *forged*) echo "NOT PROVED"; exit 1;; *) echo "PROVED";; esac
EOF
chmod +x "$last"
"""


class Machine:
    """A PATH of its own and a copy of what check.sh reads."""

    def __init__(self, folder: Path):
        self.bin, self.hidden, self.calls = folder / "bin", folder / "hidden", folder / "calls"
        for each in (self.bin, self.hidden, folder / "tree/.ci"):
            each.mkdir(parents=True)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.calls.touch()
        self.program(self.bin / "make", "")
        shutil.copy(ROOT / ".ci/run", folder / "tree/.ci/run")
        skipped = shutil.ignore_patterns("*.vo*", "*.out", "*.glob", "build", ".*")
        shutil.copytree(PROOFS, folder / "tree/proofs", ignore=skipped)
        self.tree = folder / "tree"

    def program(self, path: Path, body: str) -> None:
        """A shell program that notes its call first."""
        path.write_text(f'#!/bin/bash\necho "{path.name} $*" >>{self.calls}\n{body}')
        path.chmod(0o755)

    def apt_get(self, works: bool) -> None:
        if works:
            self.program(self.hidden / "coqc", COQC)
            self.program(self.hidden / "ocamlopt", OCAMLOPT)
        fetch = (
            f'[ "$1" != install ] || for each in {" ".join(COQ)}; do cp {self.hidden}/$each {self.bin}/$each; done\n'
        )
        self.program(self.bin / "apt-get", fetch if works else "echo 'no network'\nexit 100\n")

    def user(self, number: int) -> None:
        (self.bin / "id").unlink()
        self.program(self.bin / "id", f"echo {number}\n")
        self.program(self.bin / "sudo", '"$@"\n')

    def run(self, script: str) -> tuple[int, str]:
        environment = {"PATH": str(self.bin), "HOME": str(self.tree), "TMPDIR": str(self.tree)}
        command = [str(self.bin / "bash"), str(self.tree / script)]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        return found.returncode, found.stdout + found.stderr

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("root", [True, False])
def test_coq_is_installed_where_it_is_missing(machine: Machine, root: bool) -> None:
    machine.apt_get(works=True)
    machine.user(0 if root else 1000)
    status, said = machine.run("proofs/check.sh")
    assert status == 0, said
    called = machine.called()
    fetched = ["apt-get update -q", "apt-get install -y -q --no-install-recommends coq ocaml-nox"]
    assert [call for call in called if call.startswith("apt-get")] == fetched
    assert [call for call in called if call.startswith("sudo")] == (
        [] if root else [f"sudo {call}" for call in fetched]
    )
    compiled = [call.split()[1] for call in called if call.startswith("coqc")]
    assert compiled == [f"{name}.v" for name in (*(PROOFS / "order").read_text().split(), "Extract", "Numbers")]
    assert called.index(fetched[1]) < called.index(f"coqc {compiled[0]}")
    assert "none rests on an assumption" in said
    machine.calls.write_text("")
    assert machine.run("proofs/check.sh")[0] == 0
    again = [call for call in machine.called() if not call.startswith("id")]
    assert again == ["coqc Assumptions.v"]


def test_where_it_cannot_be_installed_everybody_is_told(machine: Machine) -> None:
    machine.apt_get(works=False)
    status, said = machine.run("proofs/check.sh")
    assert status == 3
    assert "NOT CHECKED" in said
    assert "no network" in said
    assert not any(call.startswith("coqc") for call in machine.called())
    status, said = machine.run(".ci/run")
    assert status == 0
    assert "THE PROOFS WERE NOT CHECKED" in said
    assert "make test" in machine.called()


def test_a_failing_proof_fails_the_merge_check(machine: Machine) -> None:
    machine.apt_get(works=True)
    path = machine.tree / "proofs/Main.v"
    path.write_text(path.read_text() + "Axiom anything : False.\n")
    status, said = machine.run(".ci/run")
    assert status == 1
    assert "assumes something" in said


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, COQ)), reason="needs Coq, which it hides and has installed again")
def test_with_the_real_coq(machine: Machine) -> None:
    """Everything of /usr/bin but Coq and OCaml is on the PATH; apt-get brings them back."""
    for path in Path("/usr/bin").iterdir():
        if not path.name.startswith(("coq", "ocaml", "apt")) and not (machine.bin / path.name).exists():
            (machine.bin / path.name).symlink_to(path)
    back = " ".join(str(each) for each in Path("/usr/bin").iterdir() if each.name.startswith(("coq", "ocaml")))
    machine.program(machine.bin / "apt-get", f'[ "$1" != install ] || ln -s {back} {machine.bin}\n')
    environment = {"PATH": str(machine.bin), "HOME": str(machine.tree), "TMPDIR": str(machine.tree)}
    command = ["bash", "proofs/check.sh"]
    found = subprocess.run(command, env=environment, cwd=machine.tree, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    asked = (machine.tree / "proofs/Assumptions.v").read_text().count("Print Assumptions")
    assert found.stdout.count("Closed under the global context") == asked
    assert any(call.startswith("apt-get install") for call in machine.called())
