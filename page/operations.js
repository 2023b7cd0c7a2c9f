// A form for the operations that an entity declares, and what became of those that were sent.

import { get, postText, Refused } from "./api.js";
import { field, fill, h, pretty, short, time, took } from "./dom.js";

/** The number of outcomes that stay on the page. */
const KEPT = 10;
/** The seconds after which an unanswered call is asked for again. */
const PATIENCE = 20;
const OTHER = "";

/** An operation as it is written. @param {any} operation */
const written = ({ operation, params }) =>
  `${operation}(${params.map((/** @type {any} */ one) => (one.default === null ? one.name : `${one.name} = ${one.default}`)).join(", ")})`;

/** Why a text is not JSON, or null. @param {string} text */
export function mistake(text) {
  try { JSON.parse(text); return null; } catch (error) {
    if (/^[\p{L}_][\p{L}\p{N}_ .@:-]*$/u.test(text)) return `Text needs quotes: ${JSON.stringify(text)}`;
    return `This is not JSON: ${/** @type {Error} */ (error).message}`;
  }
}

/** A field for JSON, which says what is wrong with it. @param {string} label @param {Record<string, any>} attributes @param {string} [kind] */
function jsonField(label, attributes, kind = "input") {
  const input = h(kind, { spellcheck: "false", autocomplete: "off", autocapitalize: "off", class: "json", ...attributes });
  const problem = h("span", { class: "problem", role: "alert" });
  const check = (/** @type {string | null} */ wrong) => {
    problem.textContent = wrong ?? "";
    if (wrong) input.setAttribute("aria-invalid", "true"); else input.removeAttribute("aria-invalid");
    return wrong;
  };
  input.addEventListener("input", () => { if (input.hasAttribute("aria-invalid")) check(input.value.trim() ? mistake(input.value.trim()) : null); });
  return { root: h("div", {}, field(label, input), problem), input, check, text: () => input.value.trim() };
}

/**
 * @param {string} name the name of the entity
 * @param {string} path the path of the entity
 */
