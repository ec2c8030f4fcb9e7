// Time to compile grammars, and to advance one by a token of random output that follows it, with the
// tokenizer.json of a large vocabulary.
//
//   npm run build && node test/perf/grammar.mjs FOLDER
import { GrammarHost } from "../../dist/grammar/grammar-host.js";
import { grammarVocabulary } from "../../dist/grammar/index.js";
import { loadTokenizer } from "../../dist/tokenizer/index.js";

const [folder = "../shared/tokenizers/qwen2.5"] = process.argv.slice(2);
const TOKENS = 400;

const person = {
  type: "object",
  properties: {
    name: { type: "string" },
    age: { type: "integer", minimum: 0, maximum: 150 },
    tags: { type: "array", items: { enum: ["a", "b", "c"] } },
    address: {
      type: "object",
      properties: { street: { type: "string", maxLength: 20 }, zip: { type: "string" } },
      required: ["street", "zip"],
    },
  },
  required: ["name", "age", "address"],
};
const json = (schema) => ({ kind: "json", schema: JSON.stringify(schema), anyWhitespace: false });
const specs = {
  "schema of a person": json(person),
  "list of persons": json({ type: "array", items: person, minItems: 20 }),
  "any JSON": json({}),
  "regular expression": { kind: "regex", pattern: "([A-Z][a-z]{2,8} ){40}[0-9]+" },
  choice: { kind: "choice", choices: Array.from({ length: 500 }, (_, i) => `option ${i}`) },
};

const tokenizer = await loadTokenizer(folder);
const eos = tokenizer.eosTokenId ?? 0;
const host = await GrammarHost.create(
  grammarVocabulary(tokenizer, { vocabSize: tokenizer.vocabSize, eosTokenIds: [eos] }),
);
console.log(`vocabulary ${tokenizer.vocabSize}`);
for (const [seqId, [name, spec]] of Object.entries(specs).entries()) {
  const grammar = { key: name, spec };
  let started = performance.now();
  await host.compile(grammar);
  const compileMs = performance.now() - started;
  let mask = await host.open(seqId, grammar);
  const times = [];
  while (times.length < TOKENS) {
    const tokenId = randomAllowed(mask);
    if (tokenId === eos) break;
    started = performance.now();
    mask = await host.advance(seqId, tokenId);
    times.push(performance.now() - started);
  }
  host.close(seqId);
  times.sort((a, b) => a - b);
  const at = (share) => (times[Math.floor(share * (times.length - 1))] ?? 0).toFixed(3);
  const mean = times.reduce((sum, ms) => sum + ms, 0) / Math.max(1, times.length);
  console.log(
    `${name}: compile ${compileMs.toFixed(0)} ms; ${times.length} tokens, ms each: ` +
      `mean ${mean.toFixed(3)}, p50 ${at(0.5)}, p99 ${at(0.99)}, most ${at(1)}`,
  );
}

/** One of the allowed tokens, as likely as any other. */
function randomAllowed(mask) {
  const allowed = [];
  for (const [w, word] of mask.entries()) {
    for (let i = 0; word !== 0 && i < 32; i++) if ((word >>> i) & 1) allowed.push(w * 32 + i);
  }
  return allowed[Math.floor(Math.random() * allowed.length)];
}
