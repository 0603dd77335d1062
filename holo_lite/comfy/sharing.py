"""What all nodes share: one session, and the graph that is being queued.

ComfyUI calls class methods, so nothing else can hold them.
"""

from __future__ import annotations

from .interpreters import Interpreters
from .page_settings import python_on_page
from .queueing import Queueing
from .session import Session

SESSION = Session(Interpreters(python_on_page))
QUEUEING = Queueing()
