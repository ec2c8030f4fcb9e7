import { expect, it } from "vitest";
import { readEvents } from "../../../src/cli/client/sse-reader.js";

async function read(...pieces: (string | Buffer)[]): Promise<string[]> {
  async function* stream() {
    for (const piece of pieces) yield Buffer.from(piece);
  }
  const events: string[] = [];
  for await (const event of readEvents(stream())) events.push(event);
  return events;
}

it("reads events however the bytes are cut", async () => {
  const bytes = Buffer.from(
    'data: {"a":"é"}\r\n\r\n: note\nevent: x\ndata:one\ndata: two\n\ndata: end',
  );
  const whole = ['{"a":"é"}', "one\ntwo", "end"];
  expect(await read(bytes)).toEqual(whole);
  for (let cut = 1; cut < bytes.length; cut++) {
    expect(await read(bytes.subarray(0, cut), bytes.subarray(cut))).toEqual(whole);
  }
});

it("finds nothing in nothing", async () => {
  expect(await read()).toEqual([]);
  expect(await read("\n\n: only a comment\n\n")).toEqual([]);
});
