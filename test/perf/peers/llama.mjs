import { fork } from "node:child_process";
import { join } from "node:path";

/** llama.cpp in a process of its own; its methods are those of llama-process.mjs. */
export class Llama {
  #child;
  #waiting = new Map();
  #nextId = 0;
  /** llama.cpp's release, its library for this processor, and what it says of the processor. */
  info;

  static async start(options) {
    const llama = new Llama();
    llama.info = await llama.call("start", options);
    return llama;
  }

  constructor() {
    this.#child = fork(join(import.meta.dirname, "llama-process.mjs"), {
      serialization: "advanced",
    });
    this.#child.on("message", ({ id, result, error }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(`llama.cpp: ${error}`));
    });
    this.#child.on("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) {
        reject(new Error(`the process of llama.cpp ended with ${signal ?? code}`));
      }
    });
  }

  call(method, params = {}) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, method, params });
    });
  }

  stop() {
    this.#child.disconnect();
  }
}
