// The moments of a run: a slider over the entries of the history, steps, calls and variables.

import { get } from "./api.js";
import { fill, h } from "./dom.js";

/**
 * @param {string} path the path of the instance
 * @param {(at: any) => void} show shows a place in the source
 */
export function moments(path, show) {
  const slider = h("input", { type: "range", min: 0, max: 0, step: 1, value: "0", "aria-label": "Entry of the history" });
  const where = h("output", { class: "dim" }, "");
  const box = h("div", { class: "moment" });
  const open = h("button", { onclick: () => visit({}) }, "Visit its moments: lines and variables");
  const back = h("button", { title: "a statement back", onclick: () => visit({ at: position, step: "back" }) }, "‹ statement");
  const next = h("button", { title: "a statement further", onclick: () => visit({ at: position, step: "next" }) }, "statement ›");
  const root = h("section", { class: "card moments" }, h("div", { class: "bar" }, h("h2", {}, "Moment"), open, back, slider, next, where), box);
  for (const element of [slider, back, next]) element.hidden = true;
  let position = "";
  let asked = 0;
  let waits = 0;

  slider.addEventListener("input", () => {
    clearTimeout(waits);
    waits = setTimeout(() => visit({ at: slider.value }), 120);
  });

  /** @param {Record<string, any>} wanted */
  async function visit(wanted) {
    const number = ++asked;
    let moment;
    try {
      moment = await get(`${path}/debug`, wanted);
    } catch (error) {
      if (number === asked) fill(box, h("p", { class: "problem" }, /** @type {Error} */ (error).message));
      return;
    }
    // Another moment may have been asked for meanwhile.
    if (number !== asked) return;
    position = moment.position;
    slider.max = String(moment.entries);
    slider.value = String(moment.entry);
    for (const element of [slider, back, next]) element.hidden = false;
    open.hidden = true;
    const at = moment.at ? ` · ${moment.at.file}:${moment.at.line}` : "";
    fill(where, `${position} of ${moment.entries}${at}${moment.is_end ? " · the history ends here" : ""}`);
    if (moment.at) show(moment.at);
    fill(box,
      moment.tasks.length > 1 && h("p", { class: "dim" }, moment.tasks.map((/** @type {any} */ task) => `task ${task.id} ${task.does}`).join(" · ")),
      moment.is_trimmed && h("p", { class: "dim" }, "The history is kept from its last checkpoint on, so variables can't be seen."),
      moment.calls.slice(0, 50).map((/** @type {any} */ call) => h("div", { class: "call" },
        h("h3", {}, call.at ? h("button", { class: "link", onclick: () => show(call.at) }, call.function) : call.function),
        h("dl", { class: "facts" }, call.variables.map((/** @type {any} */ variable) => h("div", {}, h("dt", {}, variable.name), h("dd", {}, variable.value)))))));
  }

  return root;
}
