/** A client that behaves, beside others that do not. */
export interface Witness {
  /** Answers so far. */
  count: number;
  /** What was wrong with them. */
  complaints: string[];
  /** Milliseconds that each took. */
  timesMs: number[];
  /** Resolves when the last answer is there. */
  stop(): Promise<void>;
}

const body = { prompt: "Once upon a time", max_tokens: 12, temperature: 0 };

/** Asks the same question again and again, whole and streamed, and compares with the first answer. */
export async function startWitness(url: string): Promise<Witness> {
  const expected = await ask(url, false);
  let isOver = false;
  const witness: Witness = {
    ...{ count: 0, complaints: [], timesMs: [] },
    async stop() {
      isOver = true;
      await running;
    },
  };
  const run = async () => {
    while (!isOver) {
      const started = performance.now();
      const streamed = witness.count % 2 === 1;
      const answer = await ask(url, streamed).catch((error: Error) => `failed: ${error.message}`);
      if (answer !== expected)
        witness.complaints.push(`${streamed ? "stream" : "whole"}: ${answer}`);
      witness.timesMs.push(performance.now() - started);
      witness.count++;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const running = run();
  return witness;
}

/** The text of the answer; one that has to wait for the queue asks again, as it is told to. */
async function ask(url: string, stream: boolean): Promise<string> {
  for (;;) {
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, stream }),
    });
    const text = await response.text();
    if (response.status === 503 && response.headers.has("retry-after")) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      continue;
    }
    if (response.status !== 200) return `HTTP ${response.status}: ${text}`;
    if (!stream) return JSON.parse(text).choices[0].text;
    const parts = text.split("\n\n").filter((line) => line.startsWith("data: {"));
    return parts.map((line) => JSON.parse(line.slice("data: ".length)).choices[0].text).join("");
  }
}
