// What the end-to-end tests share: the server as a child process, a browser, pages of other origins, and waiting.

import {spawn} from "node:child_process";
import {existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync} from "node:fs";
import {createServer} from "node:http";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {after, afterEach, before} from "node:test";
import {load} from "./packages.js";

/** How long anything may take before a test calls it hung; no measure of speed. */
export const PATIENCE_MS = 30_000;
const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
];

/** Calls `look` until it gives something. */
export async function until(what, look) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 25));
  }
}

/** The server under test, with a folder of its own. */
export class Server {
  static async start(settings = {}) {
    const server = new Server();
    server.folder = mkdtempSync(join(tmpdir(), "floodgate-e2e-"));
    server.settings = settings;
    await server.run("127.0.0.1:0");
    return server;
  }

  async run(bind) {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("METRICS_"));
    this.process = spawn(process.env.FLOODGATE_BINARY, [], {
      cwd: this.folder,
      env: {...Object.fromEntries(own), METRICS_BIND: bind, METRICS_JSONL: join(this.folder, "metrics.jsonl"), METRICS_LOG_FORMAT: "json", ...this.settings},
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.ended = new Promise(resolve => this.process.once("exit", resolve));
    let text = "";
    this.process.stderr.setEncoding("utf8").on("data", piece => text += piece);
    this.address = await until("the server to listen", () => {
      if (this.process.exitCode !== null) throw new Error(`the server ended: ${text}`);
      return text.match(/"message":"listening".*?"address":"([^"]+)"/)?.[1];
    });
    this.url = `http://${this.address}`;
  }

  /** Ends the server in order; its log stays. */
  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
  }

  /** Starts it again where it was. */
  async startAgain() {
    await this.run(this.address);
  }

  async remove() {
    if (this.process.exitCode === null) this.process.kill("SIGKILL");
    await this.ended;
    rmSync(this.folder, {recursive: true, force: true});
  }

  async post(events, query = "?ack=written") {
    const body = events.map(event => JSON.stringify(event)).join("\n");
    const answer = await fetch(`${this.url}/api/metrics/events/batch${query}`, {method: "POST", body});
    if (answer.status !== 202) throw new Error(`${answer.status}: ${await answer.text()}`);
  }

  async get(path, headers = {}) {
    return (await fetch(this.url + path, {headers})).json();
  }

  /** The stored events. */
  stored() {
    const path = join(this.folder, "metrics.jsonl");
    return existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean).map(line => JSON.parse(line)) : [];
  }
}

/** A server of NATS with JetStream, its files in a folder of its own. */
export class Nats {
  static async start() {
    const nats = new Nats();
    nats.folder = mkdtempSync(join(tmpdir(), "floodgate-e2e-nats-"));
    nats.process = spawn("nats-server", ["-js", "-sd", nats.folder, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", nats.folder], {stdio: "ignore"});
    nats.ended = new Promise(resolve => nats.process.once("exit", resolve).once("error", resolve));
    const ports = join(nats.folder, `nats-server_${nats.process.pid}.ports`);
    nats.url = await until("NATS to listen (apt-get install nats-server)", () => {
      // The file may be there before it is written.
      try {
        return JSON.parse(readFileSync(ports, "utf8")).nats[0];
      } catch {
        return null;
      }
    });
    return nats;
  }

  async remove() {
    if (this.process.exitCode === null) this.process.kill("SIGKILL");
    await this.ended;
    rmSync(this.folder, {recursive: true, force: true});
  }
}

/** Events of that name, of visitors of their own. */
export const events = (event, count, more = () => ({})) =>
  Array.from({length: count}, (_, index) => ({visitor_id: `visitor-${event}-${index}`.slice(0, 64), event, metadata: {index}, ...more(index)}));

/** A browser with an empty profile. */
export async function browser() {
  const executablePath = CHROMIUM.find(existsSync);
  if (!executablePath) throw new Error("there is no Chromium (apt-get install chromium)");
  return load("playwright-core").chromium.launch({executablePath, args: FLAGS});
}

/** A page, and what went wrong in it. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({viewport: {width: 1360, height: 900}, locale: "en-US", timezoneId: "UTC", ...options});
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const seen = {errors: [], requests: []};
  page.on("pageerror", error => seen.errors.push(error.message));
  page.on("console", message => {
    // A browser reports each answer that is an error; those are what some tests are about.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) seen.errors.push(message.text());
  });
  page.on("request", request => seen.requests.push(request.url()));
  await page.goto(url);
  return {page, context, seen};
}

/** Keeps what the page looks like, as an artefact of the run. */
export async function screenshot(page, name) {
  const folder = process.env.FLOODGATE_E2E_SCREENS;
  mkdirSync(folder, {recursive: true});
  // A frame or two for what is painted in answer to the last event.
  await page.evaluate(() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  await page.screenshot({path: join(folder, `${name}.png`), fullPage: true});
}

/** A server at a port, and with it an origin, of its own. `answer(request, body)` gives `{status, type, text, headers}`. */
export async function origin(answer) {
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", piece => body += piece).on("end", () => {
      const {status = 200, type = "text/html; charset=utf-8", text = "", headers = {}} = answer(request, body) ?? {status: 404};
      if (status === 0) return request.socket.destroy();
      response.writeHead(status, {"Content-Type": type, ...headers});
      response.end(text);
    });
  });
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  };
}

