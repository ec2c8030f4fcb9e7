import { Agent } from "node:http";
import { type Answer, attacks, type Target } from "./attacks.js";
import { Dice } from "./dice.js";

export interface Campaign {
  url: string;
  /** Attacks. */
  count: number;
  seed: number;
  /** At once. */
  parallel?: number;
}

export interface CampaignResult {
  /** Answers by status; "none" where the attacker left, or the connection was closed. */
  statuses: Record<string, number>;
  /** What the server should not have answered, at most 50. */
  complaints: string[];
  numComplaints: number;
}

/** Statuses that a client may bring about; 429 and 503 only with a time to come again. */
const declared = new Set([200, 204, 400, 404, 405, 408, 413, 415, 417, 429, 431, 503]);
const COMPLAINTS_KEPT = 50;

/** Sends attacks of every kind, several at once; what came back. */
export async function runCampaign(campaign: Campaign): Promise<CampaignResult> {
  const { url, count, seed, parallel = 24 } = campaign;
  const { hostname: host, port } = new URL(url);
  const agent = new Agent({ keepAlive: true, maxSockets: parallel });
  const target: Target = { host, port: Number(port), agent };
  const result: CampaignResult = { statuses: {}, complaints: [], numComplaints: 0 };
  const dice = new Dice(seed);
  const kinds = Object.entries(attacks).map(([name, [weight, attack]]) => {
    return [weight, { name, attack }] as const;
  });
  let started = 0;
  const attacker = async () => {
    while (started < count) {
      const number = started++;
      const own = dice.split();
      const { name, attack } = own.weighted(kinds);
      const answer = await attack(target, own);
      const key = String(answer?.status ?? "none");
      result.statuses[key] = (result.statuses[key] ?? 0) + 1;
      const complaint = answer === null ? null : findFault(answer);
      if (complaint !== null && ++result.numComplaints <= COMPLAINTS_KEPT) {
        result.complaints.push(`attack ${number} (${name}, seed ${seed}): ${complaint}`);
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: parallel }, attacker));
  } finally {
    agent.destroy();
  }
  return result;
}

/** What is wrong with an answer, null when nothing is. */
function findFault({ status, headers, text }: Answer): string | null {
  if (!declared.has(status)) return `HTTP ${status}: ${text.slice(0, 500)}`;
  if (headers.date === undefined) return null;
  if ((status === 429 || status === 503) && headers["retry-after"] === undefined) {
    return `HTTP ${status} without Retry-After`;
  }
  if (status < 400 || text === "") return null;
  if (text.length > 20_000) return `HTTP ${status} with ${text.length} characters`;
  try {
    const { error } = JSON.parse(text);
    if (typeof error.message === "string" && error.code === status) return null;
  } catch {
    // Told below.
  }
  return `HTTP ${status} in another shape: ${text.slice(0, 500)}`;
}
