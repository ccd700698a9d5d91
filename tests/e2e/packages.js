// Packages are installed outside the source tree, where tests/e2e/run says.
import {createRequire} from "node:module";
import {join} from "node:path";

/** A package by its name. */
export function load(name) {
  const folder = process.env.FLOODGATE_E2E_PACKAGES;
  if (!folder) throw new Error("FLOODGATE_E2E_PACKAGES is not set: tests/e2e/run sets it to where npm has installed packages");
  return createRequire(join(folder, "package.json"))(name);
}
