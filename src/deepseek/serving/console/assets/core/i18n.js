// The page's language: what the person chose before, else what the browser prefers.

import { remembered, remember } from "./preferences.js";
import { en } from "../texts/en.js";
import { zh } from "../texts/zh.js";

const TEXTS = { en, zh };
const LOCALES = { en: "en", zh: "zh-CN" };

let language = chosen();

function chosen() {
  const before = remembered("language");
  if (before in TEXTS) return before;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** A text in the current language, with `{name}` replaced by values. */
export function t(key, values = {}) {
  const text = TEXTS[language][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Whether there is a text of this name. */
export function has(key) {
  return key in en;
}

/** `en` or `zh`. */
export function currentLanguage() {
  return language;
}

/** What `Intl` calls it. */
export function locale() {
  return LOCALES[language];
}

/** Choose a language, and remember it. */
export function setLanguage(next) {
  language = next in TEXTS ? next : "en";
  remember("language", language);
  announce();
}

/** Tell the document its language. */
export function announce() {
  document.documentElement.lang = locale();
  document.title = t("title");
}
