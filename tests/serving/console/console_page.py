"""A console in a browser, as a person uses it: go to a view, press, write, read."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

from headless_chromium import Browser


class ConsolePage:
    """One console at ``url``; a context manager that checks at its end that the browser complained of nothing.

    Complaints are what a console's log would show: errors of scripts, violations of the security policy. Refusals that
    the page asks for and shows are no faults of the page; :attr:`expected` names their statuses.
    """

    def __init__(self, browser: Browser, url: str, *, expected: tuple[int, ...] = ()) -> None:
        self.browser, self.url, self.expected = browser, url, expected

    def __enter__(self) -> ConsolePage:
        self.browser.complaints.clear()
        self.browser.run("sessionStorage.clear(); localStorage.clear()") if self._here() else None
        self.browser.open("about:blank#")
        self.browser.open(f"{self.url}/console")
        self.browser.wait("document.querySelector('main .view')")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            allowed = [f"status of {status}" for status in self.expected]
            faults = [text for text in self.browser.complaints if not any(each in text for each in allowed)]
            assert faults == []

    def _here(self) -> bool:
        return bool(self.browser.run(f"location.origin === {json.dumps(self.url)}"))

    def run(self, script: str) -> Any:
        """The value of an expression."""
        return self.browser.run(script)

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        self.browser.wait(condition)

    def go(self, view: str) -> None:
        """Open a view, and wait until it shows something."""
        self.run(f"location.hash = {json.dumps(view)}; 0")
        link = f"#views a[href='#{view.split('/')[0]}'][aria-current]"
        self.wait(f"document.querySelector({json.dumps(link)}) && !document.querySelector('main .skeleton')")

    def text(self, selector: str = "main") -> str:
        """The visible text of an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements."""
        return list(
            self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent.trim())")
        )

    def exists(self, selector: str) -> bool:
        """Whether there is such an element."""
        return bool(self.run(f"document.querySelector({json.dumps(selector)}) !== null"))

    def wait_for(self, text: str, selector: str = "body") -> None:
        """Until a text is there."""
        self.wait(f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})")

    def press(self, text: str, within: str = "body") -> None:
        """Click the button or the link that says so."""
        script = f"[...document.querySelectorAll({json.dumps(within)} + ' :is(button, a)')]"
        self.run(f"{script}.find((e) => e.textContent.trim() === {json.dumps(text)}).click()")

    def write(self, selector: str, value: str) -> None:
        """Put a value into an input, as typing does."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            " e.dispatchEvent(new Event('input', { bubbles: true })); e.dispatchEvent(new Event('change', { bubbles: true }));"
            " })()"
        )

    def key(self, name: str) -> None:
        """Press a key on whatever has the focus."""
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)
