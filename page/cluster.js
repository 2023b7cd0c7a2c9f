// The workers of a cluster, and the partitions that they own.

import { get } from "./api.js";
import { fill, h, say, table, took } from "./dom.js";

/** The milliseconds after which the cluster is read again. */
const AGAIN = 2000;

/** Whether the store is a cluster's. Changes of other workers are told as gaps. */
export const place = { isCluster: false };

/** The partitions that no living worker owns. @param {any} cluster */
export function orphans({ workers, partitions }) {
  const alive = new Set(workers.filter((/** @type {any} */ one) => one.alive).map((/** @type {any} */ one) => one.id));
  return partitions.filter((/** @type {any} */ one) => !alive.has(one.owner));
}

/** A size in bytes for people. @param {number} bytes */
const size = (bytes) => (bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : bytes < 1 << 30 ? `${(bytes / (1 << 20)).toFixed(1)} MiB` : `${(bytes / (1 << 30)).toFixed(1)} GiB`);

/** @param {HTMLElement} main */
export function cluster(main) {
  const summary = h("span", { class: "dim" });
  const workers = table(["Worker", "Status", "Lease", "Partitions", "Address", "Version"], "Workers");
  const partitions = table(["Partition", "Owner", "Waiting", "Commits", "Epoch", "Slots"], "Partitions", "dense");
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Cluster"), summary),
    h("section", { class: "card" }, h("h2", {}, "Workers"), workers.root),
    h("section", { class: "card" }, h("h2", {}, "Partitions"), partitions.root));

  async function load() {
    let found;
    try { found = await get("/cluster"); } catch (error) { say(/** @type {Error} */ (error).message, true); return; }
    const lost = new Set(orphans(found));
    const names = new Map(found.workers.map((/** @type {any} */ one) => [one.id, one.name]));
    const waiting = found.partitions.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.waiting, 0);
    summary.textContent = `${found.partitions.length} partitions, ${lost.size === 0 ? "each with an owner" : `${lost.size} without an owner`} · ${waiting.toLocaleString()} message${waiting === 1 ? "" : "s"} wait · ${size(found.bytes)}`;
    summary.className = lost.size > 0 ? "problem" : "dim";
    // The living first, then those whose lease is over.
    const sorted = [...found.workers].sort((one, other) => Number(other.alive) - Number(one.alive) || one.name.localeCompare(other.name));
    fill(workers.body, sorted.length === 0 ? workers.nothing("No worker was ever here.") : sorted.map((one) => workers.row(
      one.name, h("span", { class: `badge ${one.alive ? "done" : "failed"}` }, one.alive ? "alive" : "gone"),
      one.alive ? `${took(one.lease_left_ms)} left` : "over", one.partitions || "", one.address, one.version)));
    // What needs a person comes first.
    const urgent = (/** @type {any} */ one) => Number(lost.has(one)) * 2 + Number(one.waiting > 0);
    fill(partitions.body, [...found.partitions].sort((one, other) => urgent(other) - urgent(one) || one.partition - other.partition).map((one) => partitions.row(
      one.partition,
      lost.has(one) ? h("span", { class: "badge failed" }, one.owner === null ? "nobody" : `${names.get(one.owner) ?? "a worker"}, which is gone`) : names.get(one.owner),
      one.waiting || "", one.commits.toLocaleString(), one.epoch,
      one.first_slot === one.end_slot ? h("span", { class: "dim" }, "private") : `${one.first_slot} to ${one.end_slot - 1}`)));
  }
  load();
  const clock = setInterval(() => { if (!document.hidden) load(); }, AGAIN);
  return () => clearInterval(clock);
}
