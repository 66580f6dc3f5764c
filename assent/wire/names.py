"""Names that the command line shows in its help. Apart from `protocol`, whose models take time to import."""

from typing import Final

TASK_QUEUE: Final = "agents"
"""Where runs are started and served, unless another task queue is named."""
