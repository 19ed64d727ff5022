"""Intervals and verdicts of docs/results.md follow from the data in docs/data, by the rules stated there."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from scipy.stats import ttest_ind_from_stats, ttest_rel

from tests.scripts import ROOT, load_script

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="not in a checkout")
OURS, THEIRS = [1.0, 1.1, 0.9, 1.2, 1.0], [2.0, 2.2, 1.9, 2.1, 2.3]
STUDY = {
    "measure": "FID",
    "better": "lower",
    "settings_fixed_before": True,
    "real": 0.1,
    "comparisons": 3,
    "models": {name: {"values": dict(zip("01234", each, strict=True))} for name, each in (("a", OURS), ("b", THEIRS))},
    "differences": [{"ours": "a", "theirs": "b"}],
}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("benchmarks/verdicts.py", monkeypatch)


def judged(tool: ModuleType, **changes) -> str:
    study = {**STUDY, **changes}
    return tool.verdict(tool.difference(study["differences"][0], study["models"]), study)


def test_the_page_shows_what_the_data_say(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = load_script("tools/figures.py", monkeypatch)
    (figure,) = (each for each in figures.FIGURES if each.name == "verdicts")
    page = (ROOT / figure.page).read_text(encoding="utf-8")
    assert figures.place(figure, page)[1].splitlines() == tool.table(sorted(tool.DATA.glob("*.json")))


RULES = {
    "proved", "tested", "shown here", "contradicted here", "measured", "not enough evidence", "not run", "open"
}  # fmt: skip


def test_every_claim_has_a_command_data_and_a_verdict() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    table = page[page.index("| Paper | Claim |") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert len(rows) > 20
    for row in rows:
        _, claim, command, data, found, verdict = row
        assert command == "the same" or "`" in command, claim
        (rule,) = [each for each in RULES if verdict.startswith(each)]
        assert (rule == "not run") == (found == ""), claim
        if rule in ("shown here", "contradicted here", "measured", "not enough evidence"):
            for link in re.findall(r"\]\(([^)#]*)", data) or [claim]:
                assert not link or (ROOT / "docs" / link).is_file(), claim
            assert "](" in data, claim


def test_every_study_says_what_the_rules_need(tool: ModuleType) -> None:
    for path in tool.DATA.glob("*.json"):
        study = json.loads(path.read_text(encoding="utf-8"))
        needed = {"title", "command", "date", "machine", "measure", "better", "settings_fixed_before", "comparisons"}
        assert needed | {"models", "differences", "log"} <= study.keys(), path
        assert study["better"] in ("lower", "higher")
        assert study["comparisons"] >= len(study["differences"]) > 0
        assert (ROOT / study["log"]).is_file()


def test_one_model_sampled_five_times_shows_nothing_of_others(tool: ModuleType) -> None:
    assert judged(tool) == "shown here"
    assert judged(tool, seeds_of="noise") == "measured: one trained model"


def test_intervals_are_those_of_the_t_tests(tool: ModuleType) -> None:
    found = tool.difference(STUDY["differences"][0], STUDY["models"])
    assert found.interval() == pytest.approx(ttest_rel(OURS, THEIRS).confidence_interval(0.95))
    assert found.interval(3) == pytest.approx(ttest_rel(OURS, THEIRS).confidence_interval(1 - 0.05 / 3))

    kept = {"a": {"mean": 1.04, "sd": 0.02, "seeds": 4}, "b": {"mean": 4.22, "sd": 0.75, "seeds": 3}}
    welch = tool.difference({"ours": "a", "theirs": "b"}, kept)
    test = ttest_ind_from_stats(1.04, 0.02, 4, 4.22, 0.75, 3, equal_var=False)
    assert welch.mean / welch.error == pytest.approx(test.statistic)
    low, high = welch.interval(0.05 / test.pvalue)  # the level at which zero is on the edge
    assert max(low, high, key=abs) * 0 == pytest.approx(min(abs(low), abs(high)), abs=1e-9)

    low, high = found.interval()
    published = tool.difference({"mean": found.mean, "low": low, "high": high, "seeds": 5}, {})
    assert published.interval(3) == pytest.approx(found.interval(3))


def test_verdicts_by_the_rules(tool: ModuleType, tmp_path: Path) -> None:
    assert judged(tool) == "shown here"
    assert judged(tool, better="higher") == "contradicted here"
    assert judged(tool, settings_fixed_before=None) == "not enough evidence: settings not fixed before"
    assert judged(tool, real=None) == "not enough evidence: no row of real images"
    assert judged(tool, comparisons=10**6) == "not enough evidence: zero is in the interval"
    few = {name: {"values": dict(list(each["values"].items())[:4])} for name, each in STUDY["models"].items()}
    assert judged(tool, models=few) == "not enough evidence: 4 seeds"
    path = tmp_path / "some.json"
    path.write_text(json.dumps(STUDY))
    (row,) = tool.rows(path)
    assert row == ["[some](data/some.json)", "a minus b", "-1.06 [-1.25, -0.87]", "[-1.33, -0.79] (3)", "shown here"]
