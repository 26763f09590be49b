// Line icons of 20 by 20, drawn for this page.

import { s } from "../core/dom.js";

const PATHS = {
  overview: "M3 3h6v6H3zM11 3h6v6h-6zM3 11h6v6H3zM11 11h6v6h-6z",
  quality: "M3 13.5c3 0 3-9 7-9s4 9 7 9M3 17h14",
  resources: "M5 5h10v10H5zM8 8h4v4H8zM8 2v3M12 2v3M8 15v3M12 15v3M2 8h3M2 12h3M15 8h3M15 12h3",
  stability: "M2 10h3.5l2-5 4.5 10 2.5-5H18",
  playground: "M6 4.5v11l9-5.5z",
  models: "M10 2.5l7 4-7 4-7-4zM3 10l7 4 7-4M3 13.5l7 4 7-4",
  keys: "M12.5 11.5a4 4 0 1 0-3.6-2.3L3 15v2h3v-2h2v-2h1.5l1-1.7a4 4 0 0 0 2 .2zM13.6 6.4h.01",
  sun: "M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v2M10 16v2M2 10h2M16 10h2M4.4 4.4l1 1M14.6 14.6l1 1M4.4 15.6l1-1M14.6 5.4l1-1",
  moon: "M16 11.5A6.5 6.5 0 1 1 8.5 4 5.2 5.2 0 0 0 16 11.5z",
  auto: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  copy: "M7 7h9v9H7zM4 13V4h9",
  plus: "M10 4v12M4 10h12",
  close: "M5 5l10 10M15 5L5 15",
  download: "M10 3v9M6.5 9l3.5 3.5L13.5 9M4 16.5h12",
  lock: "M5.5 9h9v7.5h-9zM7 9V6.5a3 3 0 0 1 6 0V9",
  check: "M4.5 10.5l3.5 3.5 7.5-8",
  alert: "M10 3l8 14H2zM10 8.5v4M10 14.7v.1",
  info: "M10 2.8a7.2 7.2 0 1 0 0 14.4 7.2 7.2 0 0 0 0-14.4zM10 9v5M10 6.2v.1",
  stop: "M6 6h8v8H6z",
  upload: "M10 13V4M6.5 7L10 3.5 13.5 7M4 16.5h12",
};

/** An icon; it says nothing to screen readers, the text beside it does. */
export function icon(name) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 20 20", width: 18, height: 18, "aria-hidden": "true" },
    s("path", { d: PATHS[name] }),
  );
}
