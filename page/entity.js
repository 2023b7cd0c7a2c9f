// One entity: its state, its holder, the messages that wait for it, and its operations.

import { after, entityPath, get, post } from "./api.js";
import { ask, caller, fill, h, instanceLink, millis, pretty, short, time, took } from "./dom.js";
import { kept } from "./kept.js";
import { operations } from "./operations.js";

/** The number of waiting messages that are shown. */
const SHOWN = 100;

/** @param {HTMLElement} main @param {string} entity */
export function entity(main, entity) {
  const path = entityPath(entity);
  const name = entity.slice(0, entity.indexOf("@"));
  const state = h("div", { class: "state" });
  const holder = h("section", { class: "card waits", hidden: true });
  const waiting = h("section", { class: "card", hidden: true });
  const form = operations(name, path);
  const history = kept(entity);
  /** @type {any} */
  let view = null;
  let before = "";
  let over = false;
  fill(main,
    h("div", { class: "bar" }, h("h1", {}, entity), h("a", { href: `#/entities?name=${encodeURIComponent(name)}` }, `All of ${name}`)),
    holder,
    h("div", { class: "two" },
      h("div", {}, h("section", { class: "card" }, h("h2", {}, "State"), state), waiting),
      h("div", {}, form.root)),
    history.root);

  async function load() {
    try {
      view = await get(path);
    } catch (error) {
      if (!over) fill(state, h("p", { class: "problem" }, /** @type {Error} */ (error).message));
      return;
    }
    if (over) return;
    const now = pretty(view.state);
    fill(state, view.state === null ? h("p", { class: "dim" }, "None: the next operation finds the initial one.")
      : h("pre", { tabIndex: 0, class: before && before !== now ? "changed" : undefined }, now));
    before = now;
    draw();
  }

  function draw() {
    holder.hidden = !view.held_by;
    if (view.held_by) fill(holder, h("h2", {}, "Held by"), h("p", {}, instanceLink(view.held_by), ` since ${time(view.held_since)} (${took(Date.now() - millis(view.held_since))}). Operations of others wait until it is done.`));
    waiting.hidden = view.waiting.length === 0;
    fill(waiting, h("h2", {}, `Waiting: ${view.waiting.length.toLocaleString()}`),
      h("ol", {}, view.waiting.slice(0, SHOWN).map((/** @type {any} */ item) => h("li", {},
        h("b", {}, item.operation ?? item.message), ` ${item.args ? short(item.args, 120) : ""}`,
        item.caller && [" called by ", caller(item.caller)], item.owner && [" of ", instanceLink(item.owner)], item.due && ` at ${time(item.due)}`))),
      view.waiting.length > SHOWN && h("p", { class: "dim" }, `and ${(view.waiting.length - SHOWN).toLocaleString()} more`),
      h("button", { onclick: drop }, "Drop the next message…"));
  }

  async function drop() {
    const done = await ask(`Drop the message that ${entity} works on, or the next one?`, [h("p", {}, "Its caller gets an error of kind dropped.")], "Drop", () => post(`${path}/drop-message`));
    if (done) load();
  }

  load();
  const stop = after(() => { load(); history.load(); }, ({ event, data }) => event === "gap" || event === "begin" || (event === "entity" && data.entity === entity));
  const clock = setInterval(() => { if (view?.held_by && !document.querySelector("dialog[open]")) draw(); }, 1000);
  return () => { over = true; stop(); clearInterval(clock); form.end(); history.end(); };
}
