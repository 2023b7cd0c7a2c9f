// Entities with their states and queues, and the critical sections that wait for each other.

import { follow, get, post } from "./api.js";
import { ask, field, fill, h, millis, say, short, time, took } from "./dom.js";

/** The path of an entity, whose name has no `@`. @param {string} entity */
const pathOf = (entity) => {
  const at = entity.indexOf("@");
  return `/entities/${encodeURIComponent(entity.slice(0, at))}/${encodeURIComponent(entity.slice(at + 1))}`;
};

/** Calls a function after changes, at most four times a second. @param {() => void} load @param {(event: string) => boolean} wanted */
function after(load, wanted) {
  let waiting = 0;
  const stop = follow(({ event }) => {
    if (wanted(event) && !waiting) waiting = setTimeout(() => { waiting = 0; load(); }, 250);
  });
  return () => { stop(); clearTimeout(waiting); };
}

/** @param {HTMLElement} main @param {string[]} rest @param {URLSearchParams} params */
export function entities(main, rest, params) {
  if (rest.length > 0) return one(main, rest.join("/"));
  const list = h("tbody", {});
  const more = h("button", { class: "plain", hidden: true }, "More");
  const search = h("input", {
    type: "search", placeholder: "name of the entity", "aria-label": "Name", "data-search": true, value: params.get("name") ?? "",
    onchange: () => { location.hash = `#/entities${search.value ? `?name=${encodeURIComponent(search.value)}` : ""}`; },
  });
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Entities"), search),
    h("div", { class: "card" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Entity", "State", "Held by", "Waiting"].map((title) => h("th", { scope: "col" }, title)))), list), more));
  let shown = 0;
  /** @param {string | null} cursor */
  async function load(cursor = null) {
    try {
      const page = await get("/entities", { name: params.get("name"), limit: 100, cursor });
      const rows = page.items.map((/** @type {any} */ item) => h("tr", {},
        h("td", {}, h("a", { href: `#/entities/${encodeURIComponent(item.entity)}` }, item.entity)),
        h("td", { class: "says" }, item.state === null ? h("span", { class: "dim" }, "initial") : short(item.state, 120)),
        h("td", {}, item.held_by && h("a", { href: `#/instance/${encodeURIComponent(item.held_by)}` }, item.held_by)),
        h("td", {}, item.waiting || "")));
      if (cursor) list.append(...rows);
      else fill(list, rows.length ? rows : h("tr", {}, h("td", { colspan: 4, class: "nothing" }, "No entity has a state, a holder or a message.")));
      shown = cursor ? shown + rows.length : rows.length;
      more.hidden = page.next === null;
      more.onclick = () => load(page.next);
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  }
  load();
  return after(() => { if (shown <= 100) load(); }, (event) => event === "entity" || event === "gap");
}

/** @param {HTMLElement} main @param {string} entity */
function one(main, entity) {
  const path = pathOf(entity);
  const body = h("div", {});
  fill(main, h("div", { class: "bar" }, h("h1", {}, entity), h("button", { class: "main", onclick: signal }, "Signal…"), h("a", { href: "#/entities" }, "All entities")), body);
  async function load() {
    try {
      const view = await get(path);
      fill(body,
        h("section", { class: "card" }, h("h2", {}, "State"), view.state === null ? h("p", { class: "dim" }, "None: the next operation finds the initial one.") : h("pre", {}, JSON.stringify(view.state, null, 2))),
        view.held_by && h("section", { class: "card" }, h("h2", {}, "Held by"), h("p", {}, h("a", { href: `#/instance/${encodeURIComponent(view.held_by)}` }, view.held_by), ` since ${time(view.held_since)} (${took(Date.now() - millis(view.held_since))})`)),
        h("section", { class: "card" }, h("h2", {}, `Waiting: ${view.waiting.length}`),
          view.waiting.length > 0 && h("ol", {}, view.waiting.slice(0, 100).map((/** @type {any} */ item) => h("li", {}, h("b", {}, item.operation ?? item.message), ` ${item.args ? short(item.args, 120) : ""}`, item.caller && ` called by ${item.caller}`, item.owner && ` of ${item.owner}`, item.due && ` at ${time(item.due)}`))),
          view.waiting.length > 0 && h("button", { onclick: drop }, "Drop the next message…")));
    } catch (error) { fill(body, h("p", { class: "problem" }, /** @type {Error} */ (error).message)); }
  }
  async function signal() {
    const operation = h("input", { required: true });
    const args = h("textarea", { rows: 3, spellcheck: "false" });
    args.value = "[]";
    const done = await ask(`Signal ${entity}`, [field("Operation", operation), field("Arguments, a JSON list", args)], "Signal",
      () => post(`${path}/signal/${encodeURIComponent(operation.value)}`, { args: JSON.parse(args.value) }));
    if (done) say("The signal was sent");
  }
  async function drop() {
    const done = await ask(`Drop the message that ${entity} works on, or the next one?`, [h("p", {}, "Its caller gets an error of kind dropped.")], "Drop", () => post(`${path}/drop-message`));
    if (done) load();
  }
  load();
  return after(load, (event) => event === "entity" || event === "gap");
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
      const link = (/** @type {string} */ id) => h("a", { href: `#/instance/${encodeURIComponent(id)}` }, id);
      fill(list, items.length === 0 ? h("tr", {}, h("td", { colspan: 4, class: "nothing" }, "Nobody holds an entity.")) : items.map((/** @type {any} */ item) => h("tr", {},
        h("td", {}, h("a", { href: `#/entities/${encodeURIComponent(item.entity)}` }, item.entity)),
        h("td", {}, item.held_by && link(item.held_by)), h("td", {}, item.since && took(Date.now() - millis(item.since))),
        h("td", {}, item.waiting.map((/** @type {any} */ one) => h("div", {}, link(one.owner), ` for ${took(Date.now() - millis(one.since))}`))))));
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  }
  load();
  const stop = after(load, (event) => event === "entity" || event === "gap");
  const clock = setInterval(load, 5000);
  return () => { stop(); clearInterval(clock); };
}
