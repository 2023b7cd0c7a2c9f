// Elements, and texts for people. Program data enters the page only as text nodes.

/**
 * Makes an element.
 * @param {string} name
 * @param {Record<string, any>} [attributes] `on…` are listeners, `class` and `text` what they say
 * @param {...(Node | string | number | null | undefined | false | any[])} children
 * @returns {any}
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "text") element.textContent = value;
    else if (key === "value" || key === "checked" || key === "disabled" || key === "tabIndex") /** @type {any} */ (element)[key] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  put(element, children);
  return element;
}

/** @param {Node} element @param {any[]} children */
function put(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) put(element, child);
    else element.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces the contents of an element. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  element.replaceChildren();
  put(element, children);
}

/** The timer that hides what was said. */
let hides = 0;

/** Says something to people who do not see the page. @param {string} text @param {boolean} [bad] */
export function say(text, bad = false) {
  const said = /** @type {HTMLElement} */ (document.getElementById("said"));
  said.textContent = text;
  said.className = bad ? "bad shown" : "shown";
  clearTimeout(hides);
  hides = setTimeout(() => { said.className = ""; }, bad ? 9000 : 4000);
}

/** The milliseconds of an instant, with fractions. @param {string} text */
export function millis(text) {
  const ms = Date.parse(text);
  const fraction = /\.(\d+)/.exec(text);
  if (!fraction) return ms;
  const digits = fraction[1].padEnd(9, "0").slice(0, 9);
  return Math.floor(ms / 1000) * 1000 + Number(digits) / 1e6;
}

/** A duration in its two largest units. @param {number} ms */
export function took(ms) {
  if (ms < 0) ms = 0;
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  const units = /** @type {[string, number][]} */ ([["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]);
  let rest = Math.round(s);
  const parts = [];
  for (const [unit, size] of units) {
    const count = Math.floor(rest / size);
    if (count > 0 || parts.length > 0) parts.push(`${count}${unit}`);
    rest -= count * size;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/** A time of day, with the date unless it is today. @param {string | number} when */
export function time(when) {
  const date = new Date(typeof when === "number" ? when : Date.parse(when));
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return new Date().toDateString() === date.toDateString() ? clock : `${day} ${clock}`;
}

/** JSON in one line, shortened. @param {any} value @param {number} most */
export function short(value, most = 80) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** JSON in lines. @param {any} value */
export const pretty = (value) => JSON.stringify(value ?? null, null, 2);

/** What an instance waits for, as programs write it. @param {any} wait */
export function waited(wait) {
  if (wait.effect !== "lock" || !Array.isArray(wait.args?.[0])) return wait.shown;
  return `lock ${wait.args[0].map((/** @type {any} */ one) => `${one.$entity}(${JSON.stringify(one.key)})`).join(", ")}`;
}

/** How the attempts at a step have failed, or null. @param {any} wait */
export function tried(wait) {
  if (!wait.failed_attempts) return null;
  const value = wait.error?.value;
  const why = value?.kind ? `${value.kind}: ${value.message ?? ""}` : short(value, 120);
  return `${wait.failed_attempts} attempt${wait.failed_attempts === 1 ? "" : "s"} failed, the last with ${why}`;
}

/** A status, told by word, colour and shape. @param {string} status */
export function badge(status) {
  return h("span", { class: `badge ${status}` }, status);
}

/** A link to the page of an instance. @param {string} id */
export const instanceLink = (id) => h("a", { href: `#/instance/${encodeURIComponent(id)}` }, id);

/** The caller of an operation: an instance, or a client or an activity with the id of its call. @param {string} who */
export function caller(who) {
  const [kind, id] = who.split(" ");
  return id === undefined ? instanceLink(who) : h("span", { title: id }, kind === "activity" ? "an activity" : `a ${kind}`);
}

/**
 * A table whose rows become cards in narrow windows, where each cell has its title beside it.
 * @param {string[]} titles @param {string} name what the table has, for people who do not see it
 * @param {string} [kind] `dense` tables have short cells, and stay tables
 */
export function table(titles, name, kind = "cards") {
  const body = h("tbody", { role: "rowgroup" });
  const root = h("table", { role: "table", class: kind, "aria-label": name },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, titles.map((title) => h("th", { scope: "col", role: "columnheader" }, title)))), body);
  return {
    root,
    body,
    /** A row with its cells. @param {...any} cells */
    row: (...cells) => h("tr", { role: "row" }, cells.map((cell, at) => h("td", { role: "cell", "data-title": titles[at], class: cell === "" || cell === null || cell === undefined || cell === false ? "empty" : undefined }, h("div", {}, cell)))),
    /** A row that says that there is nothing. @param {...any} says */
    nothing: (...says) => h("tr", { role: "row" }, h("td", { role: "cell", class: "nothing", colspan: titles.length }, says)),
  };
}

/** A label with its field. @param {string} label @param {any} field */
export function field(label, field) {
  return h("label", { class: "field" }, h("span", {}, label), field);
}

/**
 * Asks in a dialog. Resolves to the result of `done`, or null.
 * @param {string} title @param {any[]} contents @param {string} action @param {() => any} done
 * @returns {Promise<any>}
 */
export function ask(title, contents, action, done) {
  return new Promise((resolve) => {
    const problem = h("p", { class: "problem", role: "alert" });
    const dialog = h("dialog", { "aria-label": title },
      h("form", {
        method: "dialog",
        onsubmit: async (/** @type {Event} */ event) => {
          event.preventDefault();
          try {
            const result = await done();
            dialog.close();
            resolve(result ?? true);
          } catch (error) {
            problem.textContent = /** @type {Error} */ (error).message;
          }
        },
      },
      h("h2", {}, title), contents, problem,
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "submit", class: "main" }, action))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(null); });
    document.body.appendChild(dialog);
    dialog.showModal();
  });
}
