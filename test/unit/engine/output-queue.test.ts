import { describe, expect, it } from "vitest";
import { OutputQueue } from "../../../src/engine/output-queue.js";

function makeQueue() {
  const calls = { cancelled: 0 };
  const queue = new OutputQueue<number>(() => {
    calls.cancelled += 1;
  });
  return { queue, calls };
}

describe("OutputQueue", () => {
  it("delivers what was pushed before and after the consumer asked, in order", async () => {
    const { queue, calls } = makeQueue();
    queue.push(1);
    const received: number[] = [];
    const reader = (async () => {
      for await (const item of queue) received.push(item);
    })();
    await Promise.resolve();
    queue.push(2);
    queue.push(3);
    queue.end();
    queue.push(4);
    await reader;
    expect(received).toEqual([1, 2, 3]);
    expect(calls.cancelled).toBe(0);
  });

  it("answers several askers in turn", async () => {
    const { queue } = makeQueue();
    const asked = [queue.next(), queue.next(), queue.next()];
    queue.push(1);
    queue.push(2);
    queue.end();
    expect(await Promise.all(asked)).toEqual([
      { value: 1, done: false },
      { value: 2, done: false },
      { value: undefined, done: true },
    ]);
  });

  it("fails once, after what was pushed", async () => {
    const { queue } = makeQueue();
    queue.push(1);
    queue.fail(new Error("gone"));
    queue.fail(new Error("again"));
    expect(await queue.next()).toEqual({ value: 1, done: false });
    await expect(queue.next()).rejects.toThrow("gone");
    expect(await queue.next()).toEqual({ value: undefined, done: true });
  });

  it("fails one asker and ends the others", async () => {
    const { queue } = makeQueue();
    const asked = [queue.next(), queue.next()];
    queue.fail(new Error("gone"));
    await expect(asked[0]).rejects.toThrow("gone");
    expect(await asked[1]).toEqual({ value: undefined, done: true });
  });

  it("cancels once when the consumer leaves early, and not after the end", async () => {
    const { queue, calls } = makeQueue();
    queue.push(1);
    queue.push(2);
    for await (const item of queue) {
      expect(item).toBe(1);
      break;
    }
    await queue.return();
    expect(calls.cancelled).toBe(1);
    expect(await queue.next()).toEqual({ value: undefined, done: true });
    const other = makeQueue();
    other.queue.end();
    await other.queue.return();
    expect(other.calls.cancelled).toBe(0);
  });
});
