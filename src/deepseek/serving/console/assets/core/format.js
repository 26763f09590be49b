// Numbers as people read them: three figures, a unit, and the language's separators.

import { locale, t } from "./i18n.js";

export const NONE = "–";

const formats = new Map();

function number(value, options = {}) {
  const key = locale() + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(locale(), options));
  return formats.get(key).format(value);
}

const absent = (value) => value === null || value === undefined || Number.isNaN(value);

/** Three figures that count: 0.123, 1.23, 12.3, 1,234. */
function figures(value) {
  const size = Math.abs(value);
  const digits = size === 0 || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  if (size > 0 && size < 0.01) return number(value, { maximumSignificantDigits: 2 });
  return number(value, { minimumFractionDigits: size === 0 ? 0 : digits, maximumFractionDigits: digits });
}

/** A plain number. */
export function plain(value) {
  return absent(value) ? NONE : figures(value);
}

/** Something that is counted; long numbers are shortened. */
export function count(value) {
  if (absent(value)) return NONE;
  if (Math.abs(value) < 1e6) return number(value, { maximumFractionDigits: 0 });
  return number(value, { notation: "compact", maximumFractionDigits: 2 });
}

/** Per second. */
export function rate(value) {
  return absent(value) ? NONE : `${figures(value)} ${t("unit.perSecond")}`;
}

/** A duration in seconds, in the unit that fits. */
export function seconds(value) {
  if (absent(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return `0 ms`;
  if (size < 1e-3) return `${number(value * 1e6, { maximumFractionDigits: 0 })} µs`;
  if (size < 1) return `${figures(value * 1e3)} ms`;
  if (size < 120) return `${figures(value)} s`;
  return span(value);
}

/** A share from 0 to 1 as a percentage. */
export function share(value) {
  if (absent(value)) return NONE;
  const size = Math.abs(value);
  const digits = size === 0 || size >= 1 || size === 0.5 ? 0 : size >= 0.1 ? 1 : size >= 0.001 ? 2 : 3;
  return number(value, { style: "percent", maximumFractionDigits: digits });
}

/** A score from 0 to 1 with three digits. */
export function score(value) {
  return absent(value) ? NONE : number(value, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
}

/** A probability that may be tiny. */
export function probability(value) {
  if (absent(value)) return NONE;
  if (value < 1e-4) return `< ${number(0.0001, { maximumFractionDigits: 4 })}`;
  return number(value, { maximumSignificantDigits: 2 });
}

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes in binary units. */
export function bytes(value) {
  if (absent(value)) return NONE;
  const step = value < 1 ? 0 : Math.min(BINARY.length - 1, Math.floor(Math.log2(value) / 10));
  return `${figures(value / 1024 ** step)} ${BINARY[step]}`;
}

/** A tick of an axis: without the zeros that only say how exact a reading is. */
export function tick(format, value) {
  return format(value)
    .replace(/(\.\d*?)0+(?!\d)/, "$1")
    .replace(/\.(?!\d)/, "");
}

/** A long duration: 3 d 4 h, 5 h 12 min, 42 s. */
export function span(value) {
  if (absent(value)) return NONE;
  let rest = Math.max(0, Math.round(value));
  const parts = [];
  for (const [size, unit] of [
    [86400, "unit.days"],
    [3600, "unit.hours"],
    [60, "unit.minutes"],
    [1, "unit.seconds"],
  ]) {
    const whole = Math.floor(rest / size);
    if (whole || (size === 1 && !parts.length)) parts.push(`${whole} ${t(unit)}`);
    rest -= whole * size;
    if (parts.length === 2) break;
  }
  return parts.slice(0, 2).join(" ");
}

function time(value, options) {
  const key = `time ${locale()}${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale(), options));
  return formats.get(key).format(value);
}

/** Hours and minutes of a Unix time, with seconds if they matter. */
export function clock(at, withSeconds = false) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return time(at * 1000, withSeconds ? { ...options, second: "2-digit" } : options);
}

/** Date and time of a Unix time or an ISO text. */
export function moment(at) {
  if (absent(at)) return NONE;
  const value = typeof at === "string" ? new Date(at) : new Date(at * 1000);
  return time(value, { dateStyle: "medium", timeStyle: "short" });
}

/** A day such as 2026-11-27, without time zones getting in between. */
export function day(text) {
  return time(new Date(`${text}T12:00:00`), { month: "short", day: "numeric" });
}
