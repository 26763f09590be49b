// Requests to this server. Its root is where the console's folder lies, so that a prefix before it does not matter.

import { currentKey } from "./preferences.js";

/** The server's root with a slash at its end. */
export const ROOT = new URL("../../", import.meta.url).href;

/** A refusal or a failure, as the server tells it. */
export class ApiError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

function headers(more) {
  const key = currentKey();
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

/** Send a request; the response when it is good. Raises `ApiError`, with status 0 when nobody answered. */
export async function send(path, { method = "GET", body, signal } = {}) {
  let response;
  try {
    response = await fetch(ROOT + path, {
      method,
      headers: headers(body === undefined ? {} : { "content-type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, error.message);
  }
  if (!response.ok) throw new ApiError(response.status, await told(response), response.headers.get("retry-after"));
  return response;
}

/** Send a request and read JSON. */
export async function json(path, options) {
  return (await send(path, options)).json();
}

async function told(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return (typeof error === "string" ? error : error?.message) ?? text;
  } catch {
    return text || response.statusText || `HTTP ${response.status}`;
  }
}

/** The payloads of server-sent events, until `[DONE]` (WHATWG HTML, 9.2). */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    buffer += value ?? "";
    const lines = buffer.split(/\r\n|\n|\r/);
    buffer = done ? "" : lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const payload = line.slice(5).trim();
      if (payload === "[DONE]") return;
      yield JSON.parse(payload);
    }
    if (done) return;
  }
}
