// The timeline of an instance, on a canvas: one lane for steps that do not overlap, idle time
// folded, and a line for now.

import { h, millis, time, took } from "./dom.js";

const LANE = 24;
const AXIS = 22;
const FOLD = 56;

/**
 * @param {(bar: any) => void} choose is called with the bar that was clicked
 * @param {(pixels: number) => void} finer is called when the whole drawing is wanted in this width
 */
export function timeline(choose, finer) {
  const canvas = h("canvas", { class: "timeline", tabIndex: 0, role: "img", "aria-label": "Timeline of the steps. The table below has the same." });
  const box = h("div", { class: "lanes" }, canvas);
  const tip = h("div", { class: "tip", hidden: true });
  const root = h("div", { class: "timeline-box" }, box, tip);
  /** @type {any} */
  let data = null;
  /** The shown interval, in positions from 0 to 1 of the folded axis. */
  let from = 0;
  let to = 1;
  /** @type {{from: number, to: number, at: number, wide: number, idle: boolean}[]} */
  let pieces = [];
  /** @type {any} */
  let chosen = null;
  /** The width that the drawing was asked for. */
  let asked = 1200;

  /** The width for which the pieces were cut; 0 if they must be cut again. */
  let folded = 0;

  /** Reads the times of all bars once, since they are drawn many times. */
  function read() {
    for (const bar of data.bars) {
      bar.begin = millis(bar.from);
      bar.end = bar.to ? millis(bar.to) : null;
      for (const part of bar.segments ?? []) {
        part.begin = millis(part.from);
        part.end = part.to ? millis(part.to) : null;
      }
    }
  }

  /** Cuts the time into busy and idle pieces. Long idle ones get a fixed width. */
  function fold() {
    if (folded === box.clientWidth) return;
    folded = box.clientWidth;
    const begin = millis(data.from);
    const end = Math.max(millis(data.to), begin + 0.001);
    const edges = /** @type {number[]} */ ([begin, end]);
    for (const bar of data.bars) {
      for (const part of bar.segments ?? [bar]) {
        edges.push(part.begin);
        if (part.end !== null) edges.push(part.end);
      }
    }
    edges.sort((a, b) => a - b);
    const whole = end - begin;
    const cuts = [];
    for (let at = 1; at < edges.length; at += 1) {
      const [low, high] = [Math.max(edges[at - 1], begin), Math.min(edges[at], end)];
      // Nothing begins or ends in between, and it is most of the time.
      if (high - low > Math.max(whole * 0.2, 1000) && !running(low, high)) cuts.push([low, high]);
    }
    const busy = whole - cuts.reduce((sum, [low, high]) => sum + high - low, 0);
    const width = Math.max(box.clientWidth, 200);
    const rest = Math.max(width - cuts.length * FOLD, width * 0.3);
    const scale = rest / Math.max(busy, 0.001);
    const total = rest + cuts.length * FOLD;
    pieces = [];
    let time = begin;
    let at = 0;
    const add = (/** @type {number} */ until, /** @type {boolean} */ idle) => {
      if (until <= time && !idle) return;
      const wide = (idle ? FOLD : (until - time) * scale) / total;
      pieces.push({ from: time, to: until, at, wide, idle });
      at += wide;
      time = until;
    };
    for (const [low, high] of cuts) { add(low, false); add(high, true); }
    add(end, false);
  }

  /** Whether anything runs during the whole interval. @param {number} low @param {number} high */
  function running(low, high) {
    return data.bars.some((/** @type {any} */ bar) => (bar.segments ?? []).some((/** @type {any} */ part) =>
      part.is === "run" && part.begin <= low && (part.end ?? Infinity) >= high));
  }

  /** The position of a time on the folded axis. @param {number} when */
  function position(when) {
    for (const piece of pieces) {
      if (when <= piece.to) return piece.at + (piece.wide * Math.max(0, when - piece.from)) / Math.max(piece.to - piece.from, 1e-9);
    }
    return 1;
  }

  /** @param {number} position */
  const pixel = (position) => ((position - from) / (to - from)) * folded;

  function draw() {
    if (!data) return;
    fold();
    const width = Math.max(box.clientWidth, 200);
    const height = AXIS + Math.max(1, data.lanes) * LANE + 6;
    const tall = Math.min(height, 12_000);
    canvas.style.height = `${tall}px`;
    canvas.width = width * devicePixelRatio;
    canvas.height = tall * devicePixelRatio;
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(document.documentElement);
    const colours = new Map();
    const colour = (/** @type {string} */ name) => {
      if (!colours.has(name)) colours.set(name, style.getPropertyValue(`--${name}`));
      return colours.get(name);
    };
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const piece of pieces) {
      const [x, end] = [pixel(piece.at), pixel(piece.at + piece.wide)];
      if (end < 0 || x > width) continue;
      if (piece.idle) {
        pen.fillStyle = colour("fold");
        pen.fillRect(x, 0, end - x, tall);
        pen.fillStyle = colour("dim");
        pen.textAlign = "center";
        pen.fillText(took(piece.to - piece.from), (x + end) / 2, AXIS / 2);
      } else {
        pen.fillStyle = colour("dim");
        pen.textAlign = "left";
        if (end - x > 70) pen.fillText(time(piece.from), x + 4, AXIS / 2);
      }
    }
    pen.textAlign = "left";
    for (const bar of data.bars) {
      const top = AXIS + bar.lane * LANE + 3;
      if (top > tall) continue;
      const begin = pixel(position(bar.begin));
      const end = bar.end !== null ? pixel(position(bar.end)) : pixel(1);
      if (end < 0 || begin > width) continue;
      const wide = Math.max(end - begin, 2);
      if (bar.count) {
        pen.fillStyle = bar.worst === "failed" ? colour("failed") : colour("many");
        pen.fillRect(begin, top, wide, LANE - 6);
        continue;
      }
      for (const part of bar.segments) {
        const x = pixel(position(part.begin));
        const until = part.end !== null ? pixel(position(part.end)) : pixel(1);
        pen.fillStyle = part.is === "run" && bar.outcome === "failed" ? colour("failed") : colour(part.is);
        pen.fillRect(x, top, Math.max(until - x, 2), LANE - 6);
      }
      if (bar === chosen || (chosen && bar.seq === chosen.seq)) {
        pen.strokeStyle = colour("text");
        pen.lineWidth = 2;
        pen.strokeRect(begin - 1, top - 1, wide + 2, LANE - 4);
      }
      const label = `${bar.name}${bar.attempts > 1 ? ` ×${bar.attempts}` : ""}`;
      if (wide > 34) {
        pen.save();
        pen.beginPath();
        pen.rect(Math.max(begin, 0), top, wide, LANE - 6);
        pen.clip();
        const main = bar.segments[bar.segments.length - 1].is;
        pen.fillStyle = bar.outcome !== "failed" && main === "wait" ? colour("text") : colour("on-bar");
        pen.fillText(label, Math.max(begin, 0) + 5, top + (LANE - 6) / 2);
        pen.restore();
      }
    }
    if (!data.ended) {
      const x = pixel(1) - 1;
      pen.fillStyle = colour("now");
      pen.fillRect(x, 0, 2, tall);
    }
  }

  /** The bar at a place. @param {MouseEvent} event */
  function hit(event) {
    if (!data) return null;
    const lane = Math.floor((event.offsetY - AXIS) / LANE);
    let best = null;
    for (const bar of data.bars) {
      if (bar.lane !== lane) continue;
      const begin = pixel(position(bar.begin)) - 3;
      const end = (bar.end !== null ? pixel(position(bar.end)) : pixel(1)) + 3;
      if (event.offsetX >= begin && event.offsetX <= Math.max(end, begin + 6)) best = bar;
    }
    return best;
  }

  canvas.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const bar = hit(event);
    if (bar) { chosen = bar; draw(); choose(bar); }
  });
  canvas.addEventListener("mousemove", (/** @type {MouseEvent} */ event) => {
    const bar = hit(event);
    tip.hidden = !bar;
    if (!bar) return;
    const long = (bar.end ?? Date.now()) - bar.begin;
    tip.textContent = bar.count ? `${bar.count} steps in ${took(long)}` : `${bar.name} · ${bar.outcome} · ${took(long)}${bar.at ? ` · line ${bar.at.line}` : ""}`;
    tip.style.left = `${Math.min(event.offsetX + 12, box.clientWidth - 220)}px`;
    tip.style.top = `${event.offsetY - box.scrollTop + 12}px`;
  });
  canvas.addEventListener("mouseleave", () => { tip.hidden = true; });
  canvas.addEventListener("wheel", (/** @type {WheelEvent} */ event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const at = from + (event.offsetX / box.clientWidth) * (to - from);
    zoom(event.deltaY > 0 ? 1.25 : 0.8, at);
  }, { passive: false });
  canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const steps = data ? data.bars : [];
    const at = chosen ? steps.findIndex((/** @type {any} */ bar) => bar.seq === chosen.seq) : -1;
    const pick = (/** @type {number} */ index) => {
      if (!steps[index]) return;
      event.preventDefault();
      chosen = steps[index];
      draw();
      choose(chosen);
    };
    if (event.key === "ArrowRight") pick(at + 1);
    else if (event.key === "ArrowLeft") pick(at - 1);
    else if (event.key === "+" || event.key === "=") zoom(0.8, (from + to) / 2);
    else if (event.key === "-") zoom(1.25, (from + to) / 2);
    else if (event.key === "0") { from = 0; to = 1; draw(); }
  });

  /** @param {number} by @param {number} at */
  function zoom(by, at) {
    const wide = Math.min(1, Math.max(1e-6, (to - from) * by));
    from = Math.min(Math.max(0, at - (at - from) * by), 1 - wide);
    to = from + wide;
    draw();
    // Merged steps are told apart once there is room for them.
    const pixels = Math.min(20_000, Math.ceil(box.clientWidth / wide));
    if (pixels > asked * 1.5 && data?.bars.some((/** @type {any} */ bar) => bar.count)) { asked = pixels; finer(pixels); }
  }

  const watch = new ResizeObserver(() => draw());
  watch.observe(box);
  return {
    root,
    /** @param {any} fresh */
    show(fresh) { data = fresh; folded = 0; read(); draw(); },
    /** @param {number} seq */
    mark(seq) { chosen = data?.bars.find((/** @type {any} */ bar) => bar.seq === seq) ?? null; draw(); },
    buttons: h("span", { class: "zoom" },
      h("button", { "aria-label": "Zoom in", onclick: () => zoom(0.5, (from + to) / 2) }, "+"),
      h("button", { "aria-label": "Zoom out", onclick: () => zoom(2, (from + to) / 2) }, "−"),
      h("button", { onclick: () => { from = 0; to = 1; draw(); } }, "All")),
    end() { watch.disconnect(); },
  };
}
