// What is remembered: language, theme and range for good; the key for this tab only, and never beyond it.

const PREFIX = "deepseek.console.";

function stored(area, name) {
  try {
    return area().getItem(PREFIX + name);
  } catch {
    return null; // storage is switched off: nothing is remembered
  }
}

function store(area, name, value) {
  try {
    if (value === null) area().removeItem(PREFIX + name);
    else area().setItem(PREFIX + name, value);
  } catch {
    // as above
  }
}

const local = () => window.localStorage;
const session = () => window.sessionStorage;

/** A preference, or null. */
export function remembered(name) {
  return stored(local, name);
}

/** Keep a preference; null forgets it. */
export function remember(name, value) {
  store(local, name, value);
}

let key = stored(session, "key") ?? "";

/** The API key (on the admin port the admin token), or an empty text. */
export function currentKey() {
  return key;
}

/** Use a key in this tab; an empty text forgets it. */
export function useKey(value) {
  key = value;
  store(session, "key", value || null);
}

/** `auto`, `light` or `dark`. */
export function theme() {
  const before = remembered("theme");
  return before === "light" || before === "dark" ? before : "auto";
}

/** Choose a theme, and remember it. */
export function setTheme(next) {
  remember("theme", next === "auto" ? null : next);
  applyTheme();
}

/** Tell the document its theme; the colours follow from `color-scheme`. */
export function applyTheme() {
  const chosen = theme();
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}
