"""Its place puts this folder on the import path, so that tests share the helpers beside it."""
