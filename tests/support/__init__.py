"""What several tests share. Real code of the parties, with time, keys and randomness chosen by the test."""
