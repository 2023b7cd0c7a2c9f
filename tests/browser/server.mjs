// A server with a store in a temporary folder, and a browser that looks at its page. `PAGE` names a
// folder with the page's files, to look at a change before the program is built with it.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";

export const durable = resolve(process.argv[2]);

/** Any free port. */
async function freePort() {
  return new Promise((done) => {
    const probe = createServer();
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

/** Deploys a program, and serves its store: a folder, unless `database` is the URL of another one. `options` are those of `serve`. */
export async function serve(file, program, options = [], database = null) {
  const folder = mkdtempSync(join(tmpdir(), "durable-page-"));
  const store = database ?? join(folder, "store");
  const tokens = join(folder, "tokens");
  const settings = { cwd: folder, encoding: "utf8", env: { ...process.env, XDG_STATE_HOME: folder } };
  const durably = (...args) => {
    const done = spawnSync(durable, args, settings);
    assert.equal(done.status, 0, done.stderr);
  };
  writeFileSync(join(folder, file), program);
  if (database) durably("store", "init", database, "--partitions", "16");
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let children = [];
  const server = {
    url, folder,
    /** Begins a process that serves the store, and waits until it does. */
    async begin(...more) {
      const child = spawn(durable, ["serve", "--store", store, ...options, ...more], { ...settings, stdio: ["ignore", "ignore", "pipe"] });
      children.push(child);
      await new Promise((done, fail) => {
        child.stderr.on("data", (text) => { if (/listening|serving/.test(String(text))) done(); });
        child.on("exit", (code) => fail(new Error(`the server ended: ${code}`)));
      });
      child.removeAllListeners("exit");
      return child;
    },
    /** Begins a process that serves the page as well. */
    async open() {
      await server.begin("--http", `127.0.0.1:${port}`, "--http-token-file", tokens);
      server.token = /^admin (\S+)/m.exec(readFileSync(tokens, "utf8"))[1];
    },
    kill() { for (const child of children.splice(0)) child.kill("SIGKILL"); },
    end() { server.kill(); rmSync(folder, { recursive: true, force: true }); },
    /** Asks the interface; with a body, by POST. */
    async api(path, body) {
      const answer = await fetch(`${url}/api/v1${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: { authorization: `Bearer ${server.token}` },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      assert.ok(answer.ok, `${path}: ${answer.status} ${answer.ok ? "" : await answer.text()}`);
      return answer.json();
    },
    start: (name, args, id) => server.api("/instances", { function: name, args, id }),
    /** The address of a place of the page, with the token. */
    page: (place = "") => `${url}/#token=${server.token}${place}`,
  };
  if (!database) durably("deploy", file, "--store", store);
  await server.open();
  if (database) durably("deploy", file, "--store", store);
  return server;
}

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

/** A window of the browser. */
export async function look(browser, settings) {
  const context = await browser.newContext(settings);
  if (process.env.PAGE) {
    await context.route("**/page/*", (route) => route.fulfill({ path: join(resolve(process.env.PAGE), new URL(route.request().url()).pathname.slice(6)) }));
  }
  return context;
}
