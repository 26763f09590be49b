"""Rules and dashboard: every metric that they name is one that we expose, and promtool takes them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deepseek.errors import ConfigError
from deepseek.monitoring import export_rules
from deepseek.monitoring.metrics import FAMILIES
from deepseek.monitoring.metrics.exposition import names
from deepseek.monitoring.rules import FILES
from deepseek.monitoring.stability import ALERTS
from deepseek.monitoring.stability.burn import window

RULES = yaml.safe_load((files("deepseek.monitoring.rules") / "deepseek.rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((files("deepseek.monitoring.rules") / "deepseek.dashboard.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"(?<![\w:])(?:[a-z]+:)?(?:deepseek|process)_\w+(?::\w+)?")
SELECTOR = re.compile(r"((?:deepseek|process)_\w+)\{([^}]*)\}")
TARGET_LABELS = {"job", "instance", "le"}


def rules() -> Iterator[dict[str, Any]]:
    for group in RULES["groups"]:
        yield from group["rules"]


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [t["expr"] for panel in panels() for t in panel["targets"]]


def labels_of(metric: str) -> set[str]:
    for family in FAMILIES.values():
        if metric in (family.exposed, *(f"{family.name}_{part}" for part in ("bucket", "sum", "count"))):
            return {*family.labels, *TARGET_LABELS}
    return TARGET_LABELS  # process_*


def test_every_metric_that_is_used_is_one_that_we_have() -> None:
    known = {*names(), *(rule["record"] for rule in rules() if "record" in rule)}
    used = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert used - known == set()
    assert len(used) > 40


def test_every_label_that_is_selected_is_one_that_the_metric_has() -> None:
    for expression in expressions():
        for metric, selectors in SELECTOR.findall(expression):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors)) <= labels_of(metric), expression


def test_rules_are_complete() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert {alert["labels"]["axis"] for alert in alerts} == {"stability", "resources", "quality"}
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "description"}
        labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
        if grouped := re.findall(r" by \(([^)]*)\)", alert["expr"]):
            assert labels <= {name.strip() for group in grouped for name in group.split(",")}, alert["alert"]


def test_the_rules_have_the_windows_of_the_code() -> None:
    text = "".join(rule["expr"] for rule in rules() if "Burns" in rule.get("alert", ""))
    for alert in ALERTS:
        factor = "" if alert.factor == 1 else f"{alert.factor:g} * "
        for seconds in (alert.long, alert.short):
            wanted = f"slo:deepseek_bad_events:ratio_rate{window(seconds)} > {factor}slo:deepseek_error_budget:ratio"
            assert wanted in text


def test_the_dashboard_has_a_row_for_each_axis() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Stability", "Resources", "Quality"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in panels():
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel)))
        assert used <= {*variables, "__rate_interval", "__range"}, panel["title"]


def test_promtool_takes_rules_and_configuration(
    promtool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    export_rules(tmp_path)
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "33 rules found" in done.stdout


def test_the_dashboards_queries_parse(
    promtool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    queries = [t["expr"] for panel in panels() for t in panel["targets"]]
    plain = [re.sub(r"\$__(rate_interval|range)", "5m", query) for query in queries]
    groups = [{"name": "all", "rules": [{"record": f"q{n}", "expr": query} for n, query in enumerate(plain)]}]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": groups}))
    done = promtool("check", "rules", str(tmp_path / "queries.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_fire_when_they_should(
    promtool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    export_rules(tmp_path)
    cases = Path(__file__).with_name("deepseek.rules.test.yml").read_text(encoding="utf-8")
    (tmp_path / "deepseek.rules.test.yml").write_text(cases)
    done = promtool("test", "rules", str(tmp_path / "deepseek.rules.test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"alertname: (\w+)", cases))
    assert {rule["alert"] for rule in rules() if "alert" in rule} == tested


def test_files_are_written_and_a_persons_own_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert [path.name for path in export_rules(folder)] == list(FILES)
    assert export_rules(folder) == [folder / name for name in FILES]  # the same again is no conflict
    (folder / "prometheus.yml").write_text("mine")
    (folder / "deepseek.rules.yml").unlink()
    with pytest.raises(ConfigError, match=r"has its own prometheus.yml"):
        export_rules(folder)
    assert (folder / "prometheus.yml").read_text() == "mine"
    assert not (folder / "deepseek.rules.yml").exists()
    export_rules(folder, overwrite=True)
    assert (folder / "prometheus.yml").read_text() != "mine"
    with pytest.raises(ConfigError, match="cannot write"):
        export_rules(folder / "prometheus.yml" / "below")


def test_the_command_prints_what_it_wrote(tmp_path: Path) -> None:
    from deepseek.cli.app import app

    done = CliRunner().invoke(app, ["monitoring", "export", str(tmp_path / "m")])
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.output.split()] == list(FILES)
    assert all((tmp_path / "m" / name).stat().st_size > 500 for name in FILES)
