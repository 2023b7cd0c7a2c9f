// The page in a real browser. `node tests/browser/page.mjs DURABLE`, where DURABLE is the program;
// CHROMIUM names the browser. Ends non-zero when anything is not as it should be.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, look, serve } from "./server.mjs";

const shots = process.argv[3] ? resolve(process.argv[3]) : null;
const here = dirname(fileURLToPath(import.meta.url));
const axe = readFileSync(join(here, "node_modules/axe-core/axe.min.js"), "utf8");
const server = await serve("shop.df", `
activity charge(n) with {retry: {times: 3, first: 50ms}} {
  if attempt() < 2 { throw {kind: "unavailable", message: "the bank is away"} }
  "receipt {n}"
}
activity flaky() with {retry: {times: 3, first: 1h}} { throw {kind: "unavailable", message: "the bank is away"} }
orchestration trying() => flaky()
orchestration parcel(item) { sleep(30ms); "parcel {item}" }
orchestration order(n, items) {
  print("order {n} <img src=x onerror=alert(1)>")
  let receipt = charge(n)
  let parcels = all(items.map(fn item => async parcel(item)))
  let by = receive("approved")
  {receipt, parcels, by}
}
orchestration bad(n) { throw {kind: "refused", message: "<img src=x onerror=alert(1)> {n}"} }
orchestration long(n) {
  for i in 0..n { now() }
  receive("go")
}
entity Account {
  state {balance: 0}
  /// Pays money in.
  on deposit(n, note = "none", by = note.len()) {
    if n < 0 { throw {kind: "bad_amount", message: "{n} is negative", n} }
    state.balance += n
    {balance: state.balance, note}
  }
  on balance() => state.balance
}
orchestration hold(who) { lock Account(who) { receive("go") } }
orchestration pay_in(who) => Account(who).deposit(1)
orchestration blocked(who) => pay_in(who)
`, ["--journal-entities"]);

const { url, token, folder, api, start } = server;
const browser = await launch();
const complaints = [];
function watched(page) {
  page.on("console", (message) => {
    const text = message.text();
    // The browser itself tells of a server that is away, and of operations that failed.
    const told = ["ERR_", "401", "422"].some((part) => text.includes(part));
    if (message.type() === "error" && !told) complaints.push(text);
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => { complaints.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  return page;
}
const context = await look(browser, { viewport: { width: 1280, height: 900 } });

const tests = [];
const test = (name, run) => tests.push([name, run]);
const row = (page, id) => page.locator(`.rows [data-id="${id}"]`);

test("a row shows within a second of a start", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.getByRole("heading", { name: "Instances" }).waitFor();
  assert.ok(!page.url().includes(token), "the token stays in the address");
  await page.locator("#live.live").waitFor();
  await start("order", [1, ["lamp", "chair"]], "order-1");
  await row(page, "order-1").waitFor({ timeout: 1000 });
  await page.close();
});

test("an approval is followed from start to end by keyboard", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await row(page, "order-1").waitFor();
  await row(page, "order-1").focus();
  await page.keyboard.press("Enter");
  const raise = page.getByRole("button", { name: "Raise approved…" });
  await raise.waitFor();
  for (let at = 0; at < 60 && !(await raise.evaluate((button) => button === document.activeElement)); at += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const payload = page.getByLabel("Payload, JSON");
  await payload.waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Control+A");
  await page.keyboard.type('{"by": "ada"}');
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator(".head-card .badge.completed").waitFor({ timeout: 5000 });
  assert.match(await page.locator(".head-card").innerText(), /"by":\{"by":"ada"\}/);
  await page.close();
});

test("steps, children and source lines are shown", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}&instance=order-1`);
  await page.getByRole("tab", { name: "Steps" }).click();
  const table = page.locator(".panel table");
  await table.waitFor();
  const text = await table.innerText();
  for (const step of ["charge", "parcel", "receive"]) assert.ok(text.includes(step), `${step} is missing: ${text}`);
  await table.getByRole("button", { name: "charge" }).first().click();
  await page.locator(".source mark").waitFor();
  assert.equal((await page.locator(".source mark").innerText()).trim(), "charge(n)");
  await table.getByRole("button", { name: "parcel" }).first().click();
  await page.locator(".step a").first().click();
  await page.getByRole("link", { name: "order-1" }).first().waitFor();
  await page.close();
});

test("a click on the canvas finds the step", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}&instance=order-1`);
  await page.locator(".source .hits", { hasText: "×" }).first().waitFor();
  const box = await page.locator("canvas.timeline").boundingBox();
  await page.mouse.click(box.x + box.width - 4, box.y + 22 + 10);
  await page.locator(".step h2").waitFor();
  await page.close();
});

