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

/** Deploys a program, and serves its store. `options` are those of `serve`. */
export async function serve(file, program, options = []) {
  const folder = mkdtempSync(join(tmpdir(), "durable-page-"));
  const store = join(folder, "store");
  writeFileSync(join(folder, file), program);
  const deployed = spawnSync(durable, ["deploy", file, "--store", store], { cwd: folder, encoding: "utf8" });
  assert.equal(deployed.status, 0, deployed.stderr);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child;
  const server = {
    url, folder,
    async begin() {
      child = spawn(durable, ["serve", "--store", store, "--http", `127.0.0.1:${port}`, ...options], { stdio: ["ignore", "ignore", "pipe"] });
      await new Promise((done, fail) => {
        child.stderr.on("data", (text) => { if (String(text).includes("listening")) done(); });
        child.on("exit", (code) => fail(new Error(`the server ended: ${code}`)));
      });
      child.removeAllListeners("exit");
      server.token = /^admin (\S+)/m.exec(readFileSync(join(store, "token"), "utf8"))[1];
    },
    kill() { child.kill("SIGKILL"); },
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
  await server.begin();
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
