// The frame of the page: the place in the address, the parts at the top, and who is signed in.

import { begin, dropToken, get, hasToken, isLive, setToken, takeToken } from "./api.js";
import { fill, h, say } from "./dom.js";
import { instances } from "./instances.js";
import { instance } from "./instance.js";
import { cluster, orphans, place as store } from "./cluster.js";
import { entities, locks } from "./entities.js";
import { programs } from "./programs.js";

/** @type {Record<string, (main: HTMLElement, rest: string[], params: URLSearchParams) => (() => void) | void>} */
const PLACES = { instances, instance, entities, locks, programs, cluster };
const TITLES = /** @type {[string, string][]} */ ([
  ["instances", "Instances"], ["entities", "Entities"], ["locks", "Locks"], ["programs", "Programs"],
]);

/** What is written beside "Cluster"; `null` while the store is in a folder. @type {string | null} */
let ofCluster = null;

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const top_ = /** @type {HTMLElement} */ (document.getElementById("top"));
/** @type {(() => void) | void} */
let leave;

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  return { name: name in PLACES ? name : "instances", rest, params: new URLSearchParams(query ?? "") };
}

function show() {
  takeToken();
  leave?.();
  leave = undefined;
  const { name, rest, params } = place();
  head(name);
  if (!hasToken()) return signIn();
  document.title = rest[0] ? `${rest.join("@")} · durable` : `${name} · durable`;
  leave = PLACES[name](main, rest, params);
}

/** @param {string} current */
function head(current) {
  const here = current === "instance" ? "instances" : current;
  fill(top_,
    h("a", { class: "name", href: "#/instances" }, "durable"),
    h("nav", { "aria-label": "Parts" }, TITLES.map(([name, title]) =>
      h("a", { href: `#/${name}`, "aria-current": name === here ? "page" : undefined }, title)),
    ofCluster !== null && h("a", { href: "#/cluster", "aria-current": here === "cluster" ? "page" : undefined }, "Cluster", ofCluster && h("span", { class: "problem" }, ofCluster))),
    h("span", { id: "live", class: isLive() ? "live" : "dead", title: isLive() ? "Changes are shown as they happen" : "No connection: the page may be out of date" },
      isLive() ? "live" : "not live"),
    hasToken() && h("button", { class: "plain", onclick: () => { dropToken(); location.reload(); } }, "Sign out"));
}

function signIn() {
  const field = h("input", { type: "password", autocomplete: "off", required: true, "aria-label": "Token", placeholder: "token" });
  fill(main, h("form", {
    class: "card narrow",
    onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); setToken(field.value); location.reload(); },
  },
  h("h1", {}, "A token is needed"),
  h("p", {}, "The command ", h("code", {}, "durable open"), " opens this page with one. The tokens of a store are in its file ", h("code", {}, "token"), "."),
  field, h("button", { class: "main" }, "Sign in")));
  field.focus();
}

addEventListener("hashchange", show);
addEventListener("liveness", () => head(place().name));
addEventListener("signed-out", () => {
  if (!hasToken()) return;
  dropToken();
  say("The token is not accepted", true);
  show();
});
addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLSelectElement;
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    const search = /** @type {HTMLElement | null} */ (document.querySelector("[data-search]"));
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === "g") location.hash = "#/instances";
});

/** Looks whether the store is a cluster's, and from time to time whether each partition has an owner. */
async function watchCluster() {
  try {
    const found = await get("/cluster");
    if (found.id === null) return;
    store.isCluster = true;
    const lost = orphans(found).length;
    const before = ofCluster;
    ofCluster = lost > 0 ? ` · ${lost} without an owner` : "";
    if (before !== ofCluster) head(place().name);
  } catch { /* Other requests tell of a server that is away. */ }
  setTimeout(watchCluster, document.hidden ? 60_000 : 10_000);
}

takeToken();
if (hasToken()) {
  begin();
  watchCluster();
}
show();
