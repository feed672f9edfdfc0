"""Advice on learning: facts are summed, an advisor is asked, what it proposes is checked, judged and undone. Pure."""
