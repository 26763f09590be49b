// The page: which view is open, what is around it, and who is told when new numbers come.

import { json } from "./core/api.js";
import { h, fill, put, write } from "./core/dom.js";
import { clock } from "./core/format.js";
import { announce, currentLanguage, setLanguage, t } from "./core/i18n.js";
import { Live } from "./core/live.js";
import { applyTheme, currentKey, remember, remembered, setTheme, theme, useKey } from "./core/preferences.js";
import { choice, failure, notice } from "./parts/cards.js";
import { dialog, labelled } from "./parts/dialogs.js";
import { icon } from "./parts/icons.js";
import { keysView } from "./keys/view.js";
import { modelsView } from "./views/models.js";
import { overviewView } from "./views/overview.js";
import { playgroundView } from "./playground/view.js";
import { qualityView } from "./views/quality.js";
import { resourcesView } from "./views/resources.js";
import { stabilityView } from "./views/stability.js";

const VIEWS = {
  overview: overviewView,
  quality: qualityView,
  resources: resourcesView,
  stability: stabilityView,
  playground: playgroundView,
  models: modelsView,
  keys: keysView,
};
const RANGES = [300, 900, 3600, 21600];
const CHARTED = new Set(["overview", "quality", "resources", "stability"]);

class Page {
  constructor(role) {
    this.admin = role === "admin";
    this.names = this.admin ? ["keys"] : Object.keys(VIEWS);
    this.live = new Live();
    this.range = Number(remembered("range")) || 900;
    this.view = null;
    this.asking = false;
    this.bar = document.getElementById("bar");
    this.nav = document.getElementById("views");
    this.main = document.getElementById("main");
    this.state = h("span", { class: "state", role: "status" });
    this.banner = h("div", { class: "banner" });
    window.addEventListener("hashchange", () => this.open());
    this.live.addEventListener("change", () => this.changed());
  }

  start() {
    this.render();
    if (!this.admin) this.live.poll();
  }

  /** Everything, in the current language. */
  render() {
    announce();
    applyTheme();
    write(document.getElementById("skip"), t("skip"));
    fill(this.bar, this.head());
    this.nav.setAttribute("aria-label", t("views"));
    document.body.classList.toggle("alone", this.names.length === 1);
    this.view?.close?.();
    this.view = null;
    this.open();
  }

  head() {
    const themes = { auto: "auto", light: "sun", dark: "moon" };
    const next = { auto: "light", light: "dark", dark: "auto" };
    const themeButton = h("button", { type: "button", class: "quiet", id: "theme" });
    const dressed = () => {
      fill(themeButton, icon(themes[theme()]), h("span", { class: "not-narrow" }, t(`theme.${theme()}`)));
      themeButton.setAttribute("aria-label", `${t("theme")}: ${t(`theme.${theme()}`)}`);
    };
    themeButton.addEventListener("click", () => {
      setTheme(next[theme()]);
      dressed();
    });
    dressed();
    const other = currentLanguage() === "en" ? "zh" : "en";
    const language = h(
      "button",
      {
        type: "button",
        class: "quiet",
        id: "language",
        lang: other === "zh" ? "zh-CN" : "en",
        onclick: () => {
          setLanguage(other);
          this.render();
          document.getElementById("language").focus();
        },
      },
      other === "zh" ? "中文" : "English",
    );
    this.keyButton = h(
      "button",
      { type: "button", class: "quiet", id: "key", hidden: true, onclick: () => this.askKey() },
      icon("lock"),
      h("span", { class: "not-narrow" }, t(this.admin ? "token.label" : "key.button")),
    );
    return [
      h(
        "a",
        { class: "brand", href: this.admin ? "#keys" : "#overview" },
        h("img", { src: "console/icon.svg", alt: "", width: 24, height: 24 }),
        h("b", {}, "deepseek"),
        this.admin ? h("span", { class: "hint" }, t("admin")) : null,
      ),
      this.state,
      h("div", { class: "tools" }, this.keyButton, language, themeButton),
    ];
  }