test("text of programs is inert", async () => {
  await start("bad", [7], "bad-1");
  await api("/instances/bad-1?wait=10");
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}&instance=bad-1`);
  await page.locator(".failure").waitFor();
  assert.match(await page.locator(".failure").innerText(), /<img src=x onerror=alert\(1\)> 7/);
  assert.equal(await page.locator("img").count(), 0);
  await page.close();
});

test("20,000 entries are drawn within two seconds, with few nodes", async () => {
  await start("long", [10_000], "long-1");
  while ((await api("/instances/long-1/timeline?pixels=10")).steps < 10_000) await new Promise((done) => setTimeout(done, 50));
  const page = watched(await context.newPage());
  const began = Date.now();
  await page.goto(`${url}/#token=${token}&instance=long-1`);
  await page.locator(".source .hits", { hasText: "×" }).first().waitFor();
  const took = Date.now() - began;
  const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  console.log(`  ${took} ms, ${nodes} nodes`);
  assert.ok(nodes < 3000, `${nodes} nodes`);
  // Every merged bar is asked for again, and drawn, while the timeline is zoomed and the source is scrolled.
  await page.getByRole("button", { name: "Zoom in" }).click();
  await page.waitForTimeout(1000);
  const rate = await page.evaluate(async () => {
    const canvas = document.querySelector("canvas.timeline");
    const source = document.querySelector(".source");
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    await frame();
    const began = performance.now();
    for (let at = 0; at < 120; at += 1) {
      canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: at % 40 < 20 ? -1 : 1, ctrlKey: true, cancelable: true, clientX: 400 }));
      source.scrollTop = at * 3;
      scrollTo(0, (at * 7) % 300);
      await frame();
    }
    return 120_000 / (performance.now() - began);
  });
  console.log(`  ${rate.toFixed(0)} frames a second`);
  await page.close();
});

test("eight tabs stay alive", async () => {
  const pages = [];
  for (let at = 0; at < 8; at += 1) {
    const page = watched(await context.newPage());
    await page.goto(`${url}/#token=${token}`);
    pages.push(page);
  }
  for (const page of pages) await page.locator("#live.live").waitFor({ timeout: 10_000 });
  await start("order", [2, []], "order-tabs");
  for (const page of pages) await row(page, "order-tabs").waitFor({ timeout: 5000 });
  for (const page of pages) await page.close();
});

test("a restart of the server leaves no gap", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.locator("#live.live").waitFor();
  server.kill();
  await page.locator("#live.dead").waitFor({ timeout: 10_000 });
  await server.open();
  await start("order", [3, []], "order-after");
  await row(page, "order-after").waitFor({ timeout: 20_000 });
  await page.close();
});

test("locks, entities and programs", async () => {
  await start("hold", ["ada"], "holder");
  await start("hold", ["ada"], "waiter");
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.getByRole("link", { name: "Locks" }).click();
  await page.locator("td", { hasText: "waiter" }).first().waitFor();
  await page.getByRole("link", { name: "Entities" }).click();
  await page.getByRole("link", { name: "Account@ada" }).waitFor();
  await page.getByRole("link", { name: "Account@ada" }).click();
  await page.getByText("Operations of others wait until it is done").waitFor();
  await page.getByRole("link", { name: "Programs" }).click();
  await page.locator("td", { hasText: "shop.df" }).first().waitFor();
  await page.close();
});

