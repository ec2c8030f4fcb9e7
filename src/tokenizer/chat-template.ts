import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { UcmError } from "../errors/index.js";
import { BoundedInterpreter, MAX_RANGE } from "./template-interpreter.js";
import type { ChatMessage, ChatTemplateOptions } from "./types.js";

/** Chat templates by name; `default` unless a model has several. */
export type NamedTemplates = ReadonlyMap<string, string>;

/** Texts of the special tokens that a tokenizer has, such as bos_token. */
export type SpecialTokenTexts = Readonly<Record<string, string>>;

const NO_TEMPLATE =
  "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the tokenizer does not define one.";

/** Compiled overrides kept; a server sees one or two, and requests must not fill memory. */
const KEPT_OVERRIDES = 16;

/** Thrown by a template that calls raise_exception. */
class TemplateRefusal extends Error {}

/**
 * Chat templates of one tokenizer, rendered as transformers' `apply_chat_template` does: the same
 * variables, filters and white-space rules. All are compiled at once, so that a syntax error shows
 * at start-up (an Error in words).
 */
export class ChatTemplates {
  readonly #templates = new Map<string, Template>();
  readonly #overrides = new Map<string, Template>();
  readonly #specialTokens: SpecialTokenTexts;

  constructor(templates: NamedTemplates, specialTokens: SpecialTokenTexts) {
    this.#specialTokens = specialTokens;
    for (const [name, source] of templates) {
      try {
        this.#templates.set(name, new Template(source));
      } catch (error) {
        const label = name === "default" ? "its chat template" : `its chat template "${name}"`;
        throw new Error(`${label} has a syntax error: ${messageOf(error)}`, { cause: error });
      }
    }
  }

  get size(): number {
    return this.#templates.size;
  }

  /** Renders to prompt text; UCM_ERR_INVALID_REQUEST for messages that the template refuses. */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions): string {
    const { continueFinalMessage = false, tools } = options;
    const { addGenerationPrompt = !continueFinalMessage } = options;
    if (continueFinalMessage && addGenerationPrompt) {
      throw refuse(
        "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        "continue_final_message",
      );
    }
    const template = this.#select(options);
    const plainMessages = messages.map(toTemplateMessage);
    let text: string;
    try {
      const bound = options.isUntrusted ? messages.length : null;
      text = run(template, bound, {
        documents: null,
        ...options.kwargs,
        ...this.#specialTokens,
        messages: plainMessages,
        tools: tools !== undefined && tools.length > 0 ? tools : null,
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (error) {
      if (error instanceof TemplateRefusal) throw refuse(error.message, "messages", error);
      throw refuse(`The chat template failed: ${messageOf(error)}`, "messages", error);
    }
    return continueFinalMessage ? cutAfterFinalMessage(text, plainMessages.at(-1)) : text;
  }

  #select({ chatTemplate, tools }: ChatTemplateOptions): Template {
    if (chatTemplate !== undefined) {
      return this.#templates.get(chatTemplate) ?? this.#override(chatTemplate);
    }
    const toolTemplate =
      tools !== undefined && tools.length > 0 ? this.#templates.get("tool_use") : undefined;
    const template = toolTemplate ?? this.#templates.get("default");
    if (template !== undefined) return template;
    if (this.#templates.size === 0) throw refuse(NO_TEMPLATE);
    throw refuse(
      `This model has several chat templates and none is the default; choose one with chat_template: ${[...this.#templates.keys()].join(", ")}.`,
      "chat_template",
    );
  }

  #override(source: string): Template {
    let template = this.#overrides.get(source);
    if (template === undefined) {
      try {
        template = new Template(source);
      } catch (error) {
        throw refuse(
          `The given chat template has a syntax error: ${messageOf(error)}`,
          "chat_template",
          error,
        );
      }
      if (this.#overrides.size >= KEPT_OVERRIDES) this.#overrides.clear();
      this.#overrides.set(source, template);
    }
    return template;
  }
}

/** What a template may use besides its variables. */
const templateGlobals: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range: (first: number, end?: number, step = 1) => {
    const [start, stop] = end === undefined ? [0, first] : [first, end];
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (length > MAX_RANGE) throw new Error(`range() of more than ${MAX_RANGE} numbers`);
    return Array.from({ length }, (_, i) => start + i * step);
  },
  strftime_now: (format: string) => formatTime(new Date(), format),
  raise_exception: (message: unknown) => {
    throw new TemplateRefusal(String(message));
  },
};

/**
 * The library's own `render` tells a refusal from a failure by nothing, and writes months in the
 * machine's language. `bound` is the number of messages that a bounded template may work on.
 */
function run(template: Template, bound: number | null, variables: Record<string, unknown>): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...templateGlobals, ...variables })) {
    environment.set(name, value);
  }
  const interpreter =
    bound === null ? new Interpreter(environment) : new BoundedInterpreter(environment, bound);
  const result: { value?: unknown } = interpreter.run(template.parsed);
  return String(result.value);
}