export function operations(name, path) {
  const choice = h("select", { onchange: () => draw() });
  const about = h("p", { class: "dim" });
  const fields = h("div", { class: "fields" });
  const outcomes = h("ol", { class: "outcomes", role: "log", "aria-label": "Outcomes" });
  const root = h("section", { class: "card" }, h("h2", {}, "Operations"),
    h("form", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); send(call); } },
      field("Operation", choice), about, fields,
      h("div", { class: "buttons left" },
        h("button", { class: "main", title: "Sends the operation, and waits for its result" }, "Call"),
        h("button", { type: "button", title: "Sends the operation, and waits for nothing", onclick: () => send(signal) }, "Signal"))),
    outcomes);
  /** @type {any[]} */
  let declared = [];
  /** Reads the fields: the operation and its arguments as JSON, or null after it has shown a mistake. @type {() => {operation: string, args: string} | null} */
  let read = () => null;
  let over = false;

  get(`/entities/${encodeURIComponent(name)}`).then((found) => { declared = found.operations; }, (error) => {
    // An entity may outlive the text that declared it.
    if (!(error instanceof Refused && error.status === 404)) outcome("failed", error.message);
  }).then(() => {
    fill(choice, declared.map((one) => h("option", { value: one.operation }, written(one))), h("option", { value: OTHER }, "another operation…"));
    draw();
  });

  function draw() {
    const operation = declared.find((one) => one.operation === choice.value);
    about.textContent = operation ? operation.doc : declared.length === 0 ? `No program here declares ${name}.` : "";
    about.hidden = about.textContent === "";
    if (operation) some(operation); else any();
  }

  /** Shows a field for each parameter. @param {any} operation */
  function some({ operation, params }) {
    const inputs = params.map((/** @type {any} */ one) => jsonField(one.default === null ? one.name : `${one.name}, ${one.default} if empty`,
      { placeholder: one.default ?? "JSON", required: one.default === null }));
    fill(fields, inputs.map((/** @type {any} */ one) => one.root));
    read = () => {
      // An argument that is left out takes the default, unless a later one is given.
      const last = inputs.findLastIndex((/** @type {any} */ one) => one.text() !== "");
      /** @type {any} */
      let wrong = null;
      const args = inputs.map((/** @type {any} */ one, /** @type {number} */ at) => {
        const text = one.text();
        const spare = params[at].default;
        let problem = null;
        if (text !== "") problem = mistake(text);
        else if (spare === null) problem = "A value is needed here, as JSON";
        else if (at < last && mistake(spare)) problem = "A value is needed here, since a later one is given";
        if (one.check(problem)) wrong ??= one.input;
        return text === "" ? spare : text;
      });
      if (wrong) { wrong.focus(); return null; }
      const given = params.filter((/** @type {any} */ one, /** @type {number} */ at) => at <= last || one.default === null).length;
      return { operation, args: `[${args.slice(0, given).join(", ")}]` };
    };
  }

  /** Shows fields for any operation. */
  function any() {
    const operation = h("input", { required: true, autocomplete: "off", spellcheck: "false" });
    const args = jsonField("Arguments, a JSON list", { rows: 2, value: "[]" }, "textarea");
    fill(fields, field("Name of the operation", operation), args.root);
    read = () => {
      const text = args.text() || "[]";
      const wrong = mistake(text) ?? (text.startsWith("[") ? null : "The arguments are a list: [5]");
      if (!operation.value.trim()) { operation.focus(); return null; }
      if (args.check(wrong)) { args.input.focus(); return null; }
      return { operation: operation.value.trim(), args: text };
    };
  }

  /** @param {(sent: {operation: string, args: string}) => Promise<void>} by */
  function send(by) {
    const sent = read();
    if (sent) by(sent);
  }

  /** Adds an outcome, or replaces an earlier one. @param {string} is @param {any} says @param {any} [before] */
  function outcome(is, says, before) {
    const line = h("li", { class: is }, h("span", { class: "dim" }, time(Date.now())), " ", says);
    if (before) before.replaceWith(line);
    else outcomes.prepend(line);
    while (outcomes.childElementCount > KEPT) outcomes.lastElementChild?.remove();
    return line;
  }

  /** Calls the operation, and shows its result or its error. @param {{operation: string, args: string}} sent */
  async function call({ operation, args }) {
    const shown = `${operation}(${args.slice(1, -1)})`;
    const began = Date.now();
    // A repeated call with the same id joins the first one.
    const id = `page-${[...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    const says = (/** @type {any[]} */ ...parts) => [h("code", {}, short(shown, 120)), " ", ...parts];
    let line = outcome("waits", says("was sent"));
    const clock = setInterval(() => { line = outcome("waits", says(`waits for its turn, for ${took(Date.now() - began)}`), line); }, 1000);
    try {
      for (;;) {
        const answer = await postText(`${path}/call/${encodeURIComponent(operation)}`, `{"args": ${args}, "id": ${JSON.stringify(id)}, "timeout": ${PATIENCE}}`);
        if (over) return;
        if (answer.answered === false) continue;
        outcome("done", says("→ ", h("code", {}, short(answer.result, 400)), h("span", { class: "dim" }, ` in ${took(Date.now() - began)}`)), line);
        return;
      }
    } catch (error) {
      const { problem } = /** @type {Refused} */ (error);
      const more = problem?.error && typeof problem.error === "object" && Object.keys(problem.error).length > 2;
      outcome("failed", says("failed: ", /** @type {Error} */ (error).message, more && h("pre", {}, pretty(problem.error))), line);
    } finally { clearInterval(clock); }
  }

  /** @param {{operation: string, args: string}} sent */
  async function signal({ operation, args }) {
    const shown = h("code", {}, short(`${operation}(${args.slice(1, -1)})`, 120));
    try {
      await postText(`${path}/signal/${encodeURIComponent(operation)}`, `{"args": ${args}}`);
      outcome("done", [shown, " was sent as a signal"]);
    } catch (error) { outcome("failed", [shown, " failed: ", /** @type {Error} */ (error).message]); }
  }

  return { root, end() { over = true; } };
}
