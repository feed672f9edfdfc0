"""The paper's evaluation on CloudService-v0: arms, seeds, measures, tables and figures."""