test("operations are called by the form of their declaration, by keyboard", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.getByRole("link", { name: "Entities" }).click();
  // The entity has no state yet.
  await page.getByLabel("Key").fill("eve");
  await page.keyboard.press("Enter");
  await page.getByText("None: the next operation finds the initial one.").waitFor();
  await page.getByText("Pays money in.").waitFor();
  await page.getByLabel("n", { exact: true }).focus();
  await page.keyboard.type("five");
  await page.keyboard.press("Enter");
  await page.getByText('Text needs quotes: "five"').waitFor();
  await page.keyboard.press("Control+A");
  await page.keyboard.type("9007199254740993");
  await page.keyboard.press("Tab");
  await page.keyboard.type('"gift"');
  await page.keyboard.press("Enter");
  const outcome = page.locator(".outcomes li").first();
  const state = page.locator(".state");
  await outcome.getByText('"note":"gift"').waitFor();
  // The state follows, and numbers keep their digits.
  await state.getByText('"balance": 9007199254740993').waitFor();
  // An error of the operation is shown, and changes nothing.
  await page.getByLabel("n", { exact: true }).fill("-1");
  await page.keyboard.press("Enter");
  await outcome.getByText("failed: bad_amount: -1 is negative").waitFor();
  // A default that is no JSON can't stand before a later argument.
  await page.getByLabel("note, ").fill("");
  await page.getByLabel("n", { exact: true }).fill("1");
  await page.getByLabel("by, ").fill("2");
  await page.keyboard.press("Enter");
  await outcome.getByText('"note":"none"').waitFor();
  // Other operations.
  await page.getByRole("combobox", { name: "Operation" }).selectOption("balance");
  await page.getByRole("button", { name: "Call" }).click();
  await outcome.getByText("balance() → 9007199254740994").waitFor();
  await page.getByRole("combobox", { name: "Operation" }).selectOption({ label: "another operation…" });
  await page.getByLabel("Name of the operation").fill("deposit");
  await page.getByLabel("Arguments, a JSON list").fill("5");
  await page.getByRole("button", { name: "Signal" }).click();
  await page.getByText("The arguments are a list").waitFor();
  await page.getByLabel("Arguments, a JSON list").fill("[6]");
  await page.getByRole("button", { name: "Signal" }).click();
  await outcome.getByText("deposit(6) was sent as a signal").waitFor();
  await state.getByText('"balance": 9007199254741000').waitFor();
  await page.getByLabel("Name of the operation").fill("withdraw");
  await page.getByRole("button", { name: "Call" }).click();
  await outcome.getByText(/failed: .*withdraw/).waitFor();
  // While another instance holds the entity, the call waits.
  await start("hold", ["eve"], "holds-eve");
  await page.getByText("Operations of others wait until it is done").waitFor();
  await page.getByRole("combobox", { name: "Operation" }).selectOption("balance");
  await page.getByRole("button", { name: "Call" }).click();
  await outcome.getByText("waits for its turn").waitFor();
  await page.getByRole("heading", { name: "Waiting: 1" }).waitFor();
  await api("/instances/holds-eve/events/go", null);
  await outcome.getByText("balance() → 9007199254741000").waitFor();
  await page.close();
});

test("what was done to an entity is shown, the newest first", async () => {
  await start("pay_in", ["bob"], "payer");
  await api("/instances/payer?wait=20");
  for (let n = 0; n < 60; n += 1) await api("/entities/Account/bob/call/balance", {});
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.goto(`${url}/#/entities/Account%40bob`);
  await page.getByText("61 operations are kept.").waitFor();
  const rows = page.getByRole("table", { name: "Operations that were carried out" }).locator("tbody tr");
  assert.equal(await rows.count(), 50);
  await page.getByRole("button", { name: "Earlier operations" }).click();
  await rows.nth(60).waitFor();
  const paid = await rows.nth(60).innerText();
  assert.match(paid, /deposit\(1\)[^]*payer[^]*initial → \{"balance":1\}/);
  assert.match(await rows.nth(0).innerText(), /balance\(\)[^]*a client[^]*1[^]*unchanged/);
  // A new operation comes on top, and what was loaded stays.
  await page.getByLabel("n", { exact: true }).fill("-2");
  await page.keyboard.press("Enter");
  await rows.nth(0).getByText("bad_amount: -2 is negative").waitFor();
  await page.getByLabel("n", { exact: true }).fill("2");
  await page.keyboard.press("Enter");
  await rows.nth(0).getByText("balance: 1 → 3").waitFor();
  assert.equal(await rows.count(), 63);
  await rows.nth(62).getByRole("link", { name: "payer" }).click();
  await page.getByRole("heading", { name: "payer" }).waitFor();
  await page.close();
});

test("a store that keeps no operations says how to keep them", async () => {
  const other = await serve("bare.df", "entity Bare { on add(n) { state = n } }");
  try {
    const page = watched(await (await look(browser, {})).newPage());
    await page.goto(other.page());
    await page.goto(`${other.url}/#/entities/Bare%40one`);
    await page.getByText("Operations are not kept. durable serve --journal-entities keeps them from then on.").waitFor();
  } finally { other.end(); }
});

test("a wait is followed down to its cause", async () => {
  await start("blocked", ["ada"], "blocked-1");
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}&instance=blocked-1`);
  const chain = page.locator(".because");
  await chain.getByText("receive").waitFor();
  assert.match(await chain.innerText(), /blocked-1:0 waits for Account\("ada"\)\.deposit\(1\).*\n.*Account@ada is held by holder, which waits for receive\("go"\)/);
  await page.close();
});

test("the list says what instances wait for, and since when", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await row(page, "order-tabs").getByText(/^\d.* for receive\("approved"\)$/).waitFor();
  await row(page, "waiter").getByText('for lock Account("ada")').waitFor();
  await page.getByRole("button", { name: "Began" }).click();
  await page.waitForURL(/order=oldest/);
  await page.locator(".rows .row").first().getByText("order-1").waitFor();
  await page.close();
});

test("a step that is tried again says why", async () => {
  await start("trying", [], "trying-1");
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}&instance=trying-1`);
  await page.locator(".waits").getByText(/^1 attempt failed, the last with unavailable: the bank is away; again in (1h|59m)/).waitFor();
  await page.goto(`${url}/#/instances?prefix=trying`);
  await row(page, "trying-1").getByText("1 attempt failed, the last with unavailable: the bank is away").waitFor();
  await page.close();
});

