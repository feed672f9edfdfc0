"""explain: promotions and windows in, reports out."""
