"""Quality and speed: measured, printed with the command that measures them. Not part of the wheel."""
