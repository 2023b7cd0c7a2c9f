// The list of instances: counts, filters in the address, rows that stay few, and actions.

import { follow, get, instancePath, post } from "./api.js";
import { place } from "./cluster.js";
import { ask, badge, field, fill, h, millis, say, short, time, took, tried, waited } from "./dom.js";

const STATUSES = ["scheduled", "running", "suspended", "completed", "failed", "terminated"];
/** The statuses that are offered only if an instance has them. */
const RARE = ["scheduled", "suspended", "terminated"];
const PAGE = 100;
/** The height of a row in pixels. In narrow windows a row has two lines. */
const rowHeight = () => (matchMedia("(max-width: 760px)").matches ? 54 : 34);
const VIEWS = "durable-views";
/** The age in milliseconds from which it is worth to say what a running instance waits for. */
const OLD = 3000;
/** The number of instances that are asked at once for what they wait for. */
const AT_ONCE = 4;
/** The milliseconds for which the waits of a changed instance stay, and how many times as long as it took to ask. */
const KEPT = 2000;
const REST = 100;
const ACTIONS = ["suspend", "resume", "cancel", "terminate", "rewind", "purge"];

/** @param {HTMLElement} main @param {string[]} _rest @param {URLSearchParams} params */
export function instances(main, _rest, params) {
  const filter = () => ({
    status: params.get("status") ?? "", function: params.get("function") ?? "", prefix: params.get("prefix") ?? "",
    after: params.get("after") ?? "", before: params.get("before") ?? "", order: params.get("order") ?? "newest",
    roots: params.get("all") ? "" : "true",
  });
  /** @param {string} name @param {string} value */
  const change = (name, value) => {
    const next = new URLSearchParams(params);
    if (value) next.set(name, value); else next.delete(name);
    location.hash = `#/instances${next.size ? `?${next}` : ""}`;
  };

  /** @type {any[]} */
  let rows = [];
  /** @type {string | null} */
  let next = null;
  let loading = false;
  let over = false;
  /** The number of instances that match. */
  let matching = 0;
  /** @type {Set<string>} */
  const selected = new Set();
  /** @type {Map<string, any[]>} */
  const opened = new Map();

  const chips = h("div", { class: "chips", role: "group", "aria-label": "Statuses" });
  const functions = h("select", { "aria-label": "Function", onchange: () => change("function", functions.value) });
  const search = h("input", {
    type: "search", placeholder: "id begins with…  ( / )", "aria-label": "Beginning of the id", "data-search": true, value: filter().prefix,
    onchange: () => change("prefix", search.value),
  });
  const views = h("select", { class: "views", "aria-label": "Saved views", onchange: () => view(views.value) });
  const histogram = h("canvas", { class: "histogram", height: 48, role: "img" });
  const axis = h("div", { class: "axis" });
  const actions = h("div", { class: "actions" });
  const body = h("div", { class: "rows", role: "rowgroup" });
  const scroll = h("div", { class: "scroll", role: "presentation", onscroll: draw }, body);
  const oldest = filter().order === "oldest";
  const table = h("div", { class: "table", role: "table", "aria-label": "Instances" },
    h("div", { class: "row head", role: "row" },
      ["Select", "Id", "Status", "Function", "Began", "Took", "Waits or says"].map((title, at) => h("span", {
        role: "columnheader", class: at === 0 ? "unseen" : undefined, "aria-sort": title !== "Began" ? undefined : oldest ? "ascending" : "descending",
      }, title === "Began" ? h("button", { class: "sort", title: oldest ? "The oldest comes first" : "The newest comes first", onclick: () => change("order", oldest ? "" : "oldest") }, `${title} ${oldest ? "↑" : "↓"}`) : title))),
    scroll);
  fill(main,
    h("div", { class: "bar" },
      h("h1", {}, "Instances"), chips, functions, search, views,
      h("label", { class: "check" }, h("input", { type: "checkbox", checked: !!params.get("all"), onchange: () => change("all", params.get("all") ? "" : "1") }), "children too"),
      h("button", { class: "main", onclick: start }, "Start…")),
    histogram, axis, actions, table);

  // ---- saved views: filters under names, in this browser. The address has them, too.

  /** @returns {Record<string, string>} */
  const saved = () => { try { return JSON.parse(localStorage.getItem(VIEWS) ?? "{}"); } catch { return {}; } };
  const here = () => params.toString();

  function drawViews() {
    const names = Object.entries(saved());
    const current = names.find(([, query]) => query === here())?.[0];
    fill(views, h("option", { value: "" }, "Views"), names.map(([name]) => h("option", { value: `show ${name}` }, name)),
      here() && !current && h("option", { value: "save" }, "Save this view…"), current && h("option", { value: `drop ${current}` }, `Forget “${current}”`));
    views.value = current ? `show ${current}` : "";
    views.hidden = names.length === 0 && !here();
  }

  /** @param {string} chosen */
  async function view(chosen) {
    const all = saved();
    const name = chosen.slice(5);
    if (chosen.startsWith("show ")) location.hash = `#/instances${all[name] ? `?${all[name]}` : ""}`;
    else if (chosen.startsWith("drop ")) { delete all[name]; localStorage.setItem(VIEWS, JSON.stringify(all)); }
    else if (chosen === "save") {
      const field_ = h("input", { required: true, maxlength: 60 });
      await ask("Save this view", [field("Name", field_)], "Save", () => { localStorage.setItem(VIEWS, JSON.stringify({ ...saved(), [field_.value]: here() })); });
    }
    drawViews();
  }

  /** The rows as they are shown, with those of opened instances below them. */
  function shown() {
    const all = /** @type {{record: any, depth: number}[]} */ ([]);
    const add = (/** @type {any} */ record, /** @type {number} */ depth) => {
      all.push({ record, depth });
      for (const child of opened.get(record.id) ?? []) add(child, depth + 1);
    };
    for (const record of rows) add(record, 0);
    return all;
  }

  // ---- what running instances wait for. Only those that are seen, have run for some time and do not
  // change just now are asked, so that a busy store is left alone.

  /** What instances wait for, when that was asked, and how long the answer took. @type {Map<string, {items: any[], at: number, took: number, isOld: boolean}>} */
  const waits = new Map();
  /** When instances have last changed, as far as this was told. @type {Map<string, number>} */
  const changedAt = new Map();
  let gapAt = 0;
  let asking = 0;

  /** @param {any[]} seen the instances that are seen */
  function askWaits(seen) {
    const now = Date.now();
    // In a cluster, gaps only mean that other workers have written.
    if (!place.isCluster && now - gapAt < OLD) return;
    for (const { record } of seen) {
      if (asking >= AT_ONCE) return;
      if (record.status !== "running" || now - Math.max(millis(record.created), changedAt.get(record.id) ?? 0) < OLD) continue;
      const known = waits.get(record.id);
      if (known && (!known.isOld || now - known.at < Math.max(KEPT, known.took * REST))) continue;
      asking += 1;
      waits.set(record.id, { items: known?.items ?? [], at: now, took: known?.took ?? 0, isOld: false });
      get(`${instancePath(record.id)}/waits`).then(({ items }) => { waits.set(record.id, { items, at: now, took: Date.now() - now, isOld: false }); }, () => {})
        .then(() => { asking -= 1; if (!over) draw(); });
    }
  }

  /** Lets the waits be asked again, of one instance or of all. @param {string} [id] */
  function waitsAreOld(id) {
    const now = Date.now();
    if (id === undefined) {
      gapAt = now;
      for (const known of waits.values()) known.isOld = true;
      return;
    }
    if (changedAt.size > 10_000) changedAt.clear();
    changedAt.set(id, now);
    const known = waits.get(id);
    if (known) known.isOld = true;
  }

  /** What an instance says, or what it waits for. @param {any} record */
  function says(record) {
    const items = record.status === "running" ? waits.get(record.id)?.items ?? [] : [];
    if (items.length > 0) {
      const [first] = items;
      return [h("b", {}, `${took(Date.now() - millis(first.time))} `), "for ", h("code", {}, short(waited(first), 60)), items.length > 1 && ` and ${items.length - 1} more`, tried(first) && h("span", { class: "problem" }, ` ${tried(first)}`)];
    }
    return short(record.status === "failed" ? record.error?.value?.message ?? record.error?.value : (record.status === "completed" ? record.result : null) ?? record.custom ?? "");
  }

  function draw() {
    const ROW = rowHeight();
    const all = shown();
    body.style.height = `${Math.max(all.length, 1) * ROW}px`;
    const from = Math.max(0, Math.floor(scroll.scrollTop / ROW) - 10);
    const to = Math.min(all.length, Math.ceil((scroll.scrollTop + scroll.clientHeight) / ROW) + 10);
    const focused = document.activeElement?.getAttribute?.("data-id");
    // A group of rows has rows.
    body.setAttribute("role", all.length > 0 ? "rowgroup" : "presentation");
    fill(body, all.length === 0 && !loading
      ? h("p", { class: "nothing" }, filtered() ? ["No instance matches. ", h("a", { href: "#/instances" }, "Show all")]
        : ["There is no instance yet. ", h("code", {}, "durable deploy FILE"), " makes functions known, and ", h("code", {}, "Start…"), " begins one."])
      : all.slice(from, to).map(({ record, depth }, at) => row(record, depth, (from + at) * ROW)));
    askWaits(all.slice(from, to));
    if (focused) /** @type {HTMLElement | null} */ (body.querySelector(`[data-id="${CSS.escape(focused)}"]`))?.focus({ preventScroll: true });
    if (next && !loading && to > all.length - 20) more();
  }

  /** @param {any} record @param {number} depth @param {number} top */
  function row(record, depth, top) {
    const began = millis(record.created);
    const ended = record.ended ? millis(record.ended) : Date.now();
    const line = h("div", {
      class: `row ${record.status}`, role: "row", tabIndex: 0, "data-id": record.id,
      onkeydown: (/** @type {KeyboardEvent} */ event) => keys(event, record),
      ondblclick: () => { location.hash = `#/instance/${encodeURIComponent(record.id)}`; },
    },
    h("span", { role: "cell" }, h("input", {
      type: "checkbox", checked: selected.has(record.id), "aria-label": `Select ${record.id}`,
      onchange: () => { if (selected.has(record.id)) selected.delete(record.id); else selected.add(record.id); tools(); },
    })),
    h("span", { role: "cell", class: `id depth${Math.min(depth, 6)}` },
      h("button", { class: "fold", "aria-expanded": opened.has(record.id) ? "true" : "false", "aria-label": `Children of ${record.id}`, onclick: () => open(record) }, opened.has(record.id) ? "▾" : "▸"),
      h("a", { href: `#/instance/${encodeURIComponent(record.id)}` }, record.id)),
    h("span", { role: "cell" }, badge(record.status)),
    h("span", { role: "cell" }, record.function),
    h("span", { role: "cell", title: record.created }, time(record.created)),
    h("span", { role: "cell" }, took(ended - began)),
    h("span", { role: "cell", class: "says", title: record.custom === null ? undefined : short(record.custom, 2000) }, says(record)));
    line.style.top = `${top}px`;
    return line;
  }

  /** @param {KeyboardEvent} event @param {any} record */
  function keys(event, record) {
    if (event.target !== event.currentTarget) return;
    const move = (/** @type {number} */ by) => {
      event.preventDefault();
      const ROW = rowHeight();
      const all = shown();
      const at = all.findIndex((one) => one.record.id === record.id) + by;
      if (at < 0 || at >= all.length) return;
      if (at * ROW < scroll.scrollTop) scroll.scrollTop = at * ROW;
      if ((at + 1) * ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = (at + 1) * ROW - scroll.clientHeight;
      draw();
      /** @type {HTMLElement | null} */ (body.querySelector(`[data-id="${CSS.escape(all[at].record.id)}"]`))?.focus();
    };
    if (event.key === "ArrowDown" || event.key === "j") move(1);
    else if (event.key === "ArrowUp" || event.key === "k") move(-1);
    else if (event.key === "Enter") location.hash = `#/instance/${encodeURIComponent(record.id)}`;
    else if (event.key === "ArrowRight" && !opened.has(record.id)) open(record);
    else if (event.key === "ArrowLeft" && opened.has(record.id)) open(record);
    else if (event.key === " ") {
      event.preventDefault();
      if (selected.has(record.id)) selected.delete(record.id); else selected.add(record.id);
      tools();
      draw();
    }
  }

  /** @param {any} record */
  async function open(record) {
    if (opened.delete(record.id)) return draw();
    try {
      const { items } = await get("/instances", { parent: record.id, order: "oldest", limit: 1000 });
      opened.set(record.id, items);
      if (items.length === 0) say(`${record.id} has called no instance`);
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
    draw();
  }

  async function more() {
    loading = true;
    try {
      const page = await get("/instances", { ...filter(), limit: PAGE, cursor: next });
      if (over) return;
      rows.push(...page.items);
      next = page.next;
    } catch (error) { say(/** @type {Error} */ (error).message, true); next = null; }
    loading = false;
    draw();
  }

  /** Reads the first page again, and keeps the later ones. */
  async function refresh() {
    try {
      const page = await get("/instances", { ...filter(), limit: PAGE });
      if (over) return;
      const known = new Map(rows.map((record) => [record.id, record]));
      const fresh = new Set(page.items.map((/** @type {any} */ record) => record.id));
      if (rows.length <= PAGE || !page.items.some((/** @type {any} */ record) => known.has(record.id))) {
        rows = page.items;
        next = page.next;
      } else rows = [...page.items, ...rows.filter((record) => !fresh.has(record.id))];
      draw();
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  }

  async function count() {
    try {
      const { roots, function: name, prefix, after, before } = filter();
      const counts = await get("/instances/counts", { roots, function: name, prefix, after, before });
      if (over) return;
      const chosen = new Set(filter().status.split(",").filter(Boolean));
      fill(chips, STATUSES.filter((status) => !RARE.includes(status) || chosen.has(status) || counts.status[status]).map((status) => h("button", {
        class: `chip ${status}`, "aria-pressed": chosen.has(status) ? "true" : "false",
        onclick: () => { if (!chosen.delete(status)) chosen.add(status); change("status", [...chosen].join(",")); },
      }, status, h("b", {}, (counts.status[status] ?? 0).toLocaleString()))));
      const names = Object.keys(counts.functions);
      if (name && !names.includes(name)) names.push(name);
      fill(functions, h("option", { value: "" }, "all functions"), names.sort().map((one) => h("option", { value: one }, one)));
      functions.value = name;
      const before_ = matching;
      matching = chosen.size ? [...chosen].reduce((sum, status) => sum + (counts.status[status] ?? 0), 0) : counts.total;
      if (matching !== before_) tools();
      bars(counts.histogram);
    } catch (error) { say(/** @type {Error} */ (error).message, true); }
  }

  /** Draws when instances began. Brushing over the bars sets the interval. @param {any} data */
  function bars(data) {
    const width = histogram.clientWidth || 800;
    histogram.width = width * devicePixelRatio;
    histogram.height = 48 * devicePixelRatio;
    const pen = /** @type {CanvasRenderingContext2D} */ (histogram.getContext("2d"));
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.clearRect(0, 0, width, 48);
    axis.hidden = !data;
    if (!data) { histogram.setAttribute("aria-label", "No instance began"); return; }
    const style = getComputedStyle(document.documentElement);
    const most = Math.max(1, ...data.all);
    const step = width / data.all.length;
    data.all.forEach((/** @type {number} */ all, /** @type {number} */ at) => {
      const tall = all === 0 ? 0 : Math.max(2, (all / most) * 44);
      pen.fillStyle = style.getPropertyValue("--bar");
      pen.fillRect(at * step + 1, 48 - tall, step - 2, tall);
      const bad = data.failed[at] === 0 ? 0 : Math.max(2, (data.failed[at] / most) * 44);
      pen.fillStyle = style.getPropertyValue("--failed");
      pen.fillRect(at * step + 1, 48 - bad, step - 2, bad);
    });
    const from = millis(data.from);
    const each = data.nanoseconds / 1e6;
    histogram.setAttribute("aria-label", `Instances by the time at which they began, from ${time(from)} on, ${took(each)} a bar`);
    const end = from + each * data.all.length;
    fill(axis, h("span", {}, time(from)), h("span", {}, `began, ${took(each)} a bar · drag to choose`), h("span", {}, end >= Date.now() - each ? "now" : time(end)));
    let began = 0;
    const at = (/** @type {MouseEvent} */ event) => Math.max(0, Math.min(data.all.length, event.offsetX / step));
    histogram.onmousedown = (/** @type {MouseEvent} */ event) => { began = at(event); };
    histogram.onmouseup = (/** @type {MouseEvent} */ event) => {
      const [low, high] = [began, at(event)].sort((a, b) => a - b);
      if (high - low < 0.3) return;
      const next = new URLSearchParams(params);
      next.set("after", new Date(from + Math.floor(low) * each).toISOString());
      next.set("before", new Date(from + Math.ceil(high) * each).toISOString());
      location.hash = `#/instances?${next}`;
    };
  }

  function tools() {
    const timed = params.get("after") || params.get("before");
    const title = (/** @type {string} */ action) => `${action[0].toUpperCase()}${action.slice(1)}…`;
    fill(actions,
      timed && h("button", { class: "plain", onclick: () => { params.delete("after"); change("before", ""); } }, `${params.get("after") ? time(params.get("after") ?? "") : "…"} to ${params.get("before") ? time(params.get("before") ?? "") : "…"} ✕`),
      selected.size > 0 && [h("span", {}, `${selected.size} selected`),
        ACTIONS.map((action) => h("button", { onclick: () => act(action) }, title(action))),
        h("button", { class: "plain", onclick: () => { selected.clear(); tools(); draw(); } }, "None")],
      selected.size === 0 && filtered() && matching > 0 && h("button", { class: "plain", onclick: actOnAll }, `Act on all that match (${matching.toLocaleString()})…`));
  }

  /** Whether the filters leave something out. */
  const filtered = () => ["status", "function", "prefix", "after", "before"].some((name) => params.get(name));

  /** The filters, as a batch takes them. */
  function wanted() {
    const { order: _order, ...rest } = filter();
    return Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== "").map(([name, value]) => [name, name === "roots" ? true : value]));
  }

  /** @param {any} done */
  function told(done) {
    const bad = done.problems.map((/** @type {any} */ one) => `${one.id}: ${one.title}`);
    say(bad.length ? `${done.done} done. ${bad.slice(0, 3).join("; ")}` : `${done.done} done`, bad.length > 0);
    selected.clear();
    tools();
    refresh();
  }

  /** @param {string[]} ids @param {number} all */
  const preview = (ids, all) => h("ul", { class: "preview" }, ids.slice(0, 20).map((id) => h("li", {}, id)), all > Math.min(20, ids.length) && h("li", {}, `and ${(all - Math.min(20, ids.length)).toLocaleString()} more`));

  /** @param {string} action */
  async function act(action) {
    const ids = [...selected];
    const reason = h("input", { placeholder: "why" });
    const done = await ask(`${action} ${ids.length} instance${ids.length === 1 ? "" : "s"}?`,
      [preview(ids, ids.length), action === "terminate" && field("Reason", reason)],
      action, () => post("/instances/batch", { ids, action, expect: ids.length, ...(reason.value ? { reason: reason.value } : {}) }));
    if (done) told(done);
  }

  /** Acts on everything that matches, also on what is not loaded. */
  async function actOnAll() {
    const all = matching;
    const action = h("select", {}, ACTIONS.map((one) => h("option", { value: one }, one)));
    const reason = h("input", { placeholder: "why" });
    const done = await ask(`Act on ${all.toLocaleString()} instance${all === 1 ? "" : "s"}?`,
      [preview(rows.map((record) => record.id), all), field("Action", action), field("Reason, of a termination", reason),
        h("p", { class: "dim" }, "With another number than this one, nothing is done.")],
      "Do it", () => post("/instances/batch", { filter: wanted(), action: action.value, expect: all, ...(reason.value && action.value === "terminate" ? { reason: reason.value } : {}) }));
    if (done) told(done);
  }

  async function start() {
    const { items } = await get("/functions");
    const name = h("select", { required: true }, items.map((/** @type {any} */ one) => h("option", { value: one.function }, `${one.function} (${one.file})`)));
    const args = h("textarea", { rows: 4, spellcheck: "false" });
    args.value = "[]";
    const id = h("input", { placeholder: "the next free one" });
    if (items.length === 0) return say("No function is deployed: durable deploy FILE", true);
    const begun = await ask("Start an instance", [field("Function", name), field("Arguments, a JSON list", args), field("Id", id)], "Start",
      () => post("/instances", { function: name.value, args: JSON.parse(args.value), if_exists: "fail", ...(id.value ? { id: id.value } : {}) }));
    if (begun?.id) location.hash = `#/instance/${encodeURIComponent(begun.id)}`;
  }

  // The first change is shown at once, and those after it some times a second. While very much
  // happens, or while nobody looks, the list follows more slowly.
  let waiting = 0;
  let recount = 0;
  let last = 0;
  /** @type {Set<string>} */
  let changed = new Set();
  /** @param {number} pause the shortest time between two updates, in milliseconds */
  const later = (pause) => {
    if (waiting) return;
    const wait = Math.max(20, last + (document.hidden ? 5000 : pause) - Date.now());
    waiting = setTimeout(async () => {
      const ids = changed;
      changed = new Set();
      const began = Date.now();
      await Promise.all([refresh(), count()]);
      const old = rows.slice(PAGE).filter((record) => ids.has(record.id)).slice(0, 50);
      for (const record of old) Object.assign(record, await get(instancePath(record.id)).catch(() => ({})));
      if (old.length) draw();
      // Counts may be two seconds old.
      clearTimeout(recount);
      recount = setTimeout(count, 2500);
      // An update takes at most a fifth of the time.
      last = Date.now() + (Date.now() - began) * 4;
      waiting = 0;
      if (changed.size) later(pause);
    }, wait);
  };
  const stop = follow(({ event, data }) => {
    if (event === "instance" || event === "removed") { changed.add(data.id); waitsAreOld(data.id); later(250); }
    else if (event === "entry") waitsAreOld(data.id);
    else if (event === "begin") { waitsAreOld(); gapAt = 0; later(250); }
    else if (event === "gap") { waitsAreOld(); later(place.isCluster ? 250 : 2000); }
  });
  const seen = () => { if (!document.hidden) later(0); };
  document.addEventListener("visibilitychange", seen);
  // Rows are made anew, which would lose a click or a selection.
  const clock = setInterval(() => { if (!body.matches(":active") && getSelection()?.isCollapsed !== false) draw(); }, 2000);
  addEventListener("resize", draw);
  more();
  count();
  tools();
  drawViews();
  return () => { over = true; stop(); clearInterval(clock); clearTimeout(waiting); clearTimeout(recount); removeEventListener("resize", draw); document.removeEventListener("visibilitychange", seen); };
}
