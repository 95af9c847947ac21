"""Load for long, with faults in it: what the server takes and how fast it is over time, and that nothing was lost."""
