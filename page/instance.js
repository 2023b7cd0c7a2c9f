// One instance: what it waits for, its timeline, its source, its output and history, and actions.

import { follow, get, instancePath, post, postText } from "./api.js";
import { ask, badge, field, fill, h, instanceLink, millis, pretty, say, short, table, time, took, tried, waited } from "./dom.js";
import { moments } from "./moments.js";
import { source } from "./source.js";
import { timeline } from "./timeline.js";

/** @param {HTMLElement} main @param {string[]} rest */
export function instance(main, rest) {
  const id = rest.join("/");
  const path = instancePath(id);
  const head = h("div", { class: "card head-card" });
  const waits = h("section", { class: "card waits", hidden: true });
  const failure = h("section", { class: "card failure", hidden: true });
  const step = h("section", { class: "card step", hidden: true });
  const tabs = h("div", { class: "tabs", role: "tablist" });
  const panel = h("div", { class: "panel", role: "tabpanel" });
  /** The width of the timeline that is asked for, which grows when it is zoomed. */
  let fine = 0;
  const lanes = timeline(choose, (pixels) => { fine = pixels; load(); });
  /** @type {ReturnType<typeof source> | null} */
  let text = null;
  const textBox = h("div", {});
  /** @type {any} */
  let record = null;
  /** @type {any} */
  let drawing = null;
  let tab = "output";
  let over = false;

  fill(main, head, waits, failure,
    h("section", { class: "card" }, h("div", { class: "bar" }, h("h2", {}, "Timeline"), lanes.buttons, legend()), lanes.root),
    moments(path, (at) => text?.show(at)),
    h("div", { class: "two" }, textBox, h("div", {}, step, h("section", { class: "card" }, tabs, panel))));

  function legend() {
    return h("span", { class: "legend", "aria-hidden": "true" },
      ["run", "wait", "backoff", "lock", "failed"].map((name) => h("span", {}, h("i", { class: name }), name)));
  }

  async function load() {
    try {
      record = await get(path);
    } catch (error) {
      if (over) return;
      fill(main, h("div", { class: "card narrow" }, h("h1", {}, id), h("p", { class: "problem" }, /** @type {Error} */ (error).message), h("a", { href: "#/instances" }, "All instances")));
      return;
    }
    if (over) return;
    if (!text) {
      text = source(record.program);
      fill(textBox, text.root);
    }
    drawHead();
    const pixels = Math.max(200, Math.min(4000, lanes.root.clientWidth || 1200), fine);
    const [bars, open] = await Promise.all([get(`${path}/timeline`, { pixels }), record.ended ? { items: [] } : get(`${path}/waits`)]);
    if (over) return;
    drawing = bars;
    lanes.show(bars);
    text.count(bars.bars);
    drawWaits(open.items);
    drawFailure();
    drawTabs();
  }

  function drawHead() {
    const ended = record.ended !== null;
    const actions = /** @type {[string, string, string | null][]} */ ([
      ["suspend", "Suspend", record.status === "running" ? null : "only a running instance can be suspended"],
      ["resume", "Resume", record.status === "suspended" ? null : "only a suspended instance can be resumed"],
      ["cancel", "Cancel…", ended ? "it has ended" : null],
      ["terminate", "Terminate…", ended ? "it has ended" : null],
      ["rewind", "Rewind…", record.status === "failed" ? null : "only a failed instance can be rewound"],
      ["restart", "Restart…", null],
      ["purge", "Purge…", ended ? null : "it has not ended"],
    ]);
    const began = millis(record.created);
    const end = record.ended ? millis(record.ended) : Date.now();
    fill(head,
      h("div", { class: "bar" },
        h("h1", {}, id), badge(record.status),
        h("div", { class: "buttons" }, actions.map(([action, title, why]) =>
          h("button", { disabled: why !== null, title: why ?? undefined, onclick: () => act(action) }, title)))),
      h("dl", { class: "facts" },
        fact("Function", record.function), fact("File", h("a", { href: `#/programs/${record.program}/0` }, record.file)),
        fact("Began", time(record.created), record.created), fact(ended ? "Took" : "For", took(end - began)),
        record.parent && fact("Called by", instanceLink(record.parent)),
        record.root !== id && record.root !== record.parent && fact("Root", instanceLink(record.root)),
        record.attempt > 1 && fact("Attempt", record.attempt),
        record.execution > 0 && fact("Continued as new", `${record.execution}×`),
        fact("Arguments", short(record.args, 200)),
        record.custom !== null && fact("Says", short(record.custom, 200)),
        record.status === "completed" && fact("Result", short(record.result, 400)),
        record.status === "terminated" && fact("Reason", short(record.why ?? "none", 400))));
  }

  /** @param {string} name @param {any} value @param {string} [title] */
  const fact = (name, value, title) => h("div", {}, h("dt", {}, name), h("dd", { title }, value));

  /** @param {any[]} items */
  function drawWaits(items) {
    waits.hidden = items.length === 0;
    fill(waits, h("h2", {}, record.status === "suspended" ? "Suspended while it waits for" : "Waits for"),
      h("ul", {}, items.slice(0, 50).map((item) => h("li", {},
        h("button", { class: "link", onclick: () => { text?.show(item.at); lanes.mark(item.seq); } }, short(waited(item), 120)),
        ` since ${time(item.time)} (${took(Date.now() - millis(item.time))})`,
        item.at && ` · ${item.at.file}:${item.at.line}`,
        item.child && [" · ", instanceLink(item.child)],
        item.name === "receive" && [" ", h("button", { onclick: () => raise(item.args?.[0] ?? "") }, `Raise ${item.args?.[0] ?? ""}…`)],
        tried(item) && h("div", { class: "problem" }, tried(item), millis(item.again) > Date.now() && `; again in ${took(millis(item.again) - Date.now())}`),
        because(id, item))),
      items.length > 50 && h("li", {}, `and ${items.length - 50} more`)),
      !record.ended && h("button", { class: "plain", onclick: () => raise("") }, "Raise another event…"));
    if (items.length > 0 && items[0].at && !step.dataset.chosen) text?.show(items[0].at);
  }

  /** What a wait comes down to: the wait of a child, or of the holder of an entity, and so on. @param {string} waits @param {any} item */
  function because(waits, item) {
    const chain = h("ol", { class: "because" });
    /** @param {string} who @param {any} wait @param {number} depth */
    const follow_ = async (who, wait, depth) => {
      const holder = wait.child ? null : await held(who, wait);
      const next = wait.child ?? holder?.held_by;
      if (!next || depth > 8 || over) return;
      const link = instanceLink(next);
      const [other, { items }] = await Promise.all([get(instancePath(next)), get(`${instancePath(next)}/waits`)]);
      const first = items[0];
      chain.appendChild(h("li", {}, holder && [h("a", { href: `#/entities/${encodeURIComponent(holder.entity)}` }, holder.entity), " is held by "], link,
        other.status !== "running" ? [" ", badge(other.status)] : first ? [holder ? ", which waits for " : " waits for ", h("b", {}, short(waited(first), 100)), ` (${took(Date.now() - millis(first.time))})`, first.at && ` · ${first.at.file}:${first.at.line}`] : " runs"));
      if (first && other.status === "running") await follow_(next, first, depth + 1);
    };
    follow_(waits, item, 0).catch(() => {});
    return chain;
  }

  /** The first entity of a wait that another instance holds. @param {string} who @param {any} wait */
  async function held(who, wait) {
    const entities = wait.entity ? [wait.entity] : wait.effect === "lock" ? wait.args?.[0] ?? [] : [];
    for (const { $entity: name, key } of entities) {
      const view = await get(`/entities/${encodeURIComponent(name)}/${encodeURIComponent(typeof key === "string" ? key : JSON.stringify(key))}`);
      if (view.held_by && view.held_by !== who) return view;
    }
    return null;
  }

  function drawFailure() {
    failure.hidden = record.status !== "failed";
    if (record.status !== "failed") return;
    const { value, trace } = record.error;
    const entries = trace?.entries ?? trace ?? [];
    fill(failure, h("h2", {}, `Failed: ${value?.kind ?? "error"}`), h("p", {}, value?.message ?? short(value, 500)),
      Array.isArray(entries) && entries.length > 0 && h("ol", { class: "chain" }, entries.slice(0, 30).map((/** @type {any} */ at) => h("li", {},
        at.place ? [h("button", { class: "link", onclick: () => text?.show(placed(at.place)) }, `in ${at.function}`), line(at.place)] : short(at, 200),
        at.boundary && h("span", { class: "dim" }, ` ${String(at.boundary).toLowerCase()}`)))),
      value && typeof value === "object" && Object.keys(value).length > 2 && h("pre", {}, pretty(value)));
    if (entries[0]?.place && !step.dataset.chosen) text?.show(placed(entries[0].place));
  }

  /** The line of an error, once it is known. @param {any} place */
  function line(place) {
    const shown = h("span", {});
    text?.lineOf(place.source, place.span.start).then((number) => { shown.textContent = `, line ${number}`; }, () => {});
    return shown;
  }

  /** The place of an error, as the source shows it. @param {any} place */
  function placed(place) {
    return { module: place.source, start: place.span.start, end: place.span.end };
  }

  /** @param {string} event */
  async function raise(event) {
    const name = h("input", { required: true, value: event });
    const payload = h("textarea", { rows: 4, spellcheck: "false" });
    payload.value = "null";
    const done = await ask(`Raise an event for ${id}`, [field("Event", name), field("Payload, JSON", payload)], "Raise",
      () => { JSON.parse(payload.value); return postText(`${path}/events/${encodeURIComponent(name.value)}`, payload.value); });
    if (done) say(`${name.value} was raised`);
  }

  /** @param {string} action */
  async function act(action) {
    try {
      if (action === "suspend" || action === "resume") {
        await post(`${path}/${action}`);
        say(action === "suspend" ? "It is suspended between two steps" : "It goes on");
      } else if (action === "cancel") {
        const why = h("input", {});
        const grace = h("input", { type: "number", min: 0, value: "30" });
        await ask(`Cancel ${id}?`, [h("p", {}, "It cleans up, and ends. If that takes longer, it is terminated."), field("Reason", why), field("Seconds for the clean-up", grace)], "Cancel it",
          () => post(`${path}/cancel`, { grace: Number(grace.value), ...(why.value ? { reason: why.value } : {}) }));
      } else if (action === "terminate") {
        const why = h("input", {});
        await ask(`Terminate ${id} and the instances that it called?`, [field("Reason", why)], "Terminate", () => post(`${path}/terminate`, why.value ? { reason: why.value } : {}));
      } else if (action === "rewind") {
        const plan = await post(`${path}/rewind`, { dry_run: true });
        const lines = plan.instances.flatMap((/** @type {any} */ one) => [
          ...one.again.map((/** @type {any} */ s) => `${one.id} asks again: ${s.step} #${s.seq}`),
          ...one.cut.map((/** @type {any} */ s) => `${one.id} loses: ${s.step} #${s.seq}`),
          ...(one.again.length + one.cut.length === 0 ? [`${one.id} goes on where it was`] : []),
        ]);
        await ask(`Rewind ${id}?`, [h("ul", { class: "preview" }, lines.map((/** @type {string} */ line) => h("li", {}, line)))], "Rewind", () => post(`${path}/rewind`, {}));
      } else if (action === "restart") {
        const fresh = h("input", { placeholder: "the next free one" });
        const begun = await ask(`Start ${record.function} again with the same arguments?`, [field("Id", fresh)], "Start", () => post(`${path}/restart`, fresh.value ? { id: fresh.value } : {}));
        if (begun?.id) { location.hash = `#/instance/${encodeURIComponent(begun.id)}`; return; }
      } else if (action === "purge") {
        const done = await ask(`Purge ${id} and everything that it called?`, [h("p", {}, "Its history is removed for ever.")], "Purge", () => post(`${path}/purge`, {}));
        if (done) { location.hash = "#/instances"; return; }
      }
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
    load();
  }

  /** @param {any} bar */
  async function choose(bar) {
    step.dataset.chosen = "1";
    step.hidden = false;
    if (bar.at) text?.show(bar.at);
    if (bar.count) {
      fill(step, h("h2", {}, `${bar.count} steps`), h("p", {}, "Zoom in to tell them apart, or search in the history."));
      return;
    }
    fill(step, h("h2", {}, `${bar.name} #${bar.seq}`),
      h("p", {}, badge(bar.outcome), ` ${bar.kind}, from ${time(bar.from)}, ${took((bar.to ? millis(bar.to) : Date.now()) - millis(bar.from))}`, bar.attempts > 1 && `, ${bar.attempts} attempts`),
      bar.child && h("p", {}, "Instance ", instanceLink(bar.child)));
    const found = await get(`${path}/history`, { limit: 50, seq: bar.seq }).catch(() => ({ items: [] }));
    if (over) return;
    for (const entry of found.items) {
      step.appendChild(h("div", { class: "entry" }, h("b", {}, entry.kind), ` ${time(entry.time)} `,
        h("pre", {}, pretty(entry.args ?? entry.value ?? entry.error ?? null))));
    }
  }

  // ---- tabs

  const TABS = /** @type {[string, string][]} */ ([["output", "Output"], ["history", "History"], ["steps", "Steps"], ["raw", "Raw"]]);

  function drawTabs() {
    fill(tabs, TABS.map(([name, title]) => h("button", {
      role: "tab", "aria-selected": name === tab ? "true" : "false", tabIndex: name === tab ? 0 : -1,
      onclick: () => { tab = name; drawTabs(); },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
        if (!by) return;
        const at = (TABS.findIndex(([one]) => one === tab) + by + TABS.length) % TABS.length;
        tab = TABS[at][0];
        drawTabs();
        /** @type {HTMLElement} */ (tabs.children[at]).focus();
      },
    }, title)));
    if (tab === "output") output();
    else if (tab === "history") entries();
    else if (tab === "steps") steps();
    else fill(panel, h("pre", { class: "raw", tabIndex: 0 }, pretty(record)));
  }

  async function output() {
    const page = await get(`${path}/output`, { limit: 1000 }).catch(() => null);
    if (over || tab !== "output" || !page) return;
    fill(panel, page.trimmed && h("p", { class: "dim" }, "Lines from before the last checkpoint are not kept."),
      page.items.length === 0 ? h("p", { class: "nothing" }, "It has printed nothing.")
        : h("pre", { class: "output", tabIndex: 0 }, page.items.map((/** @type {any} */ line) => `${line.print ?? `[${line.log}] ${line.text ?? ""}`}${line.bytes ? `(${line.bytes} bytes)` : ""}\n`)),
      page.next !== null && h("p", { class: "dim" }, "The first 1,000 lines. The command line has all: ", h("code", {}, `durable history ${id} --output`)));
  }

  const search = h("input", { type: "search", placeholder: "text in an entry", "aria-label": "Text in an entry", "data-search": true });
  const kind = h("select", { "aria-label": "Kind" }, ["", "effect", "activity", "call", "start", "signal", "answered", "retried", "cancelled"].map((one) => h("option", { value: one }, one || "all kinds")));

  async function entries() {
    const list = h("div", { class: "entries", tabIndex: 0 });
    const button = h("button", { class: "plain", hidden: true }, "More");
    /** @type {number | null} */
    let after = null;
    const more = async () => {
      const page = await get(`${path}/history`, { limit: 200, text: search.value, kind: kind.value, after });
      if (over) return;
      for (const entry of page.items) {
        list.appendChild(h("div", { class: "entry" },
          h("span", { class: "dim" }, `${entry.index} `), h("b", {}, entry.kind), ` ${entry.effect ?? entry.activity ?? entry.call ?? entry.start ?? entry.signal ?? ""}`,
          entry.seq !== undefined && h("span", { class: "dim" }, ` #${entry.seq}`), h("span", { class: "dim" }, ` ${time(entry.time)} `),
          entry.at && h("button", { class: "link", onclick: () => { text?.show(entry.at); lanes.mark(entry.seq); } }, `line ${entry.at.line}`),
          h("code", {}, ` ${short(entry.args ?? entry.value ?? entry.error ?? "", 160)}`)));
      }
      after = page.next;
      button.hidden = after === null;
      if (list.childElementCount === 0) fill(list, h("p", { class: "nothing" }, "No entry matches."));
    };
    const again = () => { after = null; fill(list); more().catch((error) => say(error.message, true)); };
    search.onchange = again;
    kind.onchange = again;
    button.onclick = more;
    fill(panel, h("div", { class: "bar" }, search, kind), list, button);
    again();
  }

  /** The timeline as a table, for those who do not see the canvas. */
  function steps() {
    const bars = (drawing?.bars ?? []).slice(0, 500);
    const list = table(["Step", "Kind", "From", "Took", "Outcome", "Line"], "Steps");
    fill(panel, h("p", { class: "dim" }, `${bars.length} of ${drawing?.bars.length ?? 0} bars, ${drawing?.steps ?? 0} steps`), list.root);
    fill(list.body, bars.map((/** @type {any} */ bar) => list.row(
      h("button", { class: "link", onclick: () => { lanes.mark(bar.seq); choose(bar); } }, bar.count ? `${bar.count} steps` : bar.name),
      bar.kind ?? "", time(bar.from), took((bar.to ? millis(bar.to) : Date.now()) - millis(bar.from)), bar.outcome ?? bar.worst, bar.at?.line ?? "")));
  }

  // The first change is shown at once, those after it some times a second, and long timelines less
  // often, so that drawing takes at most a fifth of the time.
  let waiting = 0;
  let next = 0;
  const later = () => {
    if (waiting) { again = true; return; }
    waiting = setTimeout(async () => {
      again = false;
      const began = Date.now();
      await load().catch((error) => say(error.message, true));
      next = Date.now() + Math.max(200, (Date.now() - began) * 4);
      waiting = 0;
      if (again) later();
    }, Math.max(20, next - Date.now()));
  };
  let again = false;
  const stop = follow(({ event, data }) => {
    if (event === "gap" || event === "begin" || data.id === id || (event === "instance" && data.parent === id)) later();
  });
  // Open bars grow without events.
  const clock = setInterval(() => {
    if (record && !record.ended && drawing) {
      drawing.to = new Date().toISOString();
      lanes.show(drawing);
      drawHead();
    }
  }, 1000);
  load();
  return () => { over = true; stop(); clearInterval(clock); clearTimeout(waiting); lanes.end(); };
}
