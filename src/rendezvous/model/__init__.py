"""Models, the bundles that they come in, and the worker that serves one."""
