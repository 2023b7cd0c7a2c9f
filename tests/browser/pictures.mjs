// The pictures of the page in the documentation. `node tests/browser/pictures.mjs DURABLE FOLDER`
// runs a small shop for half a minute, and puts pictures of its page into FOLDER. With `CLUSTER`, the
// URL of an empty database, it also runs the shop there on three workers, one of which is killed.

import { join, resolve } from "node:path";
import { launch, look, serve } from "./server.mjs";

const folder = resolve(process.argv[3] ?? "docs/plots");
const program = `// Orders: charge the card, pack and ship each item, wait for an approval.

activity charge(n, amount) with {retry: {times: 4, first: 200ms, factor: 2.0}} {
  if n % 7 == 3 && attempt() < 3 { throw {kind: "unavailable", message: "the bank is away"} }
  if amount > 900 { throw {kind: "declined", message: "order {n}: {amount} is too dear"} }
  sleep(150ms)
  "receipt {n}"
}

activity pack(item) { sleep(300ms); "parcel with {item}" }

/// The stock of an item.
entity Stock {
  state {left: 100, taken: 0}
  /// Takes items out, if there are enough.
  on take(count = 1) {
    if count > state.left { throw {kind: "sold_out", message: "{state.left} left"} }
    state = {left: state.left - count, taken: state.taken + count}
    state.left
  }
  /// Puts items in, with a note for the books.
  on add(count, note = "delivery") {
    state.left += count
    {left: state.left, note}
  }
  on left() => state.left
}

orchestration ship(order, item) {
  let parcel = pack(item)
  sleep(100ms)
  Stock(item).take()
  parcel
}

orchestration order(n, items, amount) {
  set_status({stage: "charging", amount})
  let receipt = charge(n, amount)
  print("order {n}: {receipt}, {amount}")
  set_status({stage: "packing", items: items.len()})
  let parcels = all(items.map(fn item => async ship(n, item)))
  set_status({stage: "waits for approval"})
  match race({answer: async receive("approved"), late: async sleep(48h)}) {
    {answer} => {receipt, parcels, approved_by: answer.by}
    {late}   => throw {kind: "late", message: "nobody has approved order {n}"}
  }
}

orchestration inventory(item) {
  lock Stock(item) { receive("counted") }
}
`;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const browser = await launch();

/** Opens a place of a server's page, and makes a picture. */
async function picture(page, server, place, name, ready) {
  await page.goto(page.url() === "about:blank" ? server.page() : `${server.url}/#/${place}`);
  await ready();
  await pause(800);
  await page.screenshot({ path: join(folder, `page_${name}.png`) });
}

const settings = { viewport: { width: 1280, height: 860 }, colorScheme: process.env.DARK ? "dark" : "light" };

async function shop() {
  const server = await serve("orders.df", program, ["--journal-entities"]);
  const { api, start } = server;
  try {
    const ITEMS = ["lamp", "chair", "rug", "desk"];
    for (let n = 1; n <= 60; n += 1) {
      const items = ITEMS.slice(n % 3, (n % 3) + 1 + (n % 2));
      await start("order", [n, items, n % 19 === 5 ? 950 + n : 40 + ((n * 37) % 300)], `order-${n}`);
      await pause(150 + ((n * 97) % 400));
      const done = n - 6;
      if (done > 0 && done % 5 !== 0) await api(`/instances/order-${done}/events/approved`, { by: done % 2 ? "ada" : "bob" }).catch(() => null);
    }
    await api("/instances/order-55/suspend", {});
    await api("/instances/order-50/terminate", { reason: "ordered twice" });
    // An inventory holds the lamps, and an order waits for one.
    await start("inventory", ["lamp"], "inventory-lamp");
    await pause(500);
    await start("order", [61, ["lamp", "rug"], 120], "order-61");
    const [before] = (await api("/programs")).items;
    const newer = program.replace("sleep(48h)", "sleep(72h)").replace("  sleep(100ms)\n", "");
    await api("/programs", { file: "orders.df", modules: { "orders.df": newer } });
    await api("/entities/Stock/chair/call/add", { args: [20] });
    await pause(4000);

    const page = await (await look(browser, settings)).newPage();
    await picture(page, server, "", "list", () => page.locator(".rows code").nth(4).waitFor());
    await picture(page, server, "instance/order-61", "instance", () => page.locator(".because li").nth(1).waitFor());
    await picture(page, server, "entities/Stock%40chair", "entity", async () => {
      await page.getByRole("combobox", { name: "Operation" }).selectOption("take");
      await page.getByRole("textbox", { name: "count, " }).fill("2");
      await page.getByRole("button", { name: "Call" }).click();
      await page.locator(".outcomes li.done").waitFor();
      await page.getByRole("textbox", { name: "count, " }).fill("1000");
      await page.getByRole("button", { name: "Call" }).click();
      await page.locator(".outcomes li.failed").waitFor();
    });
    const after = (await api("/programs")).items.find((item) => item.functions.includes("order"));
    await picture(page, server, `programs/${after.program}/0?with=${before.program}`, "compare", () => page.locator(".line.new").waitFor());
  } finally { server.end(); }
}

async function cluster() {
  const server = await serve("orders.df", program, ["--lease", "3s"], process.env.CLUSTER);
  try {
    await server.begin();
    const lost = await server.begin();
    await pause(4000);
    for (let n = 1; n <= 40; n += 1) await server.start("order", [n, ["lamp"], 20], `order-${n}`);
    await pause(2000);
    lost.kill("SIGKILL");
    const page = await (await look(browser, settings)).newPage();
    await page.goto(server.page());
    await picture(page, server, "cluster", "cluster", () => page.getByText("gone", { exact: true }).waitFor());
  } finally { server.end(); }
}

try {
  await shop();
  if (process.env.CLUSTER) await cluster();
} finally { await browser.close(); }
