import { type Environment, Interpreter } from "@huggingface/jinja";

/** Jinja's sandbox has the same bound on range(). */
export const MAX_RANGE = 100_000;

/** Steps that a template of a request may take, and for each message more. */
const BASE_STEPS = 100_000;
const STEPS_PER_MESSAGE = 2_000;
/** Characters of any text that it makes on the way. */
const MAX_CHARACTERS = 1 << 22;
/** Items of a list, and characters of a text, that cost a step when something is done with the whole. */
const ITEMS_PER_STEP = 64;
const CHARACTERS_PER_STEP = 256;

interface Statement {
  type: string;
  /** Of a loop. */
  iterable?: Statement & { lhs?: Statement };
}

/**
 * Runs a template that came with a request within bounds: rendering holds up every other request, and
 * a few characters of template can ask for hours or for all memory. A step is an expression or a
 * statement, or a round of a loop.
 */
export class BoundedInterpreter extends Interpreter {
  readonly #loopedOver = new WeakSet<Statement>();
  #stepsLeft: number;

  constructor(environment: Environment, numMessages: number) {
    super(environment);
    this.#stepsLeft = BASE_STEPS + STEPS_PER_MESSAGE * numMessages;
  }

  /** @throws Error when the template asks for more than it may. */
  evaluate(statement: Statement | undefined, environment: unknown): { value?: unknown } {
    const { iterable } = statement ?? {};
    // A loop with a condition goes over the left side of an expression.
    for (const one of [iterable, iterable?.lhs]) if (one !== undefined) this.#loopedOver.add(one);
    const result = super.evaluate(statement, environment);
    const isLoop = statement !== undefined && this.#loopedOver.has(statement);
    this.#stepsLeft -= 1 + cost(result.value, isLoop);
    if (this.#stepsLeft < 0) throw new Error("it takes more steps than a template may");
    return result;
  }
}

function cost(value: unknown, isLoop: boolean): number {
  if (Array.isArray(value)) return isLoop ? value.length : value.length / ITEMS_PER_STEP;
  if (typeof value !== "string") return 0;
  if (value.length <= MAX_CHARACTERS) return value.length / CHARACTERS_PER_STEP;
  throw new Error(`it makes text of more than ${MAX_CHARACTERS} characters`);
}