/** Text parts joined by line breaks, and tool-call arguments as objects, as vLLM hands them on. */
function toTemplateMessage(message: ChatMessage): ChatMessage & { content: string } {
  const plain: ChatMessage & { content: string } = {
    ...message,
    content: flattenContent(message.content),
  };
  if (Array.isArray(plain.tool_calls)) plain.tool_calls = plain.tool_calls.map(parseArguments);
  return plain;
}

function flattenContent(content: ChatMessage["content"]): string {
  if (typeof content === "string") return content;
  return (content ?? [])
    .map((part) => {
      if (part.type === "text" && typeof part.text === "string") return part.text;
      throw refuse(
        `Message content of type "${part.type}" is not supported: this model reads text only. Send parts of type "text".`,
        "messages",
      );
    })
    .join("\n");
}

function parseArguments(call: unknown): unknown {
  if (typeof call !== "object" || call === null || !("function" in call)) return call;
  const inner = call.function;
  if (typeof inner !== "object" || inner === null || !("arguments" in inner)) return call;
  if (typeof inner.arguments !== "string") return call;
  try {
    const parsed: unknown = inner.arguments.trim() === "" ? {} : JSON.parse(inner.arguments);
    return { ...call, function: { ...inner, arguments: parsed } };
  } catch (error) {
    throw refuse(
      `The arguments of a tool call are not valid JSON: ${messageOf(error)}`,
      "messages",
      error,
    );
  }
}

/** Cuts the rendered text where the last message ends, as transformers does. */
function cutAfterFinalMessage(text: string, message: { content: string } | undefined): string {
  const content = message?.content ?? "";
  const start = text.lastIndexOf(content.trim());
  if (message === undefined || start < 0) {
    throw refuse(
      "continue_final_message is set but the final message does not appear in the chat after applying the chat template! This can happen if the chat template deletes portions of the final message. Please verify the chat template and final message in your chat to ensure they are compatible.",
      "continue_final_message",
    );
  }
  const unindented = content.trimStart();
  const keepsSpacing = text.startsWith(unindented, start);
  return text.slice(0, start + (keepsSpacing ? unindented : content.trim()).length);
}

/** The directives of Python's strftime that templates use, in the C locale. */
const timeDirectives: Record<string, (time: Date) => string> = {
  Y: (time) => String(time.getFullYear()),
  y: (time) => twoDigits(time.getFullYear() % 100),
  m: (time) => twoDigits(time.getMonth() + 1),
  d: (time) => twoDigits(time.getDate()),
  H: (time) => twoDigits(time.getHours()),
  I: (time) => twoDigits(((time.getHours() + 11) % 12) + 1),
  M: (time) => twoDigits(time.getMinutes()),
  S: (time) => twoDigits(time.getSeconds()),
  p: (time) => (time.getHours() < 12 ? "AM" : "PM"),
  B: (time) => time.toLocaleString("en-US", { month: "long" }),
  b: (time) => time.toLocaleString("en-US", { month: "short" }),
  A: (time) => time.toLocaleString("en-US", { weekday: "long" }),
  a: (time) => time.toLocaleString("en-US", { weekday: "short" }),
  "%": () => "%",
};

function formatTime(time: Date, format: string): string {
  return format.replace(/%(.)/g, (whole, name: string) => timeDirectives[name]?.(time) ?? whole);
}

function twoDigits(value: number): string {
  return String(value).padStart(2, "0");
}

function refuse(message: string, param?: string, cause?: unknown): UcmError {
  return new UcmError("UCM_ERR_INVALID_REQUEST", message, {
    cause,
    ...(param === undefined ? {} : { param }),
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
