from chapters.utils.peers import silence  # noqa: F401
from chapters.utils.timing import PeakMemory  # noqa: F401
