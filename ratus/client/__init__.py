"""The client: everything public in it is exported by `ratus`."""
