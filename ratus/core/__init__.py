"""The core: rules applied, delivery, background jobs."""
