// The names and the JSON of docs/reference/wire.md, as far as this program needs them.

/** The input of the workflow `AgentRun`. */
export interface RunRequest {
  agent: string;
  input: string;
  requested_by?: string;
}

/** The result of the workflow `AgentRun`. */
export interface RunResult {
  content: string;
  output?: unknown;
}

/** What the update `decide` takes. `id` is the requirement's, or a prefix of at least 6 digits. */
export interface Decision {
  verdict: "approve" | "reject";
  id: string;
  by: string;
  reason?: string;
}

/** What the update `decide` returns. */
export interface DecisionOutcome {
  status: string;
  requirement_id: string | null;
  tool: string | null;
  detail: string;
}

/** The statuses of a decision that took effect. */
export const COUNTED = ["approved", "rejected", "recorded"];

/** The memo of a pending requirement. A field that has its default is left out. */
export interface PendingRequirement {
  id: string;
  kind: string;
  tool: string;
  /** The exact text that the model produced; missing if it is too long for a memo. */
  arguments?: string;
  arguments_size?: number;
  /** The values that the tool gets where `arguments` does not say them. */
  read_as?: Record<string, unknown>;
}

/** The memo `assent_request`. */
export interface RequestMemo {
  agent?: string;
  requested_by?: string;
}

/** What the query `state` returns, as far as this program needs it. */
export interface RunState {
  id: string;
  agent: string;
  status: string;
  content: string | null;
  error: string | null;
  requirements: (PendingRequirement & { status: string; resolved_by: string | null })[];
}

export const QUEUE = "agents";
export const WAITING = "WorkflowType = 'AgentRun' AND AssentPending > 0 AND ExecutionStatus = 'Running'";
export const PENDING_MEMO = /^assent_pending_\d+$/;
