import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { compileFunction, constants } from "node:vm";

type Library = typeof import("@mlc-ai/web-xgrammar");

/** The library, and what it last complained of. */
export interface XGrammar {
  library: Library;
  /** Takes the complaints since the last call; an abort of the WebAssembly code is one of them. */
  takeComplaints(): string[];
}

/**
 * Loads xgrammar's WebAssembly build. The package calls itself an ES module and is a CommonJS file,
 * which neither `import` nor `require` takes, so it is evaluated as what it is. It writes the reason
 * of every failure to the console, which here is a list.
 */
export function loadXGrammar(): XGrammar {
  const require = createRequire(import.meta.url);
  const file = require.resolve("@mlc-ai/web-xgrammar");
  const complaints: string[] = [];
  const complain = (...words: unknown[]) => void complaints.push(words.map(String).join(" "));
  const evaluate = compileFunction(
    readFileSync(file, "utf8"),
    ["exports", "module", "require", "__filename", "__dirname", "console"],
    { filename: file, importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER },
  );
  const module = { exports: {} };
  const console = { log: complain, warn: complain, error: complain };
  evaluate(module.exports, module, createRequire(file), file, dirname(file), console);
  return {
    library: module.exports as Library,
    takeComplaints: () => complaints.splice(0),
  };
}
