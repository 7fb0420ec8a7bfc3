"""What belongs to one lesson and is not its subject: figures, a library's side of a comparison, counting.

A lesson keeps everything that it teaches in its own file. These modules keep that file readable in one
sitting; nothing but the lesson that a module's first line names needs it.
"""
