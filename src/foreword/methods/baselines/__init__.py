"""What every result is read against: the backbone trained in whole or in part, or not at all."""
