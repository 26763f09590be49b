// A chat with a text model over `/v1/chat/completions`: words appear as they are generated, and can be stopped.

import { events, send } from "../core/api.js";
import { h, fill } from "../core/dom.js";
import * as format from "../core/format.js";
import { t } from "../core/i18n.js";
import { card, failure } from "../parts/cards.js";
import { icon } from "../parts/icons.js";
import { FieldError, parameterEditors } from "./fields.js";
import { chatSnippets, snippetBox } from "./snippets.js";

const PARAMETERS = [
  { name: "max_tokens", dtype: "int64", shape: [], description: "", optional: true },
  { name: "temperature", dtype: "float64", shape: [], description: "", optional: true },
  { name: "top_p", dtype: "float64", shape: [], description: "", optional: true },
  { name: "seed", dtype: "int64", shape: [], description: "", optional: true },
];

/** The panel of one model. */
export function chatPanel(model, keys) {
  const messages = [];
  const log = h("div", { class: "messages", role: "log", "aria-live": "polite", tabindex: "0" });
  const system = h("textarea", { name: "system", rows: 2, spellcheck: "false" });
  const parameters = parameterEditors(PARAMETERS);
  const prompt = h("textarea", {
    name: "prompt",
    rows: 3,
    placeholder: t("chat.placeholder"),
    "aria-label": t("chat.message"),
  });
  const problem = h("p", { class: "problem", role: "alert" });
  const submit = h("button", { type: "submit", class: "primary" }, t("chat.send"));
  const stop = h(
    "button",
    { type: "button", hidden: true, onclick: () => abort?.abort() },
    icon("stop"),
    t("chat.stop"),
  );
  const clear = h("button", { type: "button", class: "quiet", onclick: () => reset() }, t("chat.clear"));
  const form = h(
    "form",
    { class: "compose", novalidate: true },
    prompt,
    problem,
    h("div", { class: "buttons start" }, submit, stop, clear, h("span", { class: "hint" }, t("play.shortcut"))),
  );
  const talk = card(t("chat.title"), { hint: "POST /v1/chat/completions", wide: true });
  const settings = card(t("models.parameters"));
  const same = card(t("play.same"), { hint: t("play.sameHint") });
  const snippets = snippetBox();
  let abort = null;
  fill(talk.body, log, form);
  fill(
    settings.body,
    h("label", { class: "field" }, h("span", { class: "field-name" }, t("chat.system")), system),
    parameters.root,
  );
  fill(same.body, snippets.root);

  function body(list) {
    const chosen = Object.fromEntries(
      parameters.editors.map((editor) => [editor.name, editor.value()]).filter(([, value]) => value !== undefined),
    );
    const before = system.value.trim() ? [{ role: "system", content: system.value }] : [];
    return { model, messages: [...before, ...list], ...chosen, stream: true };
  }

  function refresh() {
    const list = [...messages, { role: "user", content: prompt.value || t("chat.example") }];
    try {
      snippets.show(chatSnippets(body(list), { keys }));
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
    }
  }

  function reset() {
    abort?.abort();
    messages.length = 0;
    fill(log, h("p", { class: "hint" }, t("chat.empty")));
    refresh();
  }

  function bubble(role, text = "") {
    const words = h("div", { class: "words" }, text);
    const note = h("div", { class: "hint" });
    log.append(h("article", { class: `message ${role}` }, h("h4", {}, t(`chat.${role}`)), words, note));
    log.scrollTop = log.scrollHeight;
    return { words, note };
  }

  async function ask() {
    problem.textContent = "";
    if (!prompt.value.trim()) {
      problem.textContent = t("field.missing", { name: t("chat.message") });
      prompt.focus();
      return;
    }
    const list = [...messages, { role: "user", content: prompt.value }];
    let request;
    try {
      request = { ...body(list), stream_options: { include_usage: true } };
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      problem.textContent = error.message;
      error.input.focus();
      return;
    }
    if (!messages.length) fill(log);
    bubble("user", prompt.value);
    prompt.value = "";
    submit.hidden = true;
    stop.hidden = false;
    abort = new AbortController();
    const answer = bubble("assistant");
    answer.words.classList.add("writing");
    try {
      const text = await stream(request, answer, abort.signal);
      messages.push(list.at(-1), { role: "assistant", content: text });
    } catch (error) {
      if (error.name === "AbortError") answer.note.textContent = t("chat.stopped");
      else answer.note.replaceWith(failure(t("play.refused", { status: error.status || t("silent") }), error));
    } finally {
      answer.words.classList.remove("writing");
      submit.hidden = false;
      stop.hidden = true;
      abort = null;
      refresh();
    }
  }

  async function stream(request, { words, note }, signal) {
    const began = performance.now();
    let first = null;
    let text = "";
    let usage = null;
    let reason = null;
    for await (const event of events(await send("v1/chat/completions", { method: "POST", body: request, signal }))) {
      if (event.error) throw new Error(event.error.message ?? event.error);
      const [choice] = event.choices ?? [];
      usage = event.usage ?? usage;
      reason = choice?.finish_reason ?? reason;
      const piece = choice?.delta?.content;
      if (!piece) continue;
      first ??= performance.now();
      text += piece;
      words.textContent = text;
      log.scrollTop = log.scrollHeight;
    }
    const ended = performance.now();
    const tokens = usage?.completion_tokens;
    const speed = tokens > 1 && ended > first ? (tokens - 1) / ((ended - first) / 1000) : null;
    note.textContent = [
      first === null ? null : t("chat.first", { time: format.seconds((first - began) / 1000) }),
      tokens ? t("chat.tokens", { tokens }) : null,
      speed ? t("chat.speed", { speed: format.plain(speed) }) : null,
      reason,
    ]
      .filter(Boolean)
      .join(" · ");
    return text;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  for (const each of [prompt, settings.root]) each.addEventListener("input", refresh);
  reset();
  return { root: h("div", { class: "grid" }, talk.root, settings.root, same.root), close: () => abort?.abort() };
}
