// The text of a program, with the chosen step marked and the number of steps beside each line.

import { getText } from "./api.js";
import { fill, h } from "./dom.js";

/** @param {string} program the hash of the program */
export function source(program) {
  const title = h("h2", {}, "Source");
  const text = h("div", { class: "source", tabIndex: 0, role: "region", "aria-label": "Source" });
  const root = h("section", { class: "card source-box" }, title, text);
  /** @type {Map<number, Promise<string>>} */
  const texts = new Map();
  let current = -1;
  /** @type {Map<string, number>} */
  let hits = new Map();

  /** @param {number} module */
  const read = (module) => {
    if (!texts.has(module)) texts.set(module, getText(`/programs/${program}/texts/${module}`));
    return /** @type {Promise<string>} */ (texts.get(module));
  };

  /** Splits a line at bytes, since places count bytes. @param {string} line @param {number} at */
  const cut = (line, at) => {
    const bytes = new TextEncoder().encode(line);
    return [new TextDecoder().decode(bytes.slice(0, at)), new TextDecoder().decode(bytes.slice(at))];
  };

  /** @param {any} at the place of a step, or null for the beginning of the program */
  async function show(at) {
    const module = at?.module ?? 0;
    let whole;
    try { whole = await read(module); } catch { fill(text, h("p", { class: "nothing" }, "The text is not in the store.")); return; }
    title.textContent = at?.file ? `Source · ${at.file}` : "Source";
    const encoder = new TextEncoder();
    let offset = 0;
    /** @type {any} */
    let marked = null;
    const lines = whole.split("\n").map((line, index) => {
      const begin = offset;
      const length = encoder.encode(line).length;
      offset += length + 1;
      const count = hits.get(`${module}:${index + 1}`);
      let parts = [document.createTextNode(line)];
      if (at && at.start < begin + length + 1 && at.end > begin && length > 0) {
        const [before, rest] = cut(line, Math.max(0, at.start - begin));
        const [inside, after] = cut(rest, Math.min(length, at.end - begin) - Math.max(0, at.start - begin));
        const mark = h("mark", {}, inside);
        marked ??= mark;
        parts = [document.createTextNode(before), mark, document.createTextNode(after)];
      }
      return h("div", { class: "line" }, h("span", { class: "hits", title: count ? `${count} step${count === 1 ? "" : "s"}` : undefined }, count ? `${count}×` : ""), h("span", { class: "number" }, index + 1), h("code", {}, parts));
    });
    fill(text, lines);
    current = module;
    if (marked) {
      const box = /** @type {HTMLElement} */ (marked.closest(".line"));
      text.scrollTop = box.offsetTop - text.offsetTop - text.clientHeight / 2;
    }
  }

  /** The number of the line at a byte. @param {number} module @param {number} start */
  async function lineOf(module, start) {
    const bytes = new TextEncoder().encode(await read(module));
    let line = 1;
    for (let at = 0; at < start && at < bytes.length; at += 1) if (bytes[at] === 10) line += 1;
    return line;
  }

  return {
    root,
    show,
    lineOf,
    /** Counts the steps of each line. @param {any[]} bars */
    count(bars) {
      hits = new Map();
      for (const bar of bars) {
        if (bar.at) hits.set(`${bar.at.module}:${bar.at.line}`, (hits.get(`${bar.at.module}:${bar.at.line}`) ?? 0) + 1);
      }
      if (current >= 0) return;
      show(null);
    },
  };
}
