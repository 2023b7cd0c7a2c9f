// The programs of the store: what is deployed, what still runs on each, and the texts.

import { get, getText } from "./api.js";
import { fill, h, say } from "./dom.js";

/** @param {HTMLElement} main @param {string[]} rest */
export function programs(main, rest) {
  if (rest.length > 0) { text(main, rest[0], rest[1] ?? "0"); return; }
  const list = h("tbody", {});
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Programs")), h("div", { class: "card" }, h("table", {},
    h("thead", {}, h("tr", {}, ["File", "Program", "Deployed functions", "Entities", "Modules"].map((title) => h("th", { scope: "col" }, title)))), list)));
  get("/programs").then(({ items }) => {
    fill(list, items.length === 0 ? h("tr", {}, h("td", { colspan: 5, class: "nothing" }, "No program was run or deployed here.")) : items.map((/** @type {any} */ item) => h("tr", {},
      h("td", {}, h("a", { href: `#/programs/${item.program}/0` }, item.modules[0])),
      h("td", {}, h("code", {}, item.program.slice(0, 12))),
      h("td", {}, item.functions.map((/** @type {string} */ name) => h("div", {}, h("a", { href: `#/instances?function=${encodeURIComponent(name)}` }, name)))),
      h("td", {}, item.entities.map((/** @type {string} */ name) => h("div", {}, h("a", { href: `#/entities?name=${encodeURIComponent(name)}` }, name)))),
      h("td", {}, item.modules.filter((/** @type {string} */ name) => !name.startsWith("std:")).length))));
  }).catch((error) => say(error.message, true));
}

/** @param {HTMLElement} main @param {string} program @param {string} module */
async function text(main, program, module) {
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Program ", h("code", {}, program.slice(0, 12))), h("a", { href: "#/programs" }, "All programs")));
  try {
    const { items } = await get("/programs");
    const names = items.find((/** @type {any} */ item) => item.program === program)?.modules ?? [];
    const whole = await getText(`/programs/${program}/texts/${encodeURIComponent(module)}`);
    main.append(h("nav", { class: "chips", "aria-label": "Modules" }, names.map((/** @type {string} */ name, /** @type {number} */ at) =>
      h("a", { class: "chip", href: `#/programs/${program}/${at}`, "aria-current": String(at) === module ? "page" : undefined }, name))),
    h("div", { class: "card source", tabIndex: 0, role: "region", "aria-label": "Source" }, whole.split("\n").map((line, at) => h("div", { class: "line" }, h("span", { class: "number" }, at + 1), h("code", {}, line)))));
  } catch (error) { say(/** @type {Error} */ (error).message, true); }
}
