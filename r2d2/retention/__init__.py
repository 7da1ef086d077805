"""Which tables to keep: prices, costs, and the cheapest plan in which every deleted table can be rebuilt."""