export const text = (page, selector) => page.locator(selector).innerText();
/** The lifetime count that the page shows, the events that its chart shows, and the rows of its tail. */
export const count = page => page.locator("#total").getAttribute("data-count").then(Number);
export const charted = page => page.locator("#chart").getAttribute("data-total").then(Number);
export const rows = page => page.locator("#tail > li > button");

/** Servers, of NATS too, and tabs of one test, which `clear` ends. */
class Stage {
  #servers = [];
  #tabs = [];

  async serve(settings) {
    const server = await Server.start(settings);
    this.#servers.push(server);
    return server;
  }

  /** Nodes of these names, which ship to NATS, and a view of all of them. */
  async fleet(names) {
    const nats = await Nats.start();
    this.#servers.push(nats);
    const ship = {METRICS_SHIP_URL: nats.url, METRICS_SHIP_REPLICAS: "1"};
    const nodes = await Promise.all(names.map(name => this.serve({...ship, METRICS_NODE: name})));
    return {nats, nodes, view: await this.serve({METRICS_FROM: nats.url})};
  }

  /** Opens the dashboard, and waits until it has found the server. */
  async look(server, hash = "", options = {}) {
    const tab = await open(this.browser, `${server.url}/${hash}`, options);
    this.#tabs.push(tab);
    await tab.page.locator('#status[data-state="live"], #status[data-state="locked"]').waitFor();
    return tab;
  }

  async clear() {
    await Promise.all(this.#tabs.splice(0).map(({context}) => context.close()));
    await Promise.all(this.#servers.splice(0).map(server => server.remove()));
  }
}

/** A stage for the tests of a file: its browser is there before the first of them, and after each it is cleared. */
export function staged() {
  const stage = new Stage();
  before(async () => {
    stage.browser = await browser();
  });
  after(() => stage.browser.close());
  afterEach(() => stage.clear());
  return stage;
}

/** Four hundred visitors on their way through a shop, B a good deal better than A; a few of each event now, the rest before. */
export function visits() {
  const minutes = index => new Date(Date.now() - 60_000 * (index % 50) - 1_000).toISOString();
  return Array.from({length: 400}, (_, index) => {
    const variant = index % 2 ? "A" : "B";
    const depth = index % 10 < (variant === "A" ? 4 : 8) ? 4 : 1 + index % 3;
    const began = Date.parse(minutes(index));
    return ["page_view", "product_view", "add_to_cart", "purchase"].slice(0, depth).map((event, step) => ({
      visitor_id: `visitor-${index}`, event, timestamp: new Date(began + step).toISOString(), metadata: {variant, path: `/shop/${index % 7}`, price: 1.1},
    }));
  }).flat();
}
