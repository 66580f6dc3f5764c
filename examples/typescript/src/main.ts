// Starts, lists, decides and reads runs of Assent's agents. Written from docs/reference/wire.md alone. Prints JSON, one value a line.

import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { Client, Connection } from "@temporalio/client";
import { loadClientConnectConfig } from "@temporalio/envconfig";
import * as wire from "./wire.js";

const USAGE = `usage: main.js start AGENT INPUT --by NAME [--id RUN] [--task-queue QUEUE]
       main.js list
       main.js state RUN
       main.js approve RUN ID --by NAME [--reason TEXT]
       main.js reject RUN ID --by NAME --reason TEXT
       main.js result RUN
The variables and the profiles of the temporal CLI say where the server is: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, …`;

class UsageError extends Error {}

async function start(client: Client, request: wire.RunRequest, workflowId: string, taskQueue: string): Promise<void> {
  const options = { args: [request], workflowId, taskQueue, workflowIdReusePolicy: "REJECT_DUPLICATE" } as const;
  await client.workflow.start("AgentRun", options);
  print({ run: workflowId });
}

/** Print everything that waits for a person: one visibility query, no worker. */
async function list(client: Client): Promise<void> {
  for await (const run of client.workflow.list({ query: wire.WAITING })) {
    const memo = run.memo ?? {};
    const request = (memo["assent_request"] ?? {}) as wire.RequestMemo;
    const names = Object.keys(memo).filter((name) => wire.PENDING_MEMO.test(name));
    for (const name of names.sort((one, other) => one.localeCompare(other, "en", { numeric: true }))) {
      const requirement = memo[name] as wire.PendingRequirement | null;
      // Behind a payload codec, the memo of a decided requirement stays, and is null.
      if (requirement) print({ run: run.workflowId, ...request, ...requirement });
    }
  }
}

async function state(client: Client, run: string): Promise<void> {
  print(await client.workflow.getHandle(run).query<wire.RunState>("state"));
}

/** Decide by the update, which returns the outcome. The signals `approve` and `reject` need no worker, and return none. */
async function decide(client: Client, run: string, decision: wire.Decision): Promise<void> {
  const outcome = await client.workflow
    .getHandle(run)
    .executeUpdate<wire.DecisionOutcome, [wire.Decision]>("decide", { args: [decision] });
  print(outcome);
  process.exitCode = wire.COUNTED.includes(outcome.status) ? 0 : 1;
}

async function result(client: Client, run: string): Promise<void> {
  print((await client.workflow.getHandle(run).result()) as wire.RunResult);
}

/** Escape the characters that do not show: a model wrote some of the text, and a person reads it before deciding. */
function print(value: unknown): void {
  const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const units = (character: string): string => character.split("").map(escaped).join("");
  console.log(JSON.stringify(value).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, units));
}

function needed(value: string | undefined, name: string): string {
  if (!value) throw new UsageError(`${name} is missing`);
  return value;
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const options = { by: text, id: text, reason: text, "task-queue": text } as const;
  const { values, positionals } = parseArgs({ allowPositionals: true, options });
  const [command, first, second] = positionals;
  const carryOut = ((): ((client: Client) => Promise<void>) => {
    switch (command) {
      case "start": {
        const by = needed(values.by, "--by");
        const request = { agent: needed(first, "AGENT"), input: needed(second, "INPUT"), requested_by: by };
        const queue = values["task-queue"] ?? wire.QUEUE;
        return (client) => start(client, request, values.id ?? `typescript-${randomUUID()}`, queue);
      }
      case "list":
        return list;
      case "state":
      case "result": {
        const run = needed(first, "RUN");
        return (client) => (command === "state" ? state : result)(client, run);
      }
      case "approve":
      case "reject": {
        const run = needed(first, "RUN");
        const decision: wire.Decision = { verdict: command, id: needed(second, "ID"), by: needed(values.by, "--by") };
        if (command === "reject" || values.reason) decision.reason = needed(values.reason, "--reason");
        return (client) => decide(client, run, decision);
      }
      default:
        throw new UsageError(command ? `there is no command '${command}'` : "a command is missing");
    }
  })();
  const { connectionOptions, namespace } = loadClientConnectConfig();
  const connection = await Connection.connect(connectionOptions);
  try {
    await carryOut(new Client({ connection, namespace: namespace ?? "default" }));
  } finally {
    await connection.close();
  }
}

try {
  await main();
} catch (error) {
  // Temporal's errors have the reason in their cause: a failed run's, or a refused update's.
  const failure = error as Error;
  const reason = failure.cause instanceof Error ? failure.cause.message : failure.message;
  console.error(failure instanceof UsageError ? `${reason}\n${USAGE}` : `${failure.name}: ${reason}`);
  process.exitCode = failure instanceof UsageError ? 2 : 1;
}
