"""The text super-resolution model: configuration, schedules, loop (torch-free), networks and graphs (torch)."""
