// Entities with their states and queues, and the critical sections that wait for each other.

import { after, get } from "./api.js";
import { fill, h, instanceLink, millis, say, short, took } from "./dom.js";
import { entity } from "./entity.js";

/** @param {HTMLElement} main @param {string[]} rest @param {URLSearchParams} params */
export function entities(main, rest, params) {
  if (rest.length > 0) return entity(main, rest.join("/"));
  const chosen = params.get("name") ?? "";
  const list = h("tbody", {});
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
    h("div", { class: "card wide" }, h("table", { class: "entities" },
      h("thead", {}, h("tr", {}, ["Entity", "State", "Held by", "Waiting"].map((title) => h("th", { scope: "col" }, title)))), list), more));

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
      const rows = page.items.map((/** @type {any} */ item) => h("tr", {},
        h("td", {}, h("a", { href: `#/entities/${encodeURIComponent(item.entity)}` }, item.entity)),
        h("td", { class: "says" }, item.state === null ? h("span", { class: "dim" }, "initial") : short(item.state, 120)),
        h("td", {}, item.held_by && [instanceLink(item.held_by), h("span", { class: "dim" }, ` for ${took(Date.now() - millis(item.held_since))}`)]),
        h("td", {}, item.waiting || "")));
      if (cursor) list.append(...rows);
      else fill(list, rows.length ? rows : h("tr", {}, h("td", { colspan: 4, class: "nothing" }, `No entity${chosen ? ` of ${chosen}` : ""} has a state, a holder or a message.`)));
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
  const list = h("tbody", {});
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Locks")), h("div", { class: "card" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Entity", "Held by", "For", "Waiting, the longest first"].map((title) => h("th", { scope: "col" }, title)))), list)));
  async function load() {
    try {
      const { items } = await get("/locks");
      const waited = (/** @type {any} */ item) => Math.min(...item.waiting.map((/** @type {any} */ one) => millis(one.since)), item.since ? millis(item.since) : Infinity);
      items.sort((/** @type {any} */ a, /** @type {any} */ b) => waited(a) - waited(b));
      fill(list, items.length === 0 ? h("tr", {}, h("td", { colspan: 4, class: "nothing" }, "Nobody holds an entity.")) : items.map((/** @type {any} */ item) => h("tr", {},
        h("td", {}, h("a", { href: `#/entities/${encodeURIComponent(item.entity)}` }, item.entity)),
        h("td", {}, item.held_by && instanceLink(item.held_by)), h("td", {}, item.since && took(Date.now() - millis(item.since))),
        h("td", {}, item.waiting.map((/** @type {any} */ one) => h("div", {}, instanceLink(one.owner), ` for ${took(Date.now() - millis(one.since))}`))))));
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  }
  load();
  const stop = after(load, ({ event }) => event === "entity" || event === "gap" || event === "begin");
  const clock = setInterval(load, 5000);
  return () => { stop(); clearInterval(clock); };
}
