"""The console in a real browser: every view over a server that clients keep busy; language, theme, phone, keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from console_page import ConsolePage
from console_traffic import QUICK
from headless_chromium import Browser
from serving_fakes import FakeClassifier

from deepseek.monitoring.resources.gpus import GpuReading
from deepseek.serving import Server

VIEWS = ("overview", "quality", "resources", "stability", "playground", "models", "keys")
SERVED = ["animals", "churn", "entities", "minilm", "sentiment", "teller"]


@pytest.fixture
def page(browser: Browser, busy: Server) -> Iterator[ConsolePage]:
    with ConsolePage(browser, busy.http_url) as opened:
        yield opened


@pytest.fixture
def hostile_name() -> str:
    return "<img src=x onerror=alert(1)>"


def test_the_overview_tells_how_the_server_is(page: ConsolePage) -> None:
    page.wait("document.querySelectorAll('main tbody tr').length === 6")
    assert page.text(".state") == "Serving"
    assert [name.split()[0] for name in page.texts("tbody td:first-child")] == SERVED
    assert page.texts("tbody td:nth-child(2)") == ["Ready"] * 6
    assert set(page.texts("tbody td:last-child")) <= {"No reference", "Collecting", "Drift"}
    page.wait_for("sentiment: ", ".alerts")  # it drifts
    page.wait_for("burns its error budget", ".alerts")
    page.wait("document.querySelectorAll('.figure .spark path').length >= 10")
    figures = dict(zip(page.texts(".figure-label"), page.texts(".figure strong"), strict=True))
    assert figures["Requests"].endswith("/s")
    assert figures["Memory"].endswith("iB")
    assert "GPU" in figures
    assert not page.run("document.querySelectorAll('.figure')[6].checkVisibility()")  # there is none here
    page.press("sentiment 1", "main")
    page.wait_for("Drift against the training data")


def test_numbers_are_alive_and_a_hidden_page_asks_for_nothing(page: ConsolePage) -> None:
    page.wait("document.querySelector('.chart .line')?.getAttribute('d')")
    page.run("window.before = document.querySelector('.chart .line').getAttribute('d'); 0")
    page.wait("document.querySelector('.chart .line').getAttribute('d') !== window.before")
    asked = "performance.getEntriesByType('resource').filter((e) => e.name.includes('/console/data')).length"
    page.run("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); 0")
    page.run("document.dispatchEvent(new Event('visibilitychange')); window.asked = " + asked)
    page.run("new Promise((done) => setTimeout(done, 2500))")
    assert page.run(f"{asked} - window.asked") == 0
    page.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); 0")
    page.wait(f"{asked} > window.asked")


KEYS_MOVE_THE_CURSOR = """
(() => {
  const place = () => Number(document.querySelector(".chart .cursor line").getAttribute("x1"));
  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const places = [place()];
  for (const key of ["ArrowRight", "ArrowLeft", "ArrowLeft"]) {
    press(key);
    places.push(place());
  }
  return places[1] > places[0] && places[2] < places[1] && places[3] <= places[0];
})()
"""
"""In one turn of the page's loop: new points, which move all others, come between turns."""


def test_a_chart_is_read_with_the_pointer_and_with_keys(page: ConsolePage) -> None:
    page.go("stability")
    page.wait("document.querySelectorAll('.chart .line').length > 5")
    axis = page.texts(".chart:nth-child(2) .tick")
    assert any(each.endswith((" ms", " s")) for each in axis)
    assert any(each.count(":") >= 1 for each in axis)
    page.run("document.querySelector('.chart .plot').focus()")
    page.key("ArrowRight")
    page.wait("!document.querySelector('.chart .tip').hidden")
    first = page.text(".chart .tip")
    assert "Requests" in first
    assert "/s" in first
    assert page.run("document.querySelectorAll('.cursor line').length") > 1  # in every chart, at the same time
    page.wait(KEYS_MOVE_THE_CURSOR)  # once there are two points
    page.key("Escape")
    assert page.run("document.querySelector('.chart .tip').hidden")
    x, y = page.run(
        "(({ x, y, width }) => [x + width / 2, y + 50])(document.querySelector('.chart .plot').getBoundingClientRect())"
    )
    page.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait("!document.querySelector('.chart .tip').hidden")


