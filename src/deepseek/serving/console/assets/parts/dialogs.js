// Dialogs on the browser's own element, which keeps the focus inside and gives it back; and the copy button.

import { h, fill, uniqueId } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { icon } from "./icons.js";

/**
 * Ask in a dialog. `body`: nodes; `confirm`: text of the button, or null; `act`: what it does, which may throw an error
 * that is then shown, and may give nodes that take the body's place. Resolves when it is closed.
 */
export function dialog({ title, body, confirm, act, danger = false, closable = true }) {
  const heading = uniqueId("dialog");
  const problem = h("p", { class: "problem", role: "alert" });
  const content = h("div", { class: "dialog-body" }, body);
  const button = confirm ? h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm) : null;
  const cancel = closable
    ? h("button", { type: "button", onclick: () => element.close() }, t(confirm ? "cancel" : "close"))
    : null;
  const form = h(
    "form",
    { method: "dialog", novalidate: true },
    h("h2", { id: heading }, title),
    content,
    problem,
    h("div", { class: "buttons" }, cancel, button),
  );
  const element = h("dialog", { "aria-labelledby": heading }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = "";
    try {
      const shown = await act();
      if (!shown) return element.close();
      fill(content, shown);
      button.remove();
      if (cancel) cancel.textContent = t("close");
      (content.querySelector("button") ?? cancel)?.focus();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      button.disabled = false;
    }
    return undefined;
  });
  if (!closable) element.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(element);
  element.showModal();
  return new Promise((resolve) => {
    element.addEventListener("close", () => {
      element.remove();
      resolve();
    });
  });
}

/** A labelled input of a form. */
export function labelled(text, input, hint = null) {
  return h(
    "label",
    { class: "field" },
    h("span", { class: "field-name" }, text),
    input,
    hint ? h("span", { class: "hint" }, hint) : null,
  );
}

/** A button that copies what `text()` gives. */
export function copyButton(text, label = t("copy")) {
  const words = h("span", {}, label);
  const button = h("button", { type: "button", class: "copy" }, icon("copy"), words);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      words.textContent = t("copied");
    } catch {
      words.textContent = t("copyFailed"); // the page is not on a secure origin, or the browser was told not to
    }
    setTimeout(() => (words.textContent = label), 1600);
  });
  return button;
}

/** A text to copy, in a box. */
export function code(text, label) {
  return h(
    "div",
    { class: "code" },
    h("pre", { tabindex: "0", "aria-label": label }, text),
    copyButton(() => text),
  );
}
