// The operations of an entity that the store has kept, the newest first.

import { entityPath, get } from "./api.js";
import { caller, fill, h, millis, pretty, say, short, table, time, took } from "./dom.js";

/** The number of operations that are read at once. */
const PAGE = 50;
/** The number of changed fields that are shown of a state. */
const FIELDS = 3;

/** Whether a value is a record with fields. @param {any} value */
const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !("rawJSON" in value);

/** How a state has changed: its fields that differ, or the whole. @param {any} before @param {any} after */
function changes(before, after) {
  const arrow = (/** @type {any} */ old, /** @type {any} */ fresh, none = "none") => `${old === undefined ? none : short(old, 40)} → ${fresh === undefined ? none : short(fresh, 40)}`;
  if (!isRecord(before) || !isRecord(after)) return [arrow(before ?? undefined, after ?? undefined, "initial")];
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  const lines = names.slice(0, FIELDS).map((name) => `${name}: ${arrow(before[name], after[name])}`);
  if (names.length > FIELDS) lines.push(`and ${names.length - FIELDS} more`);
  return lines;
}

/** @param {string} entity */
export function kept(entity) {
  const list = table(["When", "Operation", "Caller", "Result", "State"], "Operations that were carried out");
  const about = h("p", { class: "dim" });
  const more = h("button", { class: "plain", hidden: true }, "Earlier operations");
  const root = h("section", { class: "card" }, h("h2", {}, "History"), about, list.root, more);
  /** @type {any[]} */
  let items = [];
  /** @type {string | null} */
  let next = null;
  let over = false;

  /** @param {string | null} cursor */
  const read = (cursor) => get(`${entityPath(entity)}/operations`, { limit: PAGE, cursor });

  /** @param {any} page */
  function draw({ kept: goesOn, count }) {
    fill(about, goesOn ? (count === 0 ? "No operation was carried out since operations are kept." : `${count.toLocaleString()} operation${count === 1 ? " is" : "s are"} kept.`)
      : [count > 0 ? `${count.toLocaleString()} earlier operations are kept, and no new ones. ` : "Operations are not kept. ", h("code", {}, "durable serve --journal-entities"), " keeps them from then on."]);
    list.root.hidden = items.length === 0;
    more.hidden = next === null;
    const open = new Set([...list.body.querySelectorAll("details[open]")].map((one) => one.getAttribute("data-number")));
    fill(list.body, items.map((one) => row(one, open)));
  }

  /** @param {any} one @param {Set<string | null>} open */
  function row(one, open) {
    const failed = one.error !== undefined;
    const value = one.error?.value;
    const states = [h("summary", {}, one.changed ? changes(one.before, one.after).map((line, at) => [at > 0 && h("br", {}), line]) : h("span", { class: "dim" }, "unchanged")),
      h("pre", { tabIndex: 0 }, one.changed ? `${pretty(one.before)}\n→ ${pretty(one.after)}` : pretty(one.before)),
      one.entries.length > 0 && h("pre", { tabIndex: 0 }, pretty(one.entries))];
    return list.row(
      [h("span", { title: one.begun }, time(one.begun)), one.ended !== one.begun && h("span", { class: "dim" }, ` ${took(millis(one.ended) - millis(one.begun))}`)],
      h("code", { title: short(one.args, 2000) }, `${one.operation}(${short(one.args, 80).slice(1, -1)})`),
      one.caller ? caller(one.caller) : h("span", { class: "dim", title: one.from }, "a signal"),
      failed ? h("span", { class: "badge failed" }, value?.kind ? `${value.kind}: ${value.message ?? ""}` : short(value, 120)) : h("code", {}, short(one.value, 80)),
      [one.follows_gap && h("div", { class: "dim" }, "Operations before this one were not kept."), h("details", { "data-number": one.number, open: open.has(String(one.number)) }, states)]);
  }

  more.onclick = async () => {
    try {
      const page = await read(next);
      if (over) return;
      items.push(...page.items);
      next = page.next;
      draw(page);
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  };

  /** Reads the newest operations, and keeps the earlier ones that are shown. */
  async function load() {
    try {
      const page = await read(null);
      if (over) return;
      const newest = items[0]?.number ?? 0;
      const oldest = page.items.at(-1)?.number ?? 0;
      // More than a page may have come since.
      if (oldest > newest + 1 || items.length <= PAGE) { items = page.items; next = page.next; }
      else items = [...page.items.filter((/** @type {any} */ one) => one.number > newest), ...items];
      draw(page);
    } catch (error) { if (!over) fill(about, /** @type {Error} */ (error).message); }
  }
  load();
  return { root, load, end() { over = true; } };
}
