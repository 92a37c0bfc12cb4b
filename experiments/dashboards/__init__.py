"""What the project shows in W&B: `panels` in groups, and the `boards` that they are put on."""
