"""The console: a page at ``/console`` that shows a server's models, quality, resources and stability, and tries it.

- :mod:`.assets`: the page's files, written by hand in HTML, CSS and JavaScript modules; no build step, no framework,
  nothing from another host.
- :mod:`.state`: what the page is told, one JSON document out of the server's monitor and its repository.
- :mod:`.routes`: both at their URLs on the REST port.
- :mod:`.admin_page`: the same files on the admin port, where the page administers keys.

Whoever may open it: the files hold nothing and need no key; what they show needs the same key as any other request
where the server asks for keys, and a key sees the models that its scopes cover. Without keys the console is offered on
loopback alone (:class:`ConsoleConfig`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepseek.lazy import names_of

if TYPE_CHECKING:
    from deepseek.serving.console.admin_page import AdminConsole
    from deepseek.serving.console.config import ConsoleConfig
    from deepseek.serving.console.routes import ConsoleRoutes

__all__ = ["AdminConsole", "ConsoleConfig", "ConsoleRoutes"]

__getattr__ = names_of(
    __name__,
    {
        "AdminConsole": f"{__name__}.admin_page",
        "ConsoleConfig": f"{__name__}.config",
        "ConsoleRoutes": f"{__name__}.routes",
    },
)
