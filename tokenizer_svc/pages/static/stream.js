// The server's API as this page uses it: answers as they come, over as many connections as that takes.

const PATIENCE_MS = 90_000; // without a byte or a connection, after which an answer is given up
const PAUSES_MS = [250, 500, 1000, 2000, 3000];

/** What the server said is wrong, or that it cannot be reached. */
export class ApiError extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
    this.isEnd = false; // of an answer, as its stream says
  }
}

/** One call. Raises ApiError. */
export async function call(path, { key, ...options } = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(key, options), credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try { message = (await response.json()).error.message ?? message; } catch { /* no JSON: a proxy's page */ }
  throw new ApiError(response.status, message, Number(response.headers.get("Retry-After")) || 0);
}

function headers(key, options) {
  const found = { ...options.headers };
  if (options.body) found["Content-Type"] = "application/json";
  if (key) found.Authorization = `Bearer ${key}`;
  return found;
}

/**
 * The chunks of an answer: `{id, last, data}`. When its connection breaks, the rest is asked for, from any front door.
 *
 * `place` is null for a new answer to `body`, else `{id, last}` of one that was begun. `onBroken(true)` is called when the
 * connection is lost and `onBroken(false)` when it is back.
 */
export async function* answer({ body, place, key, signal, onBroken }) {
  let at = place;
  let broken = Boolean(place);
  let since = performance.now();
  for (let tries = 0; ; tries++) {
    try {
      const response = at
        ? await call(`v1/streams/${encodeURIComponent(at.id)}`, { key, signal, headers: { "Last-Event-ID": at.last } })
        : await call("v1/chat/completions", { key, signal, method: "POST", body: JSON.stringify(body) });
      if (broken) onBroken(false);
      broken = false;
      for await (const event of events(response.body)) {
        since = performance.now();
        tries = 0;
        if (event.id) at = { id: event.id.slice(0, event.id.lastIndexOf(":")), last: event.id };
        if (event.data === "[DONE]") return;
        const data = JSON.parse(event.data);
        if (data.error) throw Object.assign(new ApiError(0, data.error.message), { isEnd: true });
        yield { ...at, data };
      }
    } catch (error) {
      if (error.name === "AbortError" || !at || error.isEnd || (error.status && !passes(error))) throw error;
    }
    if (!at || performance.now() - since > PATIENCE_MS) throw new ApiError(0, "The connection was lost.");
    if (!broken) onBroken(true);
    broken = true;
    await pause(PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)], signal);
  }
}

const passes = (error) => [408, 429, 500, 502, 503, 504].includes(error.status);

/** Cancel an answer, and free what it holds. */
export async function cancel(id, key) {
  await call(`v1/streams/${encodeURIComponent(id)}`, { key, method: "DELETE" });
}

/** Server-sent events of a body. Ends where the body ends; raises where it breaks. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = { id: null, data: null };
        for (const line of part.split("\n")) {
          if (line.startsWith("data: ")) event.data = (event.data === null ? "" : event.data + "\n") + line.slice(6);
          else if (line.startsWith("id: ")) event.id = line.slice(4);
        }
        if (event.data !== null) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    }, { once: true });
  });
}