  links(current) {
    return this.names.map((name) =>
      h(
        "a",
        { href: `#${name}`, "aria-current": name === current ? "page" : null },
        icon(name),
        h("span", {}, t(`view.${name}`)),
      ),
    );
  }

  /** Open the view that the address names, with what follows it: `#quality/model`. */
  open() {
    const [wanted, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
    const name = this.names.includes(wanted) ? wanted : this.names[0];
    const argument = rest.join("/");
    const links = this.links(name);
    fill(this.nav, links);
    links.find((link) => link.hasAttribute("aria-current"))?.scrollIntoView({ block: "nearest", inline: "center" });
    this.view?.close?.();
    this.view = VIEWS[name]({
      argument,
      live: this.live,
      admin: this.admin,
      range: () => this.range,
      navigate: (hash) => (location.hash = hash),
      locked: () => this.askKey(),
    });
    const ranges = this.ranges();
    fill(
      this.main,
      h(
        "div",
        { class: "heading" },
        h("h1", {}, t(`view.${name}`)),
        CHARTED.has(name) && ranges.length > 1
          ? choice(
              ranges.map((each) => [each, t(`range.${each}`)]),
              this.range,
              (value) => this.choose(value),
              t("range"),
            )
          : null,
      ),
      this.banner,
      this.view.root,
    );
    this.name = name;
    if (this.live.data) this.view.update?.(this.live.data);
    this.tell();
  }

  ranges() {
    const longest = this.live.data?.server.history_seconds ?? 900;
    return RANGES.filter((each) => each <= longest);
  }

  choose(range) {
    this.range = range;
    remember("range", String(range));
    if (this.live.data) this.view.update?.(this.live.data);
  }

  changed() {
    this.tell();
    if (this.live.status === "locked") this.askKey(this.live.error);
    if (!this.live.data) return;
    const first = !this.shown;
    this.shown = true;
    if (first && this.ranges().length > 1) this.open();
    else this.view.update?.(this.live.data);
  }

  /** What is said above every view: how the server is, and whether it answers. */
  tell() {
    const { status, data, error } = this.live;
    this.keyButton.hidden = !(currentKey() || data?.server.keys || this.admin || status === "locked");
    fill(this.banner);
    if (this.admin) return;
    if (status === "stale")
      put(this.banner, failure(data ? t("stale", { time: clock(data.server.now, true) }) : t("unreachable"), error));
    if (status === "locked") put(this.banner, failure(t("locked.banner"), error));
    document.body.classList.toggle("stale", status === "stale");
    const phase = data?.server.phase;
    const kind = status === "stale" || status === "locked" ? "bad" : phase === "serving" ? "good" : "warn";
    const text =
      status === "loading"
        ? t("loading")
        : status === "locked"
          ? t("locked")
          : status === "stale"
            ? t("silent")
            : t(`phase.${phase}`);
    fill(this.state, h("i", { class: `dot ${kind}` }), h("span", {}, text));
    if (phase === "draining" && status === "fresh") put(this.banner, notice(t("draining"), "warn"));
    if (data && data.monitor === null && CHARTED.has(this.name)) put(this.banner, notice(t("unwatched"), "warn"));
  }

  async askKey(error = null) {
    if (this.asking) return;
    this.asking = true;
    const input = h("input", {
      type: "password",
      name: "key",
      autocomplete: "off",
      spellcheck: "false",
      value: currentKey(),
      autofocus: true,
    });
    const kind = this.admin ? "token" : "key";
    let used = false;
    await dialog({
      title: t(`${kind}.title`),
      body: [
        h("p", {}, t(`${kind}.why`)),
        error && currentKey() ? h("p", { class: "problem" }, error.message) : null,
        labelled(t(`${kind}.label`), input, t("key.kept")),
      ],
      confirm: t("key.use"),
      act: () => {
        useKey(input.value.trim());
        used = true;
      },
    });
    this.asking = false;
    if (!used) return;
    if (this.admin) this.render();
    else this.live.poll();
  }
}

applyTheme();
announce();
try {
  const { page } = await json("console/about");
  new Page(page).start();
} catch (error) {
  fill(document.getElementById("main"), failure(t("unreachable"), error));
}