test("a view is saved, and everything that matches is acted on", async () => {
  for (const n of [1, 2, 3]) await start("bad", [n], `broken-${n}`);
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.getByRole("heading", { name: "Instances" }).waitFor();
  await page.goto(`${url}/#/instances?prefix=broken-&status=failed`);
  await row(page, "broken-3").waitFor();
  await page.getByLabel("Saved views").selectOption("save");
  await page.getByLabel("Name").fill("broken ones");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await page.goto(`${url}/#/instances`);
  await row(page, "order-1").waitFor();
  await page.getByLabel("Saved views").selectOption({ label: "broken ones" });
  await page.getByRole("button", { name: "Act on all that match (3)…" }).click();
  assert.match(await page.locator("dialog .preview").innerText(), /broken-3\s+broken-2\s+broken-1/);
  await page.getByLabel("Action").selectOption("purge");
  await page.getByRole("button", { name: "Do it" }).click();
  await page.getByText("3 done").waitFor();
  await row(page, "broken-1").waitFor({ state: "detached" });
  await page.close();
});

test("two versions of a program are compared", async () => {
  const before = (await api("/programs")).items.find((item) => item.functions.includes("order")).program;
  const text = readFileSync(join(folder, "shop.df"), "utf8").replace('"parcel {item}"', '"box {item}"');
  await api("/programs", { file: "shop.df", modules: { "shop.df": text } });
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.getByRole("heading", { name: "Instances" }).waitFor();
  await page.getByRole("link", { name: "Programs" }).click();
  await page.getByRole("link", { name: "changes" }).first().waitFor();
  const after = (await api("/programs")).items.find((item) => item.functions.includes("order")).program;
  await page.goto(`${url}/#/programs/${after}/0?with=${before}`);
  await page.locator(".line.new").waitFor();
  assert.match(await page.locator(".line.old").innerText(), /"parcel \{item\}"/);
  assert.match(await page.locator(".line.new").innerText(), /"box \{item\}"/);
  assert.equal(await page.locator(".line.old, .line.new").count(), 2);
  await page.close();
});

test("a change is on the page soon after its commit", async () => {
  const page = watched(await context.newPage());
  await page.goto(`${url}/#token=${token}`);
  await page.locator("#live.live").waitFor();
  const times = [];
  for (let at = 0; at < 5; at += 1) {
    await page.waitForTimeout(600);
    await start("order", [at, []], `soon-${at}`);
    const began = Date.now();
    await row(page, `soon-${at}`).waitFor();
    times.push(Date.now() - began);
  }
  console.log(`  ${times.join(", ")} ms`);
  await page.close();
});

test("no fault of accessibility, in light and dark, wide and narrow", async () => {
  for (const [colorScheme, width] of [["light", 1280], ["dark", 1280], ["light", 400], ["dark", 400]]) {
    // The page's policy permits no foreign script, so the checker is let past it.
    const other = await look(browser, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
    const page = watched(await other.newPage());
    await page.goto(`${url}/#token=${token}`);
    for (const place of ["instances", "instance/order-1", "instance/bad-1", "instance/order-tabs", "entities", "entities/Account%40ada", "entities/Account%40eve", "locks", "programs"]) {
      await page.goto(`${url}/#/${place}`);
      await page.waitForTimeout(500);
      if (shots) await page.screenshot({ path: join(shots, `${place.replace(/\W/g, "_")}-${colorScheme}-${width}.png`), fullPage: width === 400 });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => axe.run());
      const told = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ")}`);
      assert.deepEqual(told, [], `${place}, ${colorScheme}, ${width}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${place} is ${wide} px too wide at ${width}`);
    }
    await other.close();
  }
});

let failed = 0;
const only = process.env.ONLY;
try {
  for (const [name, run] of tests) {
    if (only && !name.includes(only)) continue;
    try {
      await run();
      assert.deepEqual(complaints.splice(0), [], "the browser complains");
      console.log(`ok      ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}\n${error.stack}`);
    }
  }
} finally {
  await browser.close();
  server.end();
}
process.exit(failed ? 1 : 0);
