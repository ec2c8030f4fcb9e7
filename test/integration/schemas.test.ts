import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { beforeAll, describe, expect, it } from "vitest";
import { UcmError } from "../../src/errors/index.js";
import { refuseUnsupportedSchema } from "../../src/grammar/schema-rules.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { Dice } from "../helpers/hostile/dice.js";
import { classicSchemas } from "../helpers/schemas/classics.js";
import { generateSchema, type Schema } from "../helpers/schemas/generate.js";
import { Walker } from "../helpers/schemas/walk.js";
import { demoModel } from "../helpers/ucm-command.js";

/**
 * Outputs of JSON schemas, drawn from the masks alone and judged by another implementation: whatever is
 * taken is enforced. UCM_SCHEMAS for more of them, UCM_SCHEMA_SEED for others.
 */
const count = Number(process.env.UCM_SCHEMAS ?? 200);
const seed = Number(process.env.UCM_SCHEMA_SEED ?? 7);
const OUTPUTS = 4;

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);

let walker: Walker;
beforeAll(async () => {
  walker = await Walker.create(await loadTokenizer(demoModel));
});

/** The reason why a schema is refused, null when it is taken; what is wrong with its outputs. */
async function judge(schema: Schema, dice: Dice) {
  const text = JSON.stringify(schema);
  const wrong: string[] = [];
  let endless = 0;
  try {
    refuseUnsupportedSchema({ kind: "json", schema: text, anyWhitespace: true });
    for (let i = 0; i < OUTPUTS; i++) {
      const output = await walker.output(text, dice);
      if (output === null) endless++;
      // Bytes that are no UTF-8, which masks let through; no model was taught to write them.
      else if (output.includes("\ufffd")) continue;
      else if (!isValid(schema, output))
        wrong.push(`${text}\n   -> ${output}: ${ajv.errorsText()}`);
    }
  } catch (error) {
    const { message } = error as Error;
    if (walker.isLost) walker = await Walker.create(await loadTokenizer(demoModel));
    const isRefusal = error instanceof UcmError ? error.code === "UCM_ERR_INVALID_REQUEST" : true;
    return { refusal: isRefusal ? message : null, wrong, endless };
  }
  return { refusal: null, wrong, endless };
}

function isValid(schema: Schema, output: string): boolean {
  try {
    return ajv.validate(schema, JSON.parse(output));
  } catch (error) {
    ajv.errors = [{ message: String(error) } as never];
    return false;
  }
}

describe("JSON schemas", () => {
  it("of applications and corners: outputs are valid, or the schema is refused", async () => {
    const dice = new Dice(seed);
    const wrong: string[] = [];
    for (const schema of classicSchemas) {
      const { refusal, ...found } = await judge(schema, dice);
      wrong.push(...found.wrong);
      if (process.env.UCM_SCHEMAS)
        console.log(JSON.stringify(schema).slice(0, 120), refusal, found.endless);
    }
    expect(wrong).toEqual([]);
  });

  const timeoutMs = 60_000 + count * 500;
  it(`of chance, ${count} that are taken: outputs are valid`, { timeout: timeoutMs }, async () => {
    const dice = new Dice(seed);
    const wrong: string[] = [];
    const refusals = new Map<string, number>();
    let taken = 0;
    let endless = 0;
    while (taken < count) {
      const found = await judge(generateSchema(dice), dice);
      if (found.refusal === null) taken++;
      else {
        const reason = found.refusal.replace(/ at #.*/, "").replace(/".*"/, "…");
        refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
      }
      endless += found.endless;
      wrong.push(...found.wrong);
    }
    console.log(
      `${taken} schemas taken, ${OUTPUTS} outputs each, ${wrong.length} wrong, ${endless} without an end; refused: ${JSON.stringify(Object.fromEntries(refusals))}`,
    );
    expect(wrong).toEqual([]);
    expect(endless).toBeLessThan(taken * OUTPUTS * 0.1);
  });
});
