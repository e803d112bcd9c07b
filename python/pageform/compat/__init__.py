"""Other libraries' interfaces over pageform, so that programs written for them run with only the import changed.

A folder a library. Nothing in pageform imports from here; what stands here only translates names, defaults and errors.
"""
