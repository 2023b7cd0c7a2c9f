// Entities with their states and queues, and the critical sections that wait for each other.

import { after, get } from "./api.js";
import { fill, h, instanceLink, millis, say, short, table, took } from "./dom.js";
import { entity } from "./entity.js";

/** The number of waiting critical sections that are shown of each entity. */
const SHOWN = 20;

/** @param {HTMLElement} main @param {string[]} rest @param {URLSearchParams} params */
export function entities(main, rest, params) {
  if (rest.length > 0) return entity(main, rest.join("/"));
  const chosen = params.get("name") ?? "";
  const list = table(["Entity", "State", "Held by", "Waiting"], "Entities");
  const more = h("button", { class: "plain", hidden: true }, "More");
  const names = h("select", { "aria-label": "Name", onchange: () => { location.hash = `#/entities${names.value ? `?name=${encodeURIComponent(names.value)}` : ""}`; } });
  const key = h("input", { type: "search", placeholder: "key  ( / )", "aria-label": "Key", "data-search": true, required: true });
  // Also an entity without a state has a page, with the operations that give it one.
  const open = h("form", { class: "inline", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    const name = names.value || (names.options.length === 2 ? names.options[1].value : "");
    if (name) location.hash = `#/entities/${encodeURIComponent(`${name}@${key.value.trim()}`)}`;
    else { say("Choose a name first", true); names.focus(); }
  } }, key, h("button", {}, "Open"));
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Entities"), names, open),
    h("div", { class: "card" }, list.root, more));

  get("/programs").then(({ items }) => {
    const all = new Set(items.flatMap((/** @type {any} */ item) => item.entities));
    if (chosen) all.add(chosen);
    fill(names, h("option", { value: "" }, "all names"), [...all].sort().map((name) => h("option", { value: name }, name)));
    names.value = chosen;
  }, (error) => say(error.message, true));

  let shown = 0;
  /** @param {string | null} cursor */
  async function load(cursor = null) {
    try {
      const page = await get("/entities", { name: chosen, limit: 100, cursor });
      const rows = page.items.map((/** @type {any} */ item) => list.row(
        h("a", { href: `#/entities/${encodeURIComponent(item.entity)}` }, item.entity),
        item.state === null ? h("span", { class: "dim" }, "initial") : h("span", { class: "says" }, short(item.state, 120)),
        item.held_by && [instanceLink(item.held_by), h("span", { class: "dim" }, ` for ${took(Date.now() - millis(item.held_since))}`)],
        item.waiting || ""));
      if (cursor) list.body.append(...rows);
      else fill(list.body, rows.length ? rows : list.nothing(`No entity${chosen ? ` of ${chosen}` : ""} has a state, a holder or a message.`));
      shown = cursor ? shown + rows.length : rows.length;
      more.hidden = page.next === null;
      more.onclick = () => load(page.next);
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  }
  load();
  return after(() => { if (shown <= 100) load(); }, ({ event }) => event === "entity" || event === "gap" || event === "begin");
}

/** @param {HTMLElement} main */
export function locks(main) {
  const list = table(["Entity", "Held by", "For", "Waiting, the longest first"], "Locks");
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Locks"), h("span", { class: "dim" }, "The longest wait comes first.")), h("div", { class: "card" }, list.root));
  async function load() {
    try {
      const { items } = await get("/locks");
      const waited = (/** @type {any} */ item) => Math.min(...item.waiting.map((/** @type {any} */ one) => millis(one.since)), item.since ? millis(item.since) : Infinity);
      items.sort((/** @type {any} */ a, /** @type {any} */ b) => waited(a) - waited(b));
      fill(list.body, items.length === 0 ? list.nothing("Nobody holds an entity.") : items.map((/** @type {any} */ item) => list.row(
        h("a", { href: `#/entities/${encodeURIComponent(item.entity)}` }, item.entity),
        item.held_by && instanceLink(item.held_by), item.since && took(Date.now() - millis(item.since)),
        item.waiting.length + item.calls > 0 && [
          item.waiting.slice(0, SHOWN).map((/** @type {any} */ one) => h("div", {}, instanceLink(one.owner), ` for ${took(Date.now() - millis(one.since))}`)),
          item.waiting.length > SHOWN && h("div", { class: "dim" }, `and ${(item.waiting.length - SHOWN).toLocaleString()} more`),
          item.calls > 0 && h("div", {}, h("a", { href: `#/entities/${encodeURIComponent(item.entity)}` }, `${item.calls.toLocaleString()} operation${item.calls === 1 ? "" : "s"}`))])));
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  }
  load();
  const stop = after(load, ({ event }) => event === "entity" || event === "gap" || event === "begin");
  const clock = setInterval(load, 5000);
  return () => { stop(); clearInterval(clock); };
}
