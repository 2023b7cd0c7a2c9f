// Requests to the server, and its feed of changes.

const TOKEN = "durable-token";

/** A refused request. `problem` is the body of the answer. */
export class Refused extends Error {
  /** @param {number} status @param {any} problem */
  constructor(status, problem) {
    super(problem?.hint ? `${problem.title}. ${problem.hint}` : problem?.title ?? `the server answers ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** Takes the token out of the address, so that nobody copies it by accident. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token");
  if (!token) return;
  sessionStorage.setItem(TOKEN, token);
  const id = given.get("instance");
  history.replaceState(null, "", id ? `#/instance/${encodeURIComponent(id)}` : "#/instances");
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
/** @param {string} token */
export const setToken = (token) => sessionStorage.setItem(TOKEN, token.trim());
export const dropToken = () => sessionStorage.removeItem(TOKEN);

/**
 * Reads JSON so that numbers keep their digits: 9007199254740993 and 2.0 stay what they are when
 * they are shown. Older browsers round them.
 * @param {string} text
 */
function exact(text) {
  const raw = /** @type {any} */ (JSON).rawJSON;
  if (!raw) return JSON.parse(text);
  return JSON.parse(text, /** @type {any} */ ((/** @type {string} */ _key, /** @type {any} */ value, /** @type {{source?: string}} */ context) =>
    (typeof value === "number" && context?.source !== undefined && context.source !== String(value) ? raw(context.source) : value)));
}

/** @param {string} path @param {RequestInit} [init] */
async function ask(path, init = {}) {
  const headers = { ...(init.headers ?? {}), authorization: `Bearer ${sessionStorage.getItem(TOKEN) ?? ""}` };
  const answer = await fetch(path, { ...init, headers, cache: "no-store" });
  if (answer.ok) return answer;
  let problem = null;
  try { problem = exact(await answer.text()); } catch { /* not JSON */ }
  if (answer.status === 401) dispatchEvent(new Event("signed-out"));
  throw new Refused(answer.status, problem);
}

/** @param {string} path @param {Record<string, any>} [params] */
export async function get(path, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "" && value !== false) query.set(key, String(value));
  }
  const text = query.toString();
  return exact(await (await ask(`/api/v1${path}${text ? `?${text}` : ""}`)).text());
}

/** @param {string} path */
export const getText = async (path) => (await ask(`/api/v1${path}`)).text();

/** @param {string} path @param {any} [body] */
export async function post(path, body) {
  const init = { method: "POST", headers: { "content-type": "application/json" }, body: body === undefined ? "" : JSON.stringify(body) };
  return exact(await (await ask(`/api/v1${path}`, init)).text());
}

/** Posts a text that is JSON already. @param {string} path @param {string} body */
export async function postText(path, body) {
  return exact(await (await ask(`/api/v1${path}`, { method: "POST", headers: { "content-type": "application/json" }, body })).text());
}

/** @param {string} id */
export const instancePath = (id) => `/instances/${encodeURIComponent(id)}`;

/** The path of an entity, such as `Account@ada`. Its name has no `@`. @param {string} entity */
export const entityPath = (entity) => {
  const at = entity.indexOf("@");
  return `/entities/${encodeURIComponent(entity.slice(0, at))}/${encodeURIComponent(entity.slice(at + 1))}`;
};

// ---- the feed. Browsers allow six connections to a server, so one tab reads and tells the others.

/** @type {Set<(change: {event: string, data: any}) => void>} */
const followers = new Set();
const channel = "BroadcastChannel" in window ? new BroadcastChannel("durable-feed") : null;
let alive = false;

/** Whether changes arrive. */
export const isLive = () => alive;

/** Calls a function for each change. Returns a function that ends this. @param {(change: {event: string, data: any}) => void} follower */
export function follow(follower) {
  followers.add(follower);
  return () => followers.delete(follower);
}

/**
 * Calls a function after changes, at most four times a second. Returns a function that ends this.
 * @param {() => void} load @param {(change: {event: string, data: any}) => boolean} wanted
 */
export function after(load, wanted) {
  let waiting = 0;
  const stop = follow((change) => {
    if (wanted(change) && !waiting) waiting = setTimeout(() => { waiting = 0; load(); }, 250);
  });
  return () => { stop(); clearTimeout(waiting); };
}

/** @param {{event: string, data: any}} change */
function tell(change) {
  const before = alive;
  alive = change.event !== "lost";
  if (before !== alive) dispatchEvent(new Event("liveness"));
  for (const follower of [...followers]) follower(change);
}

/** @param {{event: string, data: any}} change */
function tellAll(change) {
  tell(change);
  channel?.postMessage(change);
}

export function begin() {
  channel?.addEventListener("message", ({ data }) => {
    if (data.event === "who") { if (reads) channel.postMessage({ event: "begin", data: {} }); }
    else tell(data);
  });
  channel?.postMessage({ event: "who" });
  if (channel && navigator.locks) navigator.locks.request("durable-feed", read);
  else read();
}

let reads = false;

/** Reads the feed for ever, and goes on where it was after an interruption. */
async function read() {
  reads = true;
  let last = "";
  let pause = 500;
  for (;;) {
    try {
      const headers = /** @type {Record<string, string>} */ (last ? { "last-event-id": last } : {});
      // More changes at once than a page can show are told as a gap.
      const answer = await ask("/api/v1/changes?most=200", { headers });
      const reader = /** @type {ReadableStream<Uint8Array>} */ (answer.body).pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        pause = 500;
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop() ?? "";
        for (const part of parts) {
          let event = "message";
          let data = "";
          for (const line of part.split("\n")) {
            if (line.startsWith("event:")) event = line.slice(6).trim();
            else if (line.startsWith("data:")) data += line.slice(5).trim();
            else if (line.startsWith("id:")) last = line.slice(3).trim();
          }
          if (data) tellAll({ event, data: JSON.parse(data) });
        }
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 400) last = "";
      if (error instanceof Refused && error.status === 401) pause = 5000;
    }
    tellAll({ event: "lost", data: {} });
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, 10_000);
  }
}
