#!/usr/bin/env node
// Makes what is served as /tracker.js of its source: tests/e2e/run minify >src/web/tracker.js
// Needs terser, which tests/e2e/run installs.
import {readFileSync} from "node:fs";
import {dirname, join} from "node:path";
import {fileURLToPath} from "node:url";
import {load} from "./packages.js";

const folder = join(dirname(fileURLToPath(import.meta.url)), "../../src/web");

/** The source without comments, with short names. */
export async function minified() {
  const {minify} = load("terser");
  const source = readFileSync(join(folder, "tracker.source.js"), "utf8");
  const {code} = await minify(source, {ecma: 2020, compress: {passes: 3, booleans_as_integers: true}, mangle: true, format: {comments: false}});
  return `${code}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.stdout.write(await minified());