def test_stability_shows_statuses_and_what_is_left_of_budgets(page: ConsolePage) -> None:
    page.go("stability")
    page.wait_for("availability")
    page.wait_for("rest task")
    page.wait("document.querySelector('main .badge.bad')")  # one in twenty requests is wrong: a budget burns
    assert {"200", "400", "500"} <= set(page.texts("main thead th"))
    assert "answered within 250 ms" in page.text("main")
    assert any(text.endswith("left") for text in page.texts(".meter-text"))


def test_quality_shows_each_tests_numbers(page: ConsolePage) -> None:
    page.go("quality/sentiment")
    page.wait("document.querySelectorAll('.drift-columns > li').length === 2")
    assert page.texts(".drift-name b")[0] in ("text", "label")
    assert "Drift" in page.texts(".drift-columns .badge")
    page.wait_for("Accuracy", ".interval")
    assert "bundle: 0.940" in page.text("main")
    assert page.exists(".bars.compared")
    page.wait("document.querySelector('.columns .column')")  # drawn once the browser said how wide it is
    page.run("document.querySelectorAll('.drift-columns details').forEach((each) => (each.open = true)); 0")
    page.wait("document.querySelectorAll('.drift-detail tbody tr').length > 5")
    assert "PSI" in page.text(".drift-detail")
    assert "chi-square" in page.text(".drift-detail")
    page.run("window.opened = document.querySelector('.drift-detail'); 0")
    page.wait("document.querySelector('.drift-detail') !== window.opened")  # new numbers came
    assert page.run("document.querySelectorAll('.drift-columns details[open]').length") == 2
    page.run("(() => { const e = document.querySelector('.chooser select'); e.value = 'minilm/1';"
             " e.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.wait_for("This model has no reference to compare with")
    assert page.run("location.hash") == "#quality/minilm%2F1"
    page.wait_for("Nothing to count")


def test_resources_show_the_machine_and_each_model(page: ConsolePage) -> None:
    page.go("resources")
    page.wait("document.querySelectorAll('.chart .line').length > 10")
    assert {"Memory", "Disk", "Threads", "Open files"} <= set(page.texts(".facts dt"))
    assert [name.split()[0] for name in page.texts("tbody td:first-child")] == [
        "sentiment", "minilm", "entities", "animals", "churn", "teller",
    ]  # fmt: skip
    legends = page.texts(".chart .legend li > span:nth-child(2)")
    assert {"All processors", "This process", "Longest lag", "sentiment/1", "teller/1"} <= set(legends)
    assert not page.run("[...document.querySelectorAll('h3')].find((e) => e.textContent === 'GPUs').checkVisibility()")


def test_gpus_are_shown_where_there_are_some(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        def read(self) -> list[GpuReading]:
            used = {"memory_used": 20 * 2**30, "memory_size": 80 * 2**30}
            return [
                GpuReading(name="H100", vendor="NVIDIA", utilization=0.5, temperature=61, power=350.0, **used),
                GpuReading(name="MIG 1g.10gb", vendor="NVIDIA"),
            ]

        def close(self) -> None:
            pass

    monkeypatch.setattr("deepseek.monitoring.resources.monitor._gpu_readers", lambda: [Reader()])
    with Server(QUICK, [FakeClassifier()]) as server, ConsolePage(browser, server.http_url) as page:
        page.wait("document.querySelectorAll('.figure')[6].checkVisibility()")
        page.wait_for("GPU", ".figures")
        page.go("resources")
        page.wait_for("NVIDIA H100")
        page.wait_for("20.0 GiB of 80.0 GiB")
        assert "61.0 °C" in page.text("main")
        assert "350 W" in page.text("main")
        assert "MIG 1g.10gb" in page.text("main")


def test_a_range_is_chosen_and_remembered(page: ConsolePage) -> None:
    page.wait("document.querySelector('.heading .choice')")
    page.press("5 min", ".heading")
    assert page.run("localStorage.getItem('deepseek.console.range')") == "300"
    page.go("stability")
    assert page.texts(".heading [aria-pressed=true]") == ["5 min"]


def test_the_language_is_switched_and_remembered(page: ConsolePage) -> None:
    assert page.run("document.documentElement.lang") == "en"
    page.press("中文", "#bar")
    assert page.run("document.documentElement.lang") == "zh-CN"
    assert page.texts("#views a") == ["概览", "质量", "资源", "稳定性", "试用", "模型", "密钥与用量"]
    assert page.run("document.title") == "deepseek 控制台"
    assert page.run("document.activeElement.id") == "language"
    page.wait_for("服务中", ".state")
    page.wait_for("偏离了训练数据", ".alerts")
    page.browser.open(f"{page.url}/console#models")
    page.wait_for("已回答")
    page.press("English", "#bar")
    page.wait_for("rows answered")


def test_the_theme_is_the_systems_until_one_is_chosen(page: ConsolePage) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.run(ground)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    page.browser.call("Emulation.setEmulatedMedia", features=[scheme])
    dark = page.run(ground)
    assert dark != light
    for expected in (light, dark, dark):  # light, dark, the system's again
        page.run("document.getElementById('theme').click()")
        assert page.run(ground) == expected
    page.run("document.getElementById('theme').click()")
    page.browser.call("Page.reload")
    page.wait("document.querySelector('main .view')")
    assert page.run(ground) == light
    page.browser.call("Emulation.setEmulatedMedia", features=[scheme | {"value": "light"}])


def test_motion_is_spared_for_those_who_ask(page: ConsolePage) -> None:
    moving = "(() => { const e = document.createElement('div'); e.className = 'skeleton'; document.body.append(e);"
    moving += " const name = getComputedStyle(e).animationName; e.remove(); return name; })()"
    assert page.run(moving) == "shimmer"
    page.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert page.run(moving) == "none"
    page.browser.call("Emulation.setEmulatedMedia", features=[])


def test_a_phone_shows_every_view_without_scrolling_sideways(page: ConsolePage) -> None:
    page.browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    links = "[...document.querySelectorAll('#views a')]"
    current = "document.querySelector('[aria-current]').getBoundingClientRect()"
    try:
        for view in VIEWS:
            page.go(view)
            page.wait("document.querySelector('main .view').innerText.length > 20")
            assert page.run("document.documentElement.scrollWidth") == 390, view
            assert page.run(f"(({{ left, right }}) => left >= 0 && right <= 390)({current})"), view
        smallest = page.run(f"Math.min(...{links}.map((each) => each.getBoundingClientRect().height))")
        assert smallest >= 44, "large enough for a thumb"
    finally:
        page.browser.call(
            "Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False
        )


def test_everything_is_reached_with_the_keyboard(page: ConsolePage) -> None:
    page.wait("document.querySelectorAll('main tbody tr').length === 6")
    page.run("document.body.focus(); document.activeElement.blur()")
    reached = []
    for _ in range(20):
        page.key("Tab")
        reached.append(
            page.run("(document.activeElement.textContent.trim() || document.activeElement.id).slice(0, 20)")
        )
    assert reached[0] == "Skip to content"
    for name in ("deepseek", "中文", "Overview", "Keys & usage", "15 min"):
        assert name in reached
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_names_of_models_never_become_markup(browser: Browser, hostile_name: str) -> None:
    with Server(QUICK, [FakeClassifier(hostile_name)]) as server:
        httpx.post(f"{server.http_url}/v1/tasks/text-classification", json={"inputs": "a"})
        with ConsolePage(browser, server.http_url) as page:
            for view in ("overview", "models", "quality", "playground", "resources"):
                page.go(view)
                page.wait(f"document.querySelector('main').textContent.includes({json.dumps(hostile_name)})")
                assert page.run("document.querySelectorAll('main img').length") == 0


def test_a_server_that_goes_away_is_noticed_and_one_that_comes_back_too(browser: Browser) -> None:
    server = Server(QUICK, [FakeClassifier()]).start()
    with ConsolePage(browser, server.http_url, expected=(0,)) as page:
        page.wait_for("Ready")
        port = int(server.http_url.rsplit(":", 1)[1])
        server.stop()
        page.wait_for("The server does not answer. Numbers are from", ".banner")
        assert page.text(".state") == "no answer"
        assert "sentiment" in page.text("main"), "what was known stays readable"
        with Server(QUICK.model_copy(update={"http_port": port}), [FakeClassifier("another")]):
            page.wait_for("another")
            page.wait("document.querySelector('.banner').childElementCount === 0")
        browser.complaints[:] = [each for each in browser.complaints if "ERR_CONNECTION" not in each]


def test_a_server_without_monitoring_says_so(browser: Browser) -> None:
    server = Server(QUICK.model_copy(update={"monitoring": None}), [FakeClassifier()])
    with server, ConsolePage(browser, server.http_url) as page:
        page.wait_for("Monitoring is switched off", ".banner")
        page.wait_for("sentiment", "main")
        page.go("playground")
        page.wait_for("Request", "main")
        assert page.text(".banner") == ""


def test_models_are_loaded_and_unloaded_where_that_is_allowed(browser: Browser) -> None:
    class Source:
        def __init__(self, name: str, fault: str = "") -> None:
            self.name, self.fault, self.loads = name, fault, 0

        def load(self) -> FakeClassifier:
            self.loads += 1
            if self.fault:
                raise ValueError(self.fault)
            return FakeClassifier(self.name, str(self.loads))

    config = QUICK.model_copy(update={"model_control": True})
    broken = Source("broken", "the weights are damaged")
    server = Server(config, sources=[Source("good"), broken], load=["good"])
    with server, ConsolePage(browser, server.http_url, expected=(500,)) as page:
        page.go("models")
        page.wait_for("version 1", ".model")
        page.press("Reload", ".model:nth-child(1)")
        page.wait_for("good is loaded.")
        page.wait_for("version 2", ".model")
        page.press("Load", ".model:nth-child(2)")
        page.wait_for("broken could not be loaded")
        page.wait_for("Failed", ".model:nth-child(2)")
        page.press("Unload", ".model:nth-child(1)")
        page.wait_for("Unload good?", "dialog")
        page.press("Cancel", "dialog")
        page.wait("!document.querySelector('dialog')")
        page.press("Unload", ".model:nth-child(1)")
        page.press("Unload", "dialog")
        page.wait_for("good is unloaded.")
        page.wait("document.querySelectorAll('.model .badge.good').length === 0")


def test_histories_are_joined(page: ConsolePage) -> None:
    def document(times: list[float], **more: object) -> dict[str, object]:
        series = {"request_rate": times}
        history = {"times": times, "server": series, "models": {"m/1": series}}
        return {
            "server": {"now": times[-1], "history_seconds": 6},
            "repository": [{"name": "m", "version": "1"}],
            "monitor": {"started": 1, "history": history},
            "signatures": {"m/1": {}},
        } | more

    def joined(known: dict[str, object], recent: dict[str, object]) -> object:
        script = f"import('{page.url}/console/core/live.js').then(({{ join }}) => join({json.dumps(known)}, {json.dumps(recent)}))"
        return page.run(script)

    known = document([10.0, 11.0, 12.0, 13.0])
    grown = joined(known, document([12.0, 13.0, 14.0, 18.0]))
    assert isinstance(grown, dict)
    assert grown["monitor"]["history"]["times"] == [12, 13, 14, 18]  # what is older than six seconds has gone
    assert grown["monitor"]["history"]["models"]["m/1"]["request_rate"] == [12, 13, 14, 18]
    assert joined(known, document([15.0, 16.0])) is None, "they do not meet"
    restarted = document([13.0], monitor={"started": 2, "history": {"times": [13.0], "server": {}, "models": {}}})
    assert joined(known, restarted) is None
    more = document([12.0, 13.0], repository=[{"name": "new", "version": "1"}])
    assert joined(known, more) is None, "a model's signature is not known"
    same = joined(known, document([12.0, 13.0]))
    assert isinstance(same, dict)
    assert same["monitor"]["history"]["times"] == [10, 11, 12, 13]


def test_the_browsers_language_is_the_first(busy: Server, tmp_path: Path) -> None:
    with Browser(tmp_path, language="zh-CN", dark=True) as browser, ConsolePage(browser, busy.http_url) as page:
        page.wait_for("服务中", ".state")
        for view in VIEWS:
            page.go(view)
        assert page.run("getComputedStyle(document.documentElement).colorScheme") == "light dark"
