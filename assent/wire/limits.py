"""The limits of sizes: bytes of what is stored or sent, characters of what is shown.

"Bytes" are those of the canonical JSON text, unless the line says otherwise. Temporal takes no input or result over
2 MiB and no workflow task over 4 MiB: it would stop the run for good.
"""

from typing import Final

# -- what a client sends ----------------------------------------------------------------------------------------------

PROMPT_LIMIT: Final = 1_000_000
"""Bytes of the text of a run's input."""
PARTS_COUNT: Final = 50
"""Parts of one input or message."""
PARTS_LIMIT: Final = 10_000_000
"""Bytes of the images and files of one input or message: a workflow task reads them in a fraction of a second."""
INLINE_LIMIT: Final = 1_500_000
"""Bytes of an input or message with parts, where no external storage keeps it: an execution begins with at most 2 MiB,
and a continued one with those of all messages."""
ATTACHED_LIMIT: Final = 20_000_000
"""Bytes (base64) of the images and files of one run: each model call sends them."""
RESULT_IMAGES_LIMIT: Final = 1_400_000
"""Bytes (base64) of the images and files of a run up to which it takes images of results: a continued execution begins
with all of them."""
URL_LIMIT: Final = 4_096
"""Characters of the URL of an image or file."""
FILE_NAME_LIMIT: Final = 200
"""Characters of the name of a file."""
POLICY_LIMIT: Final = 4_000
"""Bytes of the policy in a request."""
CONTEXT_LIMIT: Final = 16_384
"""Bytes of the context in a request: every call carries it."""
CONTEXT_DEPTH: Final = 20
"""Objects and lists in each other in the context: readers of JSON stop at some depth."""
POLICIES_LIMIT: Final = 16_000
"""Bytes of all policies that limit a child run, together."""
NAME_LIMIT: Final = 256
"""Bytes of the name of an approver."""
OUTPUT_LIMIT: Final = 1_000_000
"""Bytes of a result from outside, of values, or of edited arguments."""
CALL_ARGUMENTS_LIMIT: Final = 500_000
"""Bytes of the arguments of a call about which workflow code asks, and of an edit of them."""
EVIDENCE_LIMIT: Final = 16_384
"""Bytes of the evidence that comes with a result."""
CONDITIONS_LIMIT: Final = 4_096
"""Bytes of the conditions of one grant: every call is compared with them."""
USES_LIMIT: Final = 1_000
"""Uses of one grant."""
CHECKS_SIZE: Final = 1_000_000
"""Bytes of the messages to the calls of one turn that a worker checks, or that calls run with."""
QUEUE_LIMIT: Final = 200_000
"""Bytes of the messages that wait for the model's next turn."""

# -- a run ------------------------------------------------------------------------------------------------------------

TURN_LIMIT: Final = 1_000_000
"""Bytes of the tool outputs that one model call carries."""
INSTRUCTIONS_LIMIT: Final = 64_000
"""UTF-8 bytes of instructions that a function gives: a turn that fits has room for them."""
ANSWER_LIMIT: Final = 256 * 1024
"""Bytes of a child run's answer that the model gets; the whole is in the history."""
CARRIED_LIMIT: Final = 1_900_000
"""Bytes of the input of a continued execution."""
STATE_LIMIT: Final = 64_000_000
"""Bytes of a run's JSON before compression: a larger text was never carried, and is not unpacked."""
SUMMARY_LIMIT: Final = 64_000
"""Bytes of a summary."""
TRANSCRIPT_LIMIT: Final = 4_000_000
"""Bytes of the text that the model summarises."""
REPLACED_LEAST: Final = 2_000
"""Bytes of the items that a summary replaces, at least: a summary of fewer would not be shorter."""
REASON_LIMIT: Final = 2_000
"""Characters of the reason of a gate."""
READ_AS_LIMIT: Final = 16_384
"""Bytes of the arguments as the tool reads them, in a gate."""
DEFINITION_LIMIT: Final = 4_096
"""Characters of what an MCP server says of a tool, in a gate."""
RESULT_SCHEMA_LIMIT: Final = 4_096
"""Bytes of the JSON schema of a result from outside, in a gate; a longer one is left out."""
PARENT_ID_LIMIT: Final = 600
"""UTF-8 bytes of a run id with which the ids of its child runs begin; the server takes 1,000 for the whole id."""

# -- what the server and people see -----------------------------------------------------------------------------------

KEYWORD_LIMIT: Final = 2_000
"""Bytes (as ASCII JSON) of a search attribute: over 2 KiB the server terminates the run."""
MEMO_ARGUMENTS: Final = 2_048
"""UTF-8 bytes of the arguments of one requirement in the memo; longer ones are left out."""
MEMO_TOTAL: Final = 32_768
"""UTF-8 bytes of the arguments of all requirements of a run in the memo."""
MEMO_APPROVERS: Final = 4_096
"""UTF-8 bytes of the names of approvers of all requirements of a run in the memo."""
NOTICE_NAMES_LIMIT: Final = 500
"""Characters of the names of approvers in a notice; if there are more, it has none."""
RESULT_SHOWN: Final = 4_000
"""Characters of a result that a requirement keeps; the whole is in the history."""
QUESTION_LIMIT: Final = 32_768
"""Bytes of a question that an MCP server asks in the middle of a call, with the state that it needs again."""
AGAIN_WHY_SHOWN: Final = 300
"""Characters of why a call is retried, that a run keeps."""
MESSAGE_SHOWN: Final = 300
"""Characters of an ignored message that a run keeps; the whole is in the history."""
FIELD_SHOWN: Final = 60
"""Characters of the name of a wrong field in an error."""
VALUE_SHOWN: Final = 200
"""Characters of a wrong value in an error."""
CHILD_ERROR_SHOWN: Final = 2_000
"""Characters of the error of a child run that the model gets."""
LIVE_TEXT_SHOWN: Final = 4_000
"""Characters of the newest part of an answer in a heartbeat, which is sent every half second."""
LIVE_NAME_SHOWN: Final = 200
"""Characters of the name of a tool in a heartbeat."""
EVENT_TEXT_SHOWN: Final = 2_000
"""Characters of a result, answer or failure in a run event."""
TERM_SHOWN: Final = 500
"""Characters of other people's text in one term of a pending call."""
DETAILS_ARGUMENTS: Final = 16_384
"""Characters of the arguments of one requirement in the Web UI's details."""
DETAILS_TOTAL: Final = 65_536
"""Characters of all arguments in the details: the Web UI fetches them by a URL of at most 1 MiB."""
DETAILS_WORDS: Final = 2_000
"""Characters of the model's words, or of another person's text, in the details."""
DETAILS_NAME: Final = 300
"""Characters of a name in the details."""
SUMMARY_SHOWN: Final = 80
"""Characters of a label on the Web UI's timeline."""
