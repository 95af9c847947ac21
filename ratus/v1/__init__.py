"""Generated from proto/ratus/v1 by `make proto`; never edited."""
