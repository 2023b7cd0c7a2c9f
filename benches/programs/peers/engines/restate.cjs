// Restate: 1,000 steps one after another, then 1,000 at once, each durable before the next. Seconds by its own clock.
// It starts a server of its own (`restate-server` of the npm package), in an empty folder given as the argument.
// The SDK wants Node 22; this is what it misses in 20.
Promise.withResolvers ??= function () {
  let resolvers;
  const promise = new this((resolve, reject) => (resolvers = { resolve, reject }));
  return { promise, ...resolvers };
};

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const restate = require("@restatedev/restate-sdk");

const PORT = 19080;
const folder = process.argv[2];

const steps = restate.service({
  name: "steps",
  handlers: {
    run: async (ctx) => {
      const seconds = (began) => Number(process.hrtime.bigint() - began) / 1e9;
      let began = process.hrtime.bigint();
      for (let i = 0; i < 1000; i++) {
        await ctx.run(`step ${i}`, () => fs.existsSync(`no file ${i}`));
      }
      const sequential = seconds(began);
      began = process.hrtime.bigint();
      const all = [];
      for (let i = 0; i < 1000; i++) all.push(ctx.run(`at once ${i}`, () => fs.existsSync(`no file ${i}`)));
      await restate.RestatePromise.all(all);
      return { sequential, parallel: seconds(began) };
    },
  },
});

async function ask(url, body) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

async function eventually(act) {
  for (let tries = 0; ; tries++) {
    try {
      return await act();
    } catch (error) {
      if (tries > 300) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

async function main() {
  await restate.serve({ services: [steps], port: PORT });
  // A group of its own: the npm package's command runs the server as a child.
  const server = spawn("restate-server", ["--no-logo", "--base-dir", path.join(folder, "data")], {
    stdio: "ignore",
    detached: true,
  });
  server.on("error", (error) => {
    console.error(error.message);
    process.exit(1);
  });
  try {
    await eventually(() => ask("http://127.0.0.1:9070/deployments", { uri: `http://127.0.0.1:${PORT}` }));
    const took = await eventually(() => ask("http://127.0.0.1:8080/steps/run", null));
    console.log(`sequential ${took.sequential}`);
    console.log(`parallel ${took.parallel}`);
  } finally {
    process.kill(-server.pid);
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
