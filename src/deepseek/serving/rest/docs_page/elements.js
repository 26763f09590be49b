// Making elements. Whatever comes from the server becomes text, never markup.

import { text } from "./texts.js";

/** An element with properties and children; children are elements or strings. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (key === "data") Object.assign(made.dataset, value);
    else if (key.startsWith("aria-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An element whose text follows the language. */
export function said(name, key, properties = {}) {
  return element(name, { ...properties, textContent: text(key), data: { text: key } });
}
