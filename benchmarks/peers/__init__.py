"""Other ways to find contained tables, each run the way its users run it."""
