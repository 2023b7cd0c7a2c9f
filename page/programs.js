// The programs of the store: what is deployed, what still runs on each, the texts, and how two
// versions differ.

import { get, getText } from "./api.js";
import { diff } from "./diff.js";
import { fill, h, say, table, time } from "./dom.js";

/** The number of equal lines that are shown around lines that differ. */
const AROUND = 3;

/** @param {HTMLElement} main @param {string[]} rest @param {URLSearchParams} params */
export function programs(main, rest, params) {
  if (rest.length > 0) { text(main, rest[0], rest[1] ?? "0", params.get("with")); return; }
  const list = table(["File", "Version", "Deployed", "Unfinished", "Functions", "Entities"], "Programs");
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Programs")), h("div", { class: "card" }, list.root));
  get("/programs").then(({ items }) => {
    // Versions of a file are together, the newest first.
    items.sort((/** @type {any} */ a, /** @type {any} */ b) => a.modules[0].localeCompare(b.modules[0]) || (b.deployed ?? "").localeCompare(a.deployed ?? ""));
    fill(list.body, items.length === 0 ? list.nothing("No program was run or deployed here.") : items.map((/** @type {any} */ item, /** @type {number} */ at) => {
      const older = items[at + 1]?.modules[0] === item.modules[0] ? items[at + 1] : null;
      return list.row(
        h("a", { href: `#/programs/${item.program}/0` }, item.modules[0]),
        [h("code", {}, item.program.slice(0, 12)), older && [" ", h("a", { href: `#/programs/${item.program}/0?with=${older.program}` }, "changes")]],
        item.deployed ? time(item.deployed) : h("span", { class: "dim" }, "no"),
        item.unfinished || "",
        item.functions.length > 0 && item.functions.map((/** @type {string} */ name) => h("div", {}, h("a", { href: `#/instances?function=${encodeURIComponent(name)}` }, name))),
        item.entities.length > 0 && item.entities.map((/** @type {string} */ name) => h("div", {}, h("a", { href: `#/entities?name=${encodeURIComponent(name)}` }, name))));
    }));
  }).catch((error) => say(error.message, true));
}

/** @param {HTMLElement} main @param {string} program @param {string} module @param {string | null} other */
async function text(main, program, module, other) {
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Program ", h("code", {}, program.slice(0, 12))), h("a", { href: "#/programs" }, "All programs")));
  try {
    const { items } = await get("/programs");
    const names = items.find((/** @type {any} */ item) => item.program === program)?.modules ?? [];
    const whole = await getText(`/programs/${program}/texts/${encodeURIComponent(module)}`);
    // Other versions have the module under the same name.
    const versions = items.filter((/** @type {any} */ item) => item.program !== program && item.modules.includes(names[Number(module)]));
    const choice = h("select", { onchange: () => { location.hash = `#/programs/${program}/${module}${choice.value ? `?with=${choice.value}` : ""}`; } },
      h("option", { value: "" }, "no other version"),
      versions.map((/** @type {any} */ item) => h("option", { value: item.program }, `${item.program.slice(0, 12)}${item.deployed ? `, deployed ${time(item.deployed)}` : ""}`)));
    choice.value = other ?? "";
    const parts = [
      h("nav", { class: "chips", "aria-label": "Modules" }, names.map((/** @type {string} */ name, /** @type {number} */ at) =>
        h("a", { class: "chip", href: `#/programs/${program}/${at}${other ? `?with=${other}` : ""}`, "aria-current": String(at) === module ? "page" : undefined }, name))),
      ...(versions.length > 0 ? [h("label", { class: "compare" }, "Compared with ", choice)] : []),
    ];
    const before = other ? await getText(`/programs/${other}/texts/${encodeURIComponent(names[Number(module)])}`).catch(() => "") : null;
    main.append(...parts, h("div", { class: "card source tall", tabIndex: 0, role: "region", "aria-label": before === null ? "Source" : "Changes" },
      before === null ? whole.split("\n").map((line, at) => h("div", { class: "line" }, h("span", { class: "number" }, at + 1), h("code", {}, line)))
        : changes(before, whole)));
  } catch (error) { say(/** @type {Error} */ (error).message, true); }
}

/** The lines of a comparison; long equal stretches fold. @param {string} before @param {string} after */
function changes(before, after) {
  const lines = diff(before, after);
  if (lines.every((line) => line.is === "same")) return h("p", { class: "nothing" }, "Both versions have the same text.");
  const near = lines.map(() => false);
  lines.forEach((line, at) => {
    if (line.is === "same") return;
    for (let place = Math.max(0, at - AROUND); place <= Math.min(lines.length - 1, at + AROUND); place += 1) near[place] = true;
  });
  const shown = /** @type {any[]} */ ([]);
  let folded = 0;
  lines.forEach((line, at) => {
    if (!near[at]) { folded += 1; if (near[at + 1] || at === lines.length - 1) { shown.push(h("div", { class: "line folded" }, `${folded} equal line${folded === 1 ? "" : "s"}`)); folded = 0; } return; }
    const mark = line.is === "old" ? "−" : line.is === "new" ? "+" : " ";
    shown.push(h("div", { class: `line ${line.is}` },
      h("span", { class: "number" }, line.before ?? ""), h("span", { class: "number" }, line.after ?? ""),
      h("span", { class: "sign", "aria-label": line.is === "old" ? "removed" : line.is === "new" ? "added" : undefined }, mark), h("code", {}, line.text)));
  });
  return shown;
}
